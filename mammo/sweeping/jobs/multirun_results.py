"""The end of a multirun: its leaderboard, the best job as an experiment, and the commands that come next."""

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING

from mammo.config.calls.differences import OF_THE_RUN
from mammo.config.calls.next_steps import call, ending, tensorboard
from mammo.config.calls.override_values import parser
from mammo.runs import RunFolder
from mammo.sweeping.jobs.multirun import TRACEBACK, Job, Multirun, without_module
from mammo.sweeping.search.trials import State, Trial, Value, best_of

if TYPE_CHECKING:
    import pandas as pd

_REPETITION = {"seed", "data.fold", *OF_THE_RUN}  # keys in which repetitions of one setting differ
_STATES: dict[str, State] = {"finished": "finished", "failed": "failed"}


def results_text(multirun: Multirun, summary: "pd.DataFrame") -> str:
    """Write the leaderboard, and return the summary for the terminal with the paths and what comes next.

    Folds or seeds of one setting have no leaderboard: they are evaluated as one.
    """
    folder = multirun.folder
    written = {"summary": folder / "summary.csv"}
    commands = []
    if any(job.is_finished() for job in multirun.jobs):
        if _REPETITION.issuperset(multirun.searched()):
            commands = [call("evaluate", run=folder, split="val")]
        else:
            written["leaderboard"] = _write_leaderboard(multirun)
            commands = [call("compare", runs=folder, split="val")]
        commands.append(tensorboard(folder))
    return f"{multirun.summary_text(summary)}\n\n{ending(written, *commands)}"


def _write_leaderboard(multirun: Multirun) -> Path:
    # these import pandas, which a single training does not need
    from mammo.config.flattening import flatten
    from mammo.sweeping.leaderboard.leaderboard import write_leaderboard
    from mammo.sweeping.search_results import write_experiment

    trials = [_trial(multirun, job) for job in multirun.jobs]
    best = best_of(trials)
    if best is not None:
        job = multirun.jobs[best.number]
        config = flatten(RunFolder(best.folder).config())
        write_experiment(
            multirun.folder,
            title=f"Best of the multirun {multirun.folder.name}: job {job.number}",
            best=best,
            own=multirun.own_overrides(job),
            overrides=job.overrides,
            config={key: value for key, value in config.items() if key not in OF_THE_RUN},
        )
    return write_leaderboard(multirun.folder, trials, name=multirun.folder.name, objective="validation AUC")


def _trial(multirun: Multirun, job: Job) -> Trial:
    """Return the job as a trial of a search."""
    run = RunFolder(Path(job.run_dir))
    facts, state = run.facts(), _STATES.get(multirun.status_of(job), "running")
    score = facts.get("score", {}) if state == "finished" else {}
    traceback, curve = run.path / TRACEBACK, _curve(run.metrics)
    error = without_module(traceback.read_text().strip().rpartition("\n")[2]) if traceback.exists() else None
    return Trial(
        number=job.number,
        state=state,
        settings=dict(map(_setting, multirun.own_overrides(job))),
        folder=run.path,
        value=score.get("value"),
        low=score.get("low"),
        high=score.get("high"),
        curve=curve,
        seconds=facts.get("seconds"),
        error=error,
    )


def _setting(override: str) -> tuple[str, Value]:
    parsed = parser().parse_override(override)
    value = parsed.value()
    return parsed.key_or_group, value if isinstance(value, bool | int | float | str | None) else str(value)


def _curve(metrics: Path) -> dict[int, float]:
    """Return the validation AUC after each epoch."""
    if not metrics.exists():
        return {}
    with metrics.open(newline="") as rows:
        found = {float(row["epoch"]): float(row.get("val/auc") or math.nan) for row in csv.DictReader(rows)}
    return {int(epoch): auc for epoch, auc in found.items() if epoch.is_integer() and math.isfinite(auc)}
