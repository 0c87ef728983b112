"""The progress of a multirun, as one line from time to time."""

import csv
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from mammo.sweeping.jobs.job_process import JobProcess, SlurmProcess
from mammo.sweeping.jobs.multirun import Job, Multirun

_SECONDS = 30.0  # between two lines
_MOST_DESCRIBED = 3  # running jobs in a line


class Progress:
    """Lines on standard error: how many jobs wait, with Slurm's reason, run, with epoch and score, and ended.

    Args:
        multirun: multirun of the jobs.
        first_seconds: time until the first line.
    """

    def __init__(self, multirun: Multirun, *, first_seconds: float = _SECONDS) -> None:
        self.multirun = multirun
        self._next = time.monotonic() + first_seconds

    def say(self, running: Mapping[Job, JobProcess]) -> None:
        """Print a line if it is time.

        Args:
            running: jobs that wait in Slurm or run, as far as this command knows them.
        """
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _SECONDS
            print(f"{self.text(running)}; logs in {self.multirun.folder / 'jobs'}", file=sys.stderr)

    def text(self, running: Mapping[Job, JobProcess]) -> str:
        """Return the line; see `say`."""
        reasons: Counter[str] = Counter()
        states: Counter[str] = Counter()
        active: list[Job] = []
        for job in self.multirun.jobs:
            process = running.get(job)
            status = self.multirun.status_of(job)
            if isinstance(process, SlurmProcess) and (reason := process.waits_for()):
                states["waiting"] += 1
                reasons[reason] += 1
            elif process is not None or status == "running":
                active.append(job)
            else:
                states[status] += 1
        why = ", ".join(f"{count} for {_hint(reason)}" for reason, count in reasons.most_common(3))
        described = [self._describe(job) for job in active[:_MOST_DESCRIBED]]
        more = [f"{len(active) - len(described)} more"] if len(active) > len(described) else []
        what = "; ".join([*described, *more])
        return ", ".join(
            [
                f"{states['waiting']} waiting" + (f" ({why})" if why else ""),
                f"{len(active)} running" + (f" ({what})" if what else ""),
                f"{states['finished']} finished",
                *([f"{states['failed']} failed"] if states["failed"] else []),
            ]
        )

    def _describe(self, job: Job) -> str:
        row = _last_row(Path(job.run_dir) / "metrics.csv")
        name = f"job {job.number} {self.multirun.settings_of(job)}"
        if not row.get("val/auc"):
            return f"{name}: no epoch yet"
        return f"{name}: epoch {row['epoch']}, validation AUC {float(row['val/auc']):.3f}"


def _last_row(file: Path) -> dict[str, str]:
    try:
        with file.open(newline="") as rows:
            return list(csv.DictReader(rows))[-1]
    except (OSError, IndexError):
        return {}


def _hint(reason: str) -> str:
    """Return the reason, with the key that names whose limit it is."""
    for start, key in (("Assoc", "account"), ("QOS", "qos")):
        if reason.startswith(start):
            return f"{reason}, see hydra.launcher.{key}"
    return reason
