"""Signs of life of a process that other processes, also on other machines, can see in a file."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def heartbeat(file: Path, *, seconds: float) -> Iterator[None]:
    """Touch the file from a thread until the context ends.

    Args:
        file: existing file.
        seconds: time between two touches.
    """
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(seconds):
            with contextlib.suppress(OSError):  # the disk may be back at the next beat
                os.utime(file)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def seconds_silent(file: Path, *, offset: float | None = None) -> float:
    """Return the time since the file was touched, seconds.

    Args:
        file: file of a heartbeat.
        offset: `clock_offset` of its folder; None to measure it.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    with file.open() as content:  # opening makes a network file system refresh the file's age
        touched = os.fstat(content.fileno()).st_mtime
    return time.time() + (clock_offset(file.parent) if offset is None else offset) - touched


def clock_offset(folder: Path) -> float:
    """Return by how much the clock of the folder's disk is ahead of this machine's, seconds.

    It is measured with a file written now, because the clocks of machines differ.
    """
    clock = folder / f"clock.{os.getpid()}.{threading.get_ident()}"
    clock.write_text("")
    ahead = clock.stat().st_mtime - time.time()
    clock.unlink()
    return ahead


def process_exists(pid: int) -> bool:
    """Return whether a process of this machine has the id and is not a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _stat(pid)[:1] != ["Z"]


def process_started(pid: int) -> str | None:
    """Return when the process started, in ticks since boot; None where the system does not report it.

    With it, a process is told apart from an earlier one of the same id.
    """
    return next(iter(_stat(pid)[19:]), None)


def _stat(pid: int) -> list[str]:
    """Return Linux's facts of a process, from its state on; empty elsewhere."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
