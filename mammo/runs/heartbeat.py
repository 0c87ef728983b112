"""Signs of life of a process that other processes, also on other machines, can see in a file."""

import contextlib
import os
import threading
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


def seconds_silent(file: Path) -> float:
    """Return the time since the file was touched, seconds.

    It is measured against a file written now, because the clocks of machines differ.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    with file.open() as content:  # opening makes a network file system refresh the file's age
        touched = os.fstat(content.fileno()).st_mtime
    clock = file.with_name(f"clock.{os.getpid()}.{threading.get_ident()}")
    clock.write_text("")
    now = clock.stat().st_mtime
    clock.unlink()
    return now - touched


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
