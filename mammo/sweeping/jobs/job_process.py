"""The process or the Slurm job that runs a job of a multirun, and its record in the multirun's folder."""

import json
import platform
import subprocess
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mammo.atomic_files import write_atomically
from mammo.runs.heartbeat import process_exists, process_started, seconds_silent
from mammo.runs.provenance import read_json
from mammo.sweeping.jobs.multirun import without_module
from mammo.sweeping.jobs.slurm_queue import SlurmQueue

HEARTBEAT_SECONDS = 10.0  # between two signs of life of a process, in its record
_STALE_SECONDS = 60.0  # of silence after which a process of another machine counts as dead


class JobProcess(ABC):
    """What runs a job."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what identifies it, for the record."""

    @abstractmethod
    def ended(self) -> str | None:
        """Return None while it waits or runs; at its end the reason of a failure, empty if it has none."""


@dataclass
class LocalProcess(JobProcess):
    """A process of a machine.

    Attributes:
        record: file of the record, which the process touches.
        host: name of its machine.
        pid: its id.
        started: when it started, see `process_started`.
        slot: index of its share of the machine.
        popen: the process, if this one has started it.
    """

    record: Path
    host: str
    pid: int
    started: str | None
    slot: int
    popen: "subprocess.Popen[bytes] | None" = None

    @classmethod
    def of(cls, popen: "subprocess.Popen[bytes]", *, slot: int, record: Path) -> "LocalProcess":
        """Return the process that this one has started."""
        return cls(record, platform.node(), popen.pid, process_started(popen.pid), slot, popen)

    def facts(self) -> dict[str, Any]:
        return {"host": self.host, "pid": self.pid, "started": self.started, "slot": self.slot}

    def ended(self) -> str | None:
        if self.popen is not None:
            code = self.popen.poll()
            log = self.record.with_suffix(".log")
            if code:
                return f"its process ended with code {code}, see {log}"
            return None if code is None else ""
        if self.host == platform.node():
            alive = process_exists(self.pid) and process_started(self.pid) == self.started
        else:
            alive = seconds_silent(self.record) < _STALE_SECONDS
        return None if alive else ""


@dataclass
class SlurmProcess(JobProcess):
    """A job of Slurm that submitit has submitted.

    Attributes:
        queue: state of the jobs.
        job_id: id in Slurm.
        folder: folder of submitit's files, with `%j` for the id.
        tasks: number of its processes.
    """

    queue: SlurmQueue
    job_id: str
    folder: str
    tasks: int
    _known: float = field(default_factory=time.monotonic)
    _missing: float | None = None

    def __post_init__(self) -> None:
        self.queue.watched.add(self.job_id)

    def facts(self) -> dict[str, Any]:
        return {"job_id": self.job_id, "folder": self.folder, "tasks": self.tasks}

    def ended(self) -> str | None:
        from submitit.core.utils import JobPaths, pickle_load

        paths = [JobPaths(self.folder, self.job_id, task) for task in range(self.tasks)]
        if all(path.result_pickle.exists() for path in paths):
            outcomes = [pickle_load(path.result_pickle) for path in paths]
            traces = [str(result).strip() for outcome, result in outcomes if outcome == "error"]
            return (
                f"Slurm job {self.job_id}: {without_module(traces[0].rpartition(chr(10))[2])}"
                if traces
                else ""
            )
        if self.job_id in self.queue.jobs() or self.queue.asked < self._known:
            self._missing = None
            return None
        self._missing = self._missing or time.monotonic()
        end = self.queue.ending(self.job_id, since=self._missing)
        return None if end is None else f"Slurm job {self.job_id}: {end}, see {paths[0].stderr}"

    def waits_for(self) -> str | None:
        """Return Slurm's reason if the job waits in the queue, else None."""
        job = self.queue.jobs().get(self.job_id)
        return job.reason if job is not None and job.state == "PENDING" else None


def record(file: Path, process: JobProcess, *, ended: str | None = None) -> None:
    """Write the record of a job's process.

    Args:
        file: file of the record.
        process: process of the job.
        ended: reason of its failure, empty if it has none; None while it waits or runs.
    """
    write_atomically(file, json.dumps(process.facts() | {"ended": ended}))


def recorded(file: Path, *, queue: SlurmQueue) -> JobProcess | None:
    """Return the process of a record that waits or runs; None if there is none.

    Raises:
        ConfigError: Slurm does not answer whether its job runs.
    """
    facts = read_json(file)
    if facts is None or facts.pop("ended") is not None:
        return None
    if "job_id" in facts:
        return SlurmProcess(queue, **facts) if facts["job_id"] in queue.require() else None
    process = LocalProcess(file, **facts)
    return process if process.ended() is None else None
