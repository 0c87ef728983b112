"""Files that are whole at any moment, whoever reads, writes or kills meanwhile."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """A draft beside a file, which takes the file's place at the end of the block.

    Several processes on several machines may write the same file; the last one wins. After an error the file
    is as it was and the draft is removed.

    Args:
        path: the file to be; its folder exists.

    Yields:
        The draft's path, `<name>.<8 hex digits>.tmp`.
    """
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Write a file whole or not at all.

    Args:
        path: the file to be; its folder exists.
        content: text, written as UTF-8, or bytes.
        durable: whether the content is on the disk before the file gets its name, so that it survives a power
            cut.

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
