"""A multirun, `python train.py -m ...`: its submitted jobs and the summary of their outcomes."""

import datetime
import json
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mammo.errors import ConfigError
from mammo.runs import RunFolder, git_commit

if TYPE_CHECKING:
    import pandas as pd

TRACEBACK = "traceback.txt"  # file in the folder of a failed run


@dataclass(frozen=True)
class Job:
    """One training of a multirun."""

    number: int  # from 0
    overrides: list[str]  # of train.py
    run_dir: str  # absolute

    def is_finished(self) -> bool:
        return RunFolder(Path(self.run_dir)).facts().get("status") == "finished"


class Multirun:
    """A folder with `multirun.json`, which lists the jobs, their runs, and `summary.csv`.

    Args:
        folder: folder of a multirun that was begun.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs = [Job(**job) for job in json.loads((folder / "multirun.json").read_text())["jobs"]]

    @classmethod
    def begin(cls, folder: Path, jobs: list[Job]) -> "Multirun":
        """Record the jobs in the folder, or open the multirun of the same jobs to resume it.

        Args:
            folder: existing folder.
            jobs: jobs to submit.

        Raises:
            ConfigError: the folder belongs to a multirun of other jobs.
        """
        file = folder / "multirun.json"
        if file.exists():
            multirun = cls(folder)
            if multirun.jobs != jobs:
                raise ConfigError(
                    f"hydra.sweep.dir={folder}: holds another multirun, "
                    f"{_first_difference(multirun.jobs, jobs)}; give another folder"
                )
            return multirun
        facts = {
            "command": sys.argv,
            "commit": git_commit(),
            "host": platform.node(),
            "submitted": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "jobs": [asdict(job) for job in jobs],
        }
        file.write_text(json.dumps(facts, indent=2) + "\n")
        return cls(folder)

    def settings_of(self, job: Job) -> str:
        """Return the overrides that not all jobs have in common, separated by spaces."""
        common = set.intersection(*(set(other.overrides) for other in self.jobs))
        own = [override for override in job.overrides if override not in common]
        return " ".join(own) or "the only one"

    def outcome(self, job: Job, reason: str | None = None) -> dict[str, Any]:
        """Return the job's row of the summary.

        Args:
            job: job that has ended.
            reason: reason why its process ended without a result; None where there is none.
        """
        run = RunFolder(Path(job.run_dir))
        facts = run.facts()
        score = facts.get("score", {})
        file = run.path / TRACEBACK
        traceback = file.read_text() if file.exists() else None
        error = traceback.strip().rpartition("\n")[2] if traceback else reason
        finished = job.is_finished() and not error
        return {
            "job": job.number,
            "status": "finished" if finished else "failed",
            "auc": score.get("value") if finished else None,
            "low": score.get("low") if finished else None,
            "high": score.get("high") if finished else None,
            "seconds": facts.get("seconds"),
            "settings": self.settings_of(job),
            "overrides": " ".join(job.overrides),
            "run_dir": job.run_dir,
            "error": None if finished else error or "it left no result",
            "traceback": traceback,
        }

    def write_summary(self, reasons: dict[int, str]) -> "pd.DataFrame":
        """Write `summary.csv` with one row per job.

        Args:
            reasons: reasons why the processes of jobs ended without a result, by number of the job.

        Returns:
            The table.
        """
        import pandas as pd  # takes half a second, which a single training does not need

        table = pd.DataFrame([self.outcome(job, reasons.get(job.number)) for job in self.jobs])
        table.to_csv(self.folder / "summary.csv", index=False)
        return table


def _first_difference(before: list[Job], now: list[Job]) -> str:
    """Describe the first job that differs."""
    for old, new in zip(before, now, strict=False):
        if old != new:
            return f"whose job {old.number} is `{' '.join(old.overrides)}`, not `{' '.join(new.overrides)}`"
    return f"of {len(before)} jobs, not {len(now)}"
