"""Slurm's queue and accounting: the state of jobs, and why a waiting job can never start."""

import os
import pwd
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mammo.errors import ConfigError

# reasons that no change of the queue removes: meaning, and keys of the launcher to change
_NEVER = {
    "PartitionConfig": (
        "no node of the partition has these resources",
        ("cpus_per_task", "gpus_per_node", "mem_gb", "partition"),
    ),
    "PartitionTimeLimit": ("the time limit is above that of the partition", ("timeout_min", "partition")),
    "PartitionNodeLimit": ("the partition has not so many nodes for a job", ("nodes", "partition")),
    "BadConstraints": (
        "no node satisfies the constraints",
        ("constraint", "cpus_per_task", "gpus_per_node", "mem_gb"),
    ),
    "AccountNotAllowed": ("the account is not allowed in the partition", ("account", "partition")),
    "InvalidAccount": ("the account does not exist", ("account",)),
    "QOSNotAllowed": ("the quality of service is not allowed in the partition", ("qos", "partition")),
    "InvalidQOS": ("the quality of service does not exist", ("qos",)),
}
# limits per job of an account or of a quality of service, such as AssocMaxCpuPerJobLimit or QOSMinGRES
_LIMIT = re.compile("(Assoc|QOS)(?:Max(?P<most>.+)Per(?:Job|Node)|Min(?P<least>.+))")
_RESOURCES = {
    "cpu": "cpus_per_task",
    "gres": "gpus_per_node",
    "mem": "mem_gb",
    "node": "nodes",
    "wall": "timeout_min",
}
_NOT_ENDED = ("PENDING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED", "RESIZING")
_MOST_ACCOUNTING_SECONDS = 30.0  # until the accounting knows the end of a job that has left the queue


@dataclass(frozen=True)
class QueuedJob:
    """State of a job in the queue, as in `squeue`.

    Attributes:
        state: such as `PENDING` or `RUNNING`.
        reason: why it waits, such as `Resources`.
    """

    state: str
    reason: str


class SlurmQueue:
    """What Slurm reports of this user's jobs, asked at most once every few seconds for all jobs together.

    Args:
        seconds: shortest time between two questions.
    """

    def __init__(self, *, seconds: float = 5.0) -> None:
        self.seconds = seconds
        self.watched: set[str] = set()  # ids of the jobs whose end is asked for
        self.asked = float("-inf")  # when the queue was read successfully, by time.monotonic
        self._jobs: dict[str, QueuedJob] = {}
        self._tried = self._accounted = float("-inf")
        self._accounts: dict[str, tuple[str, str]] = {}

    def jobs(self) -> dict[str, QueuedJob]:
        """Return the jobs that wait or run, by id; the last known ones while Slurm does not answer."""
        now = time.monotonic()
        if now - self._tried >= self.seconds:
            self._tried = now
            lines = _ask("squeue", f"--user={os.getuid()}", "--noheader", "--array", "--format=%i|%T|%r")
            if lines is not None:
                rows = [line.split("|", 2) for line in lines]
                self._jobs = {row[0]: QueuedJob(row[1], row[2]) for row in rows if len(row) == 3}
                self.asked = now
        return self._jobs

    def answers(self) -> bool:
        """Return whether Slurm has answered."""
        self.jobs()
        return self.asked > float("-inf")

    def require(self) -> dict[str, QueuedJob]:
        """Return the jobs that wait or run, by id.

        Raises:
            ConfigError: Slurm does not answer.
        """
        if not self.answers():
            raise ConfigError(
                "jobs of this multirun were submitted to Slurm, and squeue does not answer, so it is unknown "
                "whether they still run; give the command where Slurm answers"
            )
        return self.jobs()

    def ending(self, job_id: str, *, since: float) -> str | None:
        """Return how a job ended that has left the queue without a result; None until it is known.

        Args:
            job_id: id of a watched job.
            since: when the job was first missing from the queue, by `time.monotonic`.
        """
        now = time.monotonic()
        if job_id not in self._accounts and now - self._accounted >= self.seconds:
            self._accounted = now
            self._accounts |= _accounts(self.watched)
        if job_id in self._accounts:
            return describe_end(*self._accounts[job_id])
        return "it left Slurm's queue without a result" if now - since > _MOST_ACCOUNTING_SECONDS else None


def describe_end(state: str, exit_code: str) -> str:
    """Describe the end of a job from `State` and `ExitCode` of `sacct`.

    Example:
        >>> describe_end("CANCELLED by 0", "0:15"), describe_end("FAILED", "137:0")
        ('cancelled by root', 'killed by signal 9')
        >>> describe_end("TIMEOUT", "0:0"), describe_end("FAILED", "2:0")
        ('TIMEOUT', 'FAILED with exit code 2')
    """
    if state.startswith("CANCELLED"):
        user = state.rpartition(" ")[2]
        return f"cancelled by {_name_of(int(user))}" if user.isdecimal() else "cancelled"
    code, _, signal = exit_code.partition(":")
    number = int(signal or 0) or (int(code) - 128 if int(code) > 128 else 0)
    if state == "FAILED" and number:
        return f"killed by signal {number}"
    return f"{state} with exit code {code}" if state == "FAILED" else state


def never_starts(queue: Mapping[str, QueuedJob], job_ids: Iterable[str]) -> dict[str, str]:
    """Return the waiting jobs that can never start, each with Slurm's reason.

    Args:
        queue: this user's jobs, from `SlurmQueue.jobs`.
        job_ids: ids of the jobs in question.
    """
    waiting = {name: queue[name] for name in job_ids if name in queue and queue[name].state == "PENDING"}
    return {
        name: job.reason for name, job in waiting.items() if job.reason in _NEVER or _LIMIT.match(job.reason)
    }


def refusal(reason: str, launcher: Mapping[str, Any]) -> str:
    """Return the sentence for jobs that can never start, with the keys to change.

    Args:
        reason: a reason of `never_starts`.
        launcher: keys of the launcher.

    Example:
        >>> refusal("QOSMaxWallDurationPerJobLimit", {"timeout_min": 90, "qos": "a"}).partition("; ")[2]
        'change hydra.launcher.timeout_min=90 or hydra.launcher.qos=a'
    """
    meaning, keys = _NEVER.get(reason, ("", ()))
    if limit := _LIMIT.match(reason):
        owner = {"Assoc": "account", "QOS": "qos"}[limit[1]]
        resource = (limit["most"] or limit["least"]).lower()
        keys = (*(key for name, key in _RESOURCES.items() if name in resource), owner)
        meaning = f"the {'account' if owner == 'account' else 'quality of service'} does not allow it"
    return f"the jobs can never start, because {meaning} ({reason}); change {settings(keys, launcher)}"


def settings(keys: Iterable[str], launcher: Mapping[str, Any]) -> str:
    """Return keys of the launcher with their values, for a sentence that says what to change."""
    values = {key: launcher.get(key) for key in keys}
    return " or ".join(
        f"hydra.launcher.{key}={'null' if value is None else value}" for key, value in values.items()
    )


def cancel(job_ids: Iterable[str]) -> None:
    """Cancel jobs; those that have ended are ignored."""
    subprocess.run(["scancel", *job_ids], capture_output=True)


def _accounts(job_ids: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return `State` and `ExitCode` of the ended jobs in the accounting, of the last start of each."""
    from submitit.slurm.slurm import read_job_id

    parents = sorted({name.partition("_")[0] for name in job_ids})
    columns = ("--noheader", "--parsable2", "--format=JobID,State,ExitCode")
    ended: dict[str, tuple[str, str]] = {}
    for line in _ask("sacct", *columns, f"--jobs={','.join(parents)}") or []:
        name, state, exit_code = line.split("|")
        job, dot, step = name.partition(".")
        if dot and job in ended and step == "0" and not exit_code.endswith(":0"):
            # srun turns the signal that killed a process into its exit code; the step has the signal
            ended[job] = (ended[job][0], exit_code)
        elif not dot and state not in _NOT_ENDED:
            for first, *indices in read_job_id(job):
                numbers = range(int(indices[0]), int(indices[-1]) + 1) if indices else []
                names = [f"{first}_{number}" for number in numbers] or [first]
                ended |= dict.fromkeys(names, (state, exit_code))
    return ended


def _ask(*command: str) -> list[str] | None:
    """Return the lines of a command's output; None if it is missing, fails or does not answer."""
    if shutil.which(command[0]) is None:
        return None
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return None
    return answer.stdout.splitlines() if answer.returncode == 0 else None


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
