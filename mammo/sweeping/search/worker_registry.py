"""Registry of a search's workers: one file per worker, which its process touches while it is alive."""

import contextlib
import json
import math
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileOpenLock

from mammo.atomic_files import write_atomically
from mammo.runs.heartbeat import clock_offset, heartbeat, process_exists, seconds_silent
from mammo.sweeping.search.optuna_journal import acquired

_BEATS = 6  # heartbeats in the time after which a silent worker counts as dead
_REUSE_SECONDS = 5  # age up to which the answer of squeue and the offset of the clock are used again
_STOP_SECONDS = 30  # longest wait for workers that were sent SIGTERM


class Workers:
    """Folder with one file per worker.

    Args:
        folder: folder of the files, created when a worker is added.
        stale_seconds: time without a heartbeat after which a worker counts as dead.
    """

    def __init__(self, folder: Path, *, stale_seconds: float) -> None:
        self.folder = folder
        self.stale_seconds = stale_seconds
        self._queued: tuple[float, set[str]] = (-math.inf, set())  # time of squeue's answer, and the answer
        self._clock: tuple[float, float] = (-math.inf, 0.0)  # time of the measurement, and `clock_offset`

    def add_submitted(self, name: str) -> None:
        """Record a worker that Slurm will start, unless it runs already; its name is the id of its job."""
        if not self._file(name).exists():
            self._write(name, {"state": "submitted", "slurm": True})
        self._queued = (-math.inf, set())

    def add_started(self, pid: int, *, slot: int) -> str:
        """Record a worker on this machine whose process is started, before its first heartbeat.

        Returns:
            Name of the worker.
        """
        name = f"{platform.node()}-{pid}"
        facts = {"state": "running", "host": platform.node(), "pid": pid, "slot": slot, "slurm": False}
        self._write(name, facts)
        return name

    def assign(self, name: str, trial: Path) -> None:
        """Record the trial that a live worker works on from now on, by its folder."""
        self._write(name, json.loads(self._file(name).read_text()) | {"trial": str(trial)})

    def works_on(self, name: str, trial: Path) -> bool:
        """Return whether the worker is alive and the trial is the last one that it was assigned."""
        facts = self._facts_if_alive(name)
        return facts is not None and facts.get("trial") == str(trial)

    @contextlib.contextmanager
    def heartbeat(self, name: str, *, slot: int | None) -> Iterator[None]:
        """Record this process as the worker, and touch its file from a thread until the context ends."""
        facts = {"host": platform.node(), "pid": os.getpid(), "slot": slot, "slurm": slot is None}
        self._write(name, facts | {"state": "running"})
        try:
            with heartbeat(self._file(name), seconds=self.stale_seconds / _BEATS):
                yield
        finally:
            self._write(name, facts | {"state": "ended"})

    def is_alive(self, name: str) -> bool:
        """Return whether the worker's process is alive, by its heartbeat and, on this machine, its id."""
        return self._facts_if_alive(name) is not None

    def _facts_if_alive(self, name: str) -> dict[str, Any] | None:
        file = self._file(name)
        try:
            facts: dict[str, Any] = json.loads(file.read_text())
            if facts["state"] != "running":
                return None
            if facts["host"] == platform.node() and not process_exists(facts["pid"]):
                return None
            silent = seconds_silent(file, offset=self._clock_offset())
            return facts if silent < self.stale_seconds else None
        except (OSError, ValueError):
            return None

    def claim_waiting(self, name: str) -> bool:
        """Make this worker, which has no trial, the one that waits, unless another one does."""
        with self._waiter() as file:
            waiter = file.read_text() if file.exists() else name
            if waiter != name and self.is_alive(waiter):
                return False
            file.write_text(name)
            return True

    def release_waiting(self, name: str) -> None:
        """Let another worker wait, if this worker was the waiting one."""
        with self._waiter() as file:
            if file.exists() and file.read_text() == name:
                file.unlink()

    @contextlib.contextmanager
    def _waiter(self) -> Iterator[Path]:
        with acquired(JournalFileOpenLock(str(self.folder / "waiter"))):
            yield self.folder / "waiter"

    def count(self) -> int:
        """Count the workers that are alive or wait in Slurm's queue."""
        return len(self.alive())

    def alive(self) -> list[str]:
        """List the workers that are alive or wait in Slurm's queue, which is asked only every few seconds."""
        files = sorted(self.folder.glob("*.json"))
        queued = self._queue() if any(json.loads(file.read_text())["slurm"] for file in files) else set()
        return [file.stem for file in files if file.stem in queued or self.is_alive(file.stem)]

    def free_slots(self, count: int) -> list[int]:
        """List those of this machine's first `count` slots that no live worker has."""
        files = [file for file in self.folder.glob("*.json") if self.is_alive(file.stem)]
        facts = [json.loads(file.read_text()) for file in files]
        taken = {fact["slot"] for fact in facts if fact["host"] == platform.node()}
        return [slot for slot in range(count) if slot not in taken]

    def stop(self, names: Collection[str] | None = None) -> int:
        """Stop the workers on this machine, waiting for their end, and those in Slurm.

        Args:
            names: only workers to stop; None for all.

        Returns:
            Number of workers that were sent a signal or cancelled.
        """
        files = [file for file in self.folder.glob("*.json") if names is None or file.stem in names]
        workers = {file.stem: json.loads(file.read_text()) for file in files}
        in_slurm = {name for name, facts in workers.items() if facts["slurm"]}
        queued = sorted(in_slurm & _queue()) if in_slurm else []
        if queued:
            subprocess.run(["scancel", *queued], check=True)
        local = [
            facts["pid"]
            for name, facts in workers.items()
            if not facts["slurm"] and facts["host"] == platform.node() and self.is_alive(name)
        ]
        for pid in local:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + _STOP_SECONDS
        while any(process_exists(pid) for pid in local) and time.monotonic() < until:
            time.sleep(0.1)
        return len(queued) + len(local)

    def mark_stopped(self, stopped: bool = True) -> None:
        """Record for the commands that follow the search whether the user has stopped its workers."""
        mark = self.folder / "stopped"
        if stopped:
            self.folder.mkdir(parents=True, exist_ok=True)
            mark.touch()
        else:
            mark.unlink(missing_ok=True)

    def are_stopped(self) -> bool:
        """Return whether the user has stopped the workers, and no command has resumed the search since."""
        return (self.folder / "stopped").exists()

    def _clock_offset(self) -> float:
        """Return the offset of the disk's clock, measured only every few seconds."""
        measured, offset = self._clock
        if time.monotonic() - measured > _REUSE_SECONDS:
            offset = clock_offset(self.folder)
            self._clock = (time.monotonic(), offset)
        return offset

    def _queue(self) -> set[str]:
        asked, queued = self._queued
        if time.monotonic() - asked > _REUSE_SECONDS:
            queued = _queue()
            self._queued = (time.monotonic(), queued)
        return queued

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _write(self, name: str, facts: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._file(name), json.dumps(facts))


def worker_name() -> str:
    """Return this process's name as a worker: in Slurm the id of its job, which a requeued job keeps."""
    if "SLURM_JOB_ID" not in os.environ:
        return f"{platform.node()}-{os.getpid()}"
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]


def _queue() -> set[str]:
    """Return the ids of Slurm jobs that wait or run."""
    if not shutil.which("squeue"):
        return set()
    query = subprocess.run(["squeue", "--noheader", "--array", "--format=%i"], capture_output=True, text=True)
    return set(query.stdout.split())
