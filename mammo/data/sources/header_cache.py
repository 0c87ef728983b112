"""What the headers of image files say, kept in a cache, because they take long to read from a slow disk."""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mammo.atomic_files import write_atomically

log = logging.getLogger(__name__)

# A network disk answers many parallel requests as fast as a single one.
_THREADS = 16


def cached_headers(root: Path, files: list[str], read: Callable[[str], Any], *, name: str) -> dict[str, Any]:
    """Return what a function reads in each file; values of unchanged files come from a cache.

    Args:
        root: Folder of the files, which has a cache of its own.
        files: Paths.
        read: Function of a path that returns a value of JSON.
        name: Name of what is read.
    """
    cache = _cache_file(root, name)
    try:
        known = json.loads(cache.read_text())
    except (OSError, ValueError):
        known = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        stamps = dict(zip(files, pool.map(_stamp, files), strict=True))
        new = [file for file in files if known.get(file, [None])[0] != stamps[file]]
        if new:
            log.info("%s: reading the headers of %d files", root, len(new))
        fresh = dict(zip(new, pool.map(read, new), strict=True))
    values = {file: fresh[file] if file in fresh else known[file][1] for file in files}
    if new:
        _write(cache, json.dumps({file: [stamps[file], value] for file, value in values.items()}))
    return values


def _cache_file(root: Path, name: str) -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mammo"
    return folder / f"{name}-{hashlib.sha256(str(root).encode()).hexdigest()[:16]}.json"


def _stamp(file: str) -> list[int]:
    """Return size and modification time of a file; empty if the file no longer exists."""
    try:
        status = os.stat(file)
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _write(file: Path, text: str) -> None:
    """Write a cache file atomically; log a warning if it cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, text)
    except OSError as error:
        log.warning("%s: %s; the headers are read again next time", file, error.strerror)
