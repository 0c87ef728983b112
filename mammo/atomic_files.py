"""Atomic writes: a reader sees the old or the new content of a file, never a part of it."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from mammo.errors import ConfigError


@contextlib.contextmanager
def report_unwritable(key: str, path: Path) -> Iterator[None]:
    """Context manager: an error of the file system in the block is that of a key.

    Args:
        key: key of the configuration, such as `output`.
        path: what the block writes.

    Raises:
        ConfigError: `path` cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{key}={path}: cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """Context manager: a draft beside a file, which replaces the file at the end of the block.

    Several processes on several machines may write the same file; the last one wins. After an error,
    the file is unchanged and the draft is removed.

    Args:
        path: file to write, in an existing folder.

    Yields:
        The path of the draft, `<name>.<8 hex digits>.tmp`.
    """
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Write a file completely or not at all.

    Args:
        path: file to write, in an existing folder.
        content: text, written as UTF-8, or bytes.
        durable: whether to force the content to the disk before the file gets its name, so that it survives a
            power failure.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "run.json"
        >>> write_atomically(file, "{}")
        >>> file.read_text(), [entry.name for entry in file.parent.iterdir()]
        ('{}', ['run.json'])
    """
    content = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    with draft_of(path) as draft, draft.open("wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
