"""The jobs of `python train.py -m ...`: what was submitted, and what came of it."""

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

TRACEBACK = "traceback.txt"  # in the folder of a run that failed


@dataclass(frozen=True)
class Job:
    """One training of a multirun."""

    number: int  # from 0
    overrides: list[str]  # of train.py
    run_dir: str  # absolute

    def is_finished(self) -> bool:
        return RunFolder(Path(self.run_dir)).facts().get("status") == "finished"


class Multirun:
    """A folder with `multirun.json` that says which jobs there are, their runs, and `summary.csv`.

    Args:
        folder: existing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs = [Job(**job) for job in json.loads((folder / "multirun.json").read_text())["jobs"]]

    @classmethod
    def begin(cls, folder: Path, jobs: list[Job]) -> "Multirun":
        """Writes down what is submitted; the same again goes on with what is not finished.

        Raises:
            ConfigError: the folder holds other jobs.
        """
        file = folder / "multirun.json"
        if file.exists():
            multirun = cls(folder)
            if multirun.jobs != jobs:
                raise ConfigError(
                    f"hydra.sweep.dir={folder}: holds another multirun, {_difference(multirun.jobs, jobs)}; "
                    "give another folder"
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

    def told(self, job: Job) -> str:
        """What tells the job from the others."""
        common = set.intersection(*(set(other.overrides) for other in self.jobs))
        own = [override for override in job.overrides if override not in common]
        return " ".join(own) or "the only one"

    def outcome(self, job: Job, reason: str | None = None) -> dict[str, Any]:
        """A row of the summary.

        Args:
            job: ended.
            reason: that its process gave for ending without a result.
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
            "settings": self.told(job),
            "overrides": " ".join(job.overrides),
            "run_dir": job.run_dir,
            "error": None if finished else error or "it left no result",
            "traceback": traceback,
        }

    def write_summary(self, reasons: dict[int, str]) -> "pd.DataFrame":
        """Writes `summary.csv`, a row for each job.

        Args:
            reasons: of jobs whose process ended without a result, by number.
        """
        import pandas as pd  # half a second, that a single training need not wait

        table = pd.DataFrame([self.outcome(job, reasons.get(job.number)) for job in self.jobs])
        table.to_csv(self.folder / "summary.csv", index=False)
        return table


def _difference(before: list[Job], now: list[Job]) -> str:
    """The first job that is not the same."""
    for old, new in zip(before, now, strict=False):
        if old != new:
            return f"whose job {old.number} is `{' '.join(old.overrides)}`, not `{' '.join(new.overrides)}`"
    return f"of {len(before)} jobs, not {len(now)}"
