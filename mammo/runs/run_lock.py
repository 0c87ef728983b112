"""The right to write to a run folder, which one process has at a time."""

import contextlib
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any, Self

from mammo.atomic_files import write_atomically
from mammo.errors import ConfigError, MammoError
from mammo.runs.heartbeat import heartbeat, process_exists, process_started, seconds_silent

_BEATS = 6  # heartbeats in the time after which a silent process of another machine counts as dead


class RunTakenError(MammoError):
    """Another process writes to the run now; this one must not write any more."""


class RunLock:
    """Lock of a run folder: the process with the highest number in `.writer` may write.

    A process takes the next number by creating its file exclusively, which also network file systems honour,
    after the process of the last number has ended or died. A process of this machine is dead when it no
    longer exists, one of another machine when its file was not touched for `stale_seconds`, and one that
    Slurm requeued as this process (the same job, another count of restarts) at once. A process that was
    suspended while another one took the run over notices it by `check`.

    As a context manager it is released at the end of the block.

    Args:
        folder: folder of the run.
        take_over: whether the last process is known to be replaced by this one, so that its signs of life
            do not count.
        stale_seconds: time of silence after which a process of another machine counts as dead.
    """

    def __init__(self, folder: Path, *, take_over: bool = False, stale_seconds: float = 60.0) -> None:
        self.folder = folder
        self.files = folder / ".writer"
        self.take_over = take_over
        self.stale_seconds = stale_seconds
        self.number: int | None = None
        self._beat = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Become the writer of the run; the folder exists.

        Raises:
            ConfigError: the writer of the run is alive.
        """
        self.files.mkdir(exist_ok=True)
        while self.number is None:
            last = self._last()
            if last is not None and not self.take_over and (writer := self._alive(last)) is not None:
                raise ConfigError(
                    f"run {self.folder}: still running on {writer['host']}, process {writer['pid']}; "
                    "wait for its end, or stop it"
                )
            number = 0 if last is None else last + 1
            # FileExistsError: another process was faster, and its signs of life decide
            with contextlib.suppress(FileExistsError), self._file(number).open("x") as file:
                json.dump(_this_process(), file)
                self.number = number
        for older in self._numbers():
            if older < self.number:
                self._file(older).unlink(missing_ok=True)
        self._beat.enter_context(heartbeat(self._file(self.number), seconds=self.stale_seconds / _BEATS))

    def is_lost(self) -> bool:
        """Return whether this process was the writer of the run and another process is now."""
        return self.number is not None and self._last() != self.number

    def check(self) -> None:
        """Refuse to go on if another process has become the writer of the run.

        Raises:
            RunTakenError: another process is the writer.
        """
        if self.is_lost():
            raise RunTakenError(f"run {self.folder}: another process has taken it over; this one stops")

    def release(self) -> None:
        """Let the next process become the writer; without effect if this process is not the writer."""
        self._beat.close()
        if self.number is not None and not self.is_lost():
            write_atomically(self._file(self.number), json.dumps(_this_process() | {"ended": True}))
        self.number = None

    def _file(self, number: int) -> Path:
        return self.files / str(number)

    def _numbers(self) -> list[int]:
        return [int(name) for name in os.listdir(self.files) if name.isdecimal()]

    def _last(self) -> int | None:
        return max(self._numbers(), default=None)

    def _alive(self, number: int) -> dict[str, Any] | None:
        """Return the facts of the process that has the number if it is alive, else None.

        Watches a process of another machine until it gives a sign of life or counts as dead.
        """
        file, me, first = self._file(number), _this_process(), None
        while True:
            try:
                silent = seconds_silent(file)
                text = file.read_text()
            except FileNotFoundError:
                return None
            # an empty file: its process is about to write it, or was killed in between
            unknown = {"host": "another machine", "pid": "unknown"}
            writer: dict[str, Any] = json.loads(text) if text else unknown
            if writer.get("ended"):
                return None
            same_job = me["job"] is not None and me["job"] == writer.get("job")
            if same_job and me["restarts"] != writer["restarts"]:
                return None
            if writer["host"] == me["host"]:
                exists = process_exists(writer["pid"]) and process_started(writer["pid"]) == writer["started"]
                return writer if exists else None
            if silent >= self.stale_seconds:
                return None
            if first is not None and silent < first:
                return writer
            if first is None:
                text = f"waits to see whether the run's process on {writer['host']} is alive"
                print(text, file=sys.stderr, flush=True)
            first = silent
            time.sleep(min(1.0, self.stale_seconds / _BEATS / 2))


def has_writer(folder: Path, *, stale_seconds: float = 60.0) -> bool:
    """Return whether a process writes to a run now, without waiting for a sign of life.

    The clocks of other machines are taken to agree with this one's.
    """
    files = folder / ".writer"
    numbers = [int(file.name) for file in files.glob("*") if file.name.isdecimal()]
    if not numbers:
        return False
    file = files / str(max(numbers))
    try:
        text = file.read_text()
        writer = json.loads(text) if text else {}
        if writer.get("ended"):
            return False
        if writer.get("host") == platform.node():
            return process_exists(writer["pid"]) and process_started(writer["pid"]) == writer["started"]
        return seconds_silent(file, offset=0.0) < stale_seconds
    except FileNotFoundError:
        return False


def _this_process() -> dict[str, Any]:
    return {
        "host": platform.node(),
        "pid": os.getpid(),
        "started": process_started(os.getpid()),
        "job": os.environ.get("SLURM_JOB_ID"),
        "restarts": int(os.environ.get("SLURM_RESTART_COUNT", 0)),
    }
