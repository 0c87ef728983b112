"""A multirun, `python train.py -m ...`: its submitted jobs and the summary of their outcomes."""

import datetime
import json
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mammo.atomic_files import write_atomically
from mammo.config.arguments import by_key
from mammo.errors import ConfigError
from mammo.evaluation.number_format import interval, number
from mammo.runs import RunFolder, git_commit
from mammo.runs.provenance import read_json

if TYPE_CHECKING:
    import pandas as pd

TRACEBACK = "traceback.txt"  # file in the folder of a failed run


@dataclass(frozen=True, eq=False)
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
        facts = json.loads((folder / "multirun.json").read_text())
        self.jobs = [Job(**job) for job in facts["jobs"]]
        self._common = set.intersection(*(set(job.overrides) for job in self.jobs))

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
            if [asdict(job) for job in multirun.jobs] != [asdict(job) for job in jobs]:
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
        write_atomically(file, json.dumps(facts, indent=2) + "\n")
        return cls(folder)

    def record_file(self, job: Job) -> Path:
        """Return the file with the record of the process that runs the job."""
        return self.folder / "jobs" / f"{job.number}.json"

    def record_of(self, job: Job) -> Any:
        """Return the content of the record; None if no process was started."""
        return read_json(self.record_file(job))

    def status_of(self, job: Job) -> str:
        """Return `waiting`, `running`, `finished` or `failed`."""
        status = RunFolder(Path(job.run_dir)).facts().get("status", "waiting")
        if status == "finished":
            return "finished"
        ended = (self.record_of(job) or {}).get("ended") is not None
        return "failed" if ended or status == "failed" else str(status)

    def settings_of(self, job: Job) -> str:
        """Return the overrides that not all jobs have in common, separated by spaces."""
        return " ".join(self.own_overrides(job)) or "the only one"

    def searched(self) -> list[str]:
        """Return the keys and groups of the overrides that not all jobs have in common."""
        own = (by_key(self.own_overrides(job)) for job in self.jobs)
        return list(dict.fromkeys(key.lstrip("~") for overrides in own for key in overrides))

    def own_overrides(self, job: Job) -> list[str]:
        """Return the overrides that not all jobs have in common."""
        return [override for override in job.overrides if override not in self._common]

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
        error = without_module(traceback.strip().rpartition("\n")[2]) if traceback else reason
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

    def outcome_text(self, job: Job, reason: str | None) -> str:
        """Describe the outcome of an ended job in one line; see `outcome`."""
        outcome = self.outcome(job, reason)
        score = {"value": outcome["auc"], "low": outcome["low"], "high": outcome["high"]}
        spread = f", 95 % interval {text}" if (text := interval(score)) else ""
        result = f"validation AUC {number(score)}{spread}"
        result = f"failed: {outcome['error']}" if outcome["error"] else result
        return f"job {job.number} ({self.settings_of(job)}): {result}"

    def summary_text(self, summary: "pd.DataFrame") -> str:
        """Return the summary for the terminal, without columns that are empty for all jobs."""
        columns = ["job", "status", "auc", "low", "high", "settings", "error"]
        table = summary[columns].dropna(axis="columns", how="all")
        text: str = table.to_string(index=False, na_rep="", float_format="%.3f", max_colwidth=60)
        return text


def without_module(error: str) -> str:
    """Return the last line of a traceback without the module of the class; without the class for own errors.

    Example:
        >>> without_module("mammo.errors.DataError: the loss is nan"), without_module("a.b.C: d.e: f")
        ('the loss is nan', 'C: d.e: f')
        >>> without_module("KeyError: 'x'")
        "KeyError: 'x'"
    """
    name, colon, text = error.partition(": ")
    return text if name.startswith("mammo.") and colon else f"{name.rpartition('.')[2]}{colon}{text}"


def _first_difference(before: list[Job], now: list[Job]) -> str:
    """Describe the first job that differs."""
    for old, new in zip(before, now, strict=False):
        if asdict(old) != asdict(new):
            return f"whose job {old.number} is `{' '.join(old.overrides)}`, not `{' '.join(new.overrides)}`"
    return f"of {len(before)} jobs, not {len(now)}"
