"""The workers of a search: a file for each, that its process touches for as long as it lives."""

import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileOpenLock

from mammo.atomic_files import write_atomically
from mammo.sweeping.search.optuna_journal import held

_BEATS = 6  # in the time after which a silent worker counts as dead
_ENDING_SECONDS = 30  # that are waited for workers told to end


class Workers:
    """The folder of their files.

    Args:
        folder: made when a worker is added.
        stale_seconds: after which a silent worker counts as dead.
    """

    def __init__(self, folder: Path, *, stale_seconds: float) -> None:
        self.folder = folder
        self.stale_seconds = stale_seconds

    def submitted(self, name: str) -> None:
        """Writes down a worker that Slurm will start; its name is that of its job."""
        self._write(name, {"state": "submitted", "slurm": True})

    def started(self, pid: int, *, slot: int) -> None:
        """Writes down a worker of this machine, whose process was started and soon does so itself."""
        self._write(
            f"{platform.node()}-{pid}",
            {"state": "running", "host": platform.node(), "pid": pid, "slot": slot, "slurm": False},
        )

    @contextlib.contextmanager
    def alive(self, name: str, *, slot: int | None) -> Iterator[None]:
        """Tells the others, from a thread, that this process lives and is that worker."""
        facts = {"host": platform.node(), "pid": os.getpid(), "slot": slot, "slurm": slot is None}
        self._write(name, facts | {"state": "running"})
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(self.stale_seconds / _BEATS):
                with contextlib.suppress(OSError):  # of a disk that is there again at the next beat
                    os.utime(self._file(name))

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self._write(name, facts | {"state": "ended"})

    def is_alive(self, name: str) -> bool:
        """Whether the worker's process is there, as far as can be told from here.

        The ages of files are compared with that of a file written now, for clocks of nodes differ.
        """
        file = self._file(name)
        try:
            with file.open() as content:  # opened, for a network file system then looks at its age anew
                facts, touched = json.load(content), os.fstat(content.fileno()).st_mtime
        except (OSError, ValueError):
            return False
        if facts["state"] != "running":
            return False
        if facts["host"] == platform.node() and not _is_process(facts["pid"]):
            return False
        return self._now() - touched < self.stale_seconds

    def waits(self, name: str) -> bool:
        """Whether this worker, with nothing to begin, is the one that waits for the trials of the others."""
        with self._waiter() as file:
            waiter = file.read_text() if file.exists() else name
            if waiter != name and self.is_alive(waiter):
                return False
            file.write_text(name)
            return True

    def works(self, name: str) -> None:
        """Leaves the waiting to another, where it was this worker's."""
        with self._waiter() as file:
            if file.exists() and file.read_text() == name:
                file.unlink()

    @contextlib.contextmanager
    def _waiter(self) -> Iterator[Path]:
        with held(JournalFileOpenLock(str(self.folder / "waiter"))):
            yield self.folder / "waiter"

    def count(self) -> int:
        """Workers that are there or wait in Slurm's queue."""
        files = list(self.folder.glob("*.json"))
        queued = _queue() if any(json.loads(file.read_text())["slurm"] for file in files) else set()
        return sum(file.stem in queued or self.is_alive(file.stem) for file in files)

    def free_slots(self, count: int) -> list[int]:
        """Of this machine's first slots those that no worker has."""
        files = [file for file in self.folder.glob("*.json") if self.is_alive(file.stem)]
        facts = [json.loads(file.read_text()) for file in files]
        taken = {fact["slot"] for fact in facts if fact["host"] == platform.node()}
        return [slot for slot in range(count) if slot not in taken]

    def stop(self) -> int:
        """Ends the workers that are on this machine, and waits for it, or in Slurm; returns how many."""
        names = {file.stem: json.loads(file.read_text()) for file in self.folder.glob("*.json")}
        queued = sorted(names.keys() & _queue()) if any(facts["slurm"] for facts in names.values()) else []
        if queued:
            subprocess.run(["scancel", *queued], check=True)
        here = [
            facts["pid"]
            for name, facts in names.items()
            if not facts["slurm"] and facts["host"] == platform.node() and self.is_alive(name)
        ]
        for pid in here:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + _ENDING_SECONDS
        while any(_is_process(pid) for pid in here) and time.monotonic() < until:
            time.sleep(0.1)
        return len(queued) + len(here)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _write(self, name: str, facts: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._file(name), json.dumps(facts))

    def _now(self) -> float:
        clock = self.folder / f"clock.{os.getpid()}"
        clock.write_text("")
        now = clock.stat().st_mtime
        clock.unlink()
        return now


def own_name() -> str:
    """Of the worker that this process is: its job's in Slurm, where it stays when the job is put back."""
    if "SLURM_JOB_ID" not in os.environ:
        return f"{platform.node()}-{os.getpid()}"
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]


def _is_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def _queue() -> set[str]:
    """Jobs of Slurm that wait or run."""
    if not shutil.which("squeue"):
        return set()
    told = subprocess.run(["squeue", "--noheader", "--array", "--format=%i"], capture_output=True, text=True)
    return set(told.stdout.split())
