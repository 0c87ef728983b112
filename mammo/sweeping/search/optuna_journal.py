"""The journal of a search: a file on a shared disk that many workers append to."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend, JournalFileOpenLock


class JournalFile(BaseJournalBackend):
    """Journal backend of Optuna: a file of JSON lines, read up to the first line that a kill left incomplete.

    The lock is a file created with O_EXCL, which NFS from version 3 on, Lustre, GPFS and BeeGFS support.
    The lock of a killed process is released after half a minute.

    Args:
        file: file of the journal, created where it is missing.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.file.touch()
        self._lock = JournalFileOpenLock(str(file))
        self._starts = [0]  # byte offsets of the lines read so far, and of the next one

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the records from number `log_number_from` on, up to the first incomplete one."""
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
        """Append records after the last complete one; an incomplete rest of the file is removed."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with acquired(self._lock), self.file.open("r+b") as file:
            file.seek(_end_of_whole_lines(self.file))
            file.truncate()
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())


@contextlib.contextmanager
def acquired(lock: JournalFileOpenLock) -> Iterator[None]:
    """Hold a lock; its loss to another process after half a minute is no error."""
    lock.acquire()
    try:
        yield
    finally:
        with contextlib.suppress(RuntimeError):
            lock.release()


def _end_of_whole_lines(file: Path) -> int:
    """Return the byte offset at which the last complete line ends."""
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
    """Parse a line; None where it is incomplete."""
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
