"""The journal of a search: a file on a shared disk that many workers append to."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend, JournalFileOpenLock


class Journal(BaseJournalBackend):
    """Optuna's journal as a file of JSON lines, which ends where a kill or a lost node left it broken.

    The lock is a file made with O_EXCL, which NFS from version 3 on honours, as do Lustre, GPFS and BeeGFS.
    One whose owner was killed is taken from it after half a minute.

    Args:
        file: made where it is not.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.file.touch()
        self._lock = JournalFileOpenLock(str(file))
        self._starts = [0]  # of the lines that were read

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Reads the records from that number on, up to the first that is broken."""
        known = min(log_number_from, len(self._starts) - 1)
        with self.file.open("rb") as file:
            file.seek(self._starts[known])
            for number, line in enumerate(file, start=known):
                record = _record(line)
                if record is None:
                    return
                if number + 1 == len(self._starts):
                    self._starts.append(self._starts[number] + len(line))
                if number >= log_number_from:
                    yield record

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Appends records after the last whole one."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with held(self._lock), self.file.open("r+b") as file:
            file.seek(_end_of_whole_lines(self.file))
            file.truncate()
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())


@contextlib.contextmanager
def held(lock: JournalFileOpenLock) -> Iterator[None]:
    """Holds a lock; that it was taken away meanwhile, for it was held too long, is no error."""
    lock.acquire()
    try:
        yield
    finally:
        with contextlib.suppress(RuntimeError):
            lock.release()


def _end_of_whole_lines(file: Path) -> int:
    """Where the last line that is not broken ends."""
    with file.open("rb") as content:
        end, start = content.seek(0, os.SEEK_END), 0
        for window in (2**16, end):
            content.seek(start := max(0, end - window))
            tail = content.read(end - start)
            while tail:
                before, newline, _ = tail.removesuffix(b"\n").rpartition(b"\n")
                if _record(tail[len(before + newline) :]) is not None:
                    return start + len(tail)
                tail = before + newline
    return 0


def _record(line: bytes) -> dict[str, Any] | None:
    """What a line says; None of a broken one."""
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
