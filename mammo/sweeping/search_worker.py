"""A worker of a search: asks for a trial, trains it, tells what came out, and asks again, in one process."""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from mammo.errors import MammoError, TrainingStopped
from mammo.fast_imports import quick_imports
from mammo.runs import RunFolder
from mammo.sweeping.jobs.device_slots import take_cores
from mammo.sweeping.jobs.slurm import Requeued
from mammo.sweeping.jobs.training_job import train_or_go_on, write_traceback
from mammo.sweeping.search.search import Search
from mammo.sweeping.search.trials import Trial
from mammo.sweeping.search.worker_registry import Workers, own_name
from mammo.sweeping.search_results import write_results
from mammo.sweeping.study import Study

_Z = 1.959964  # of a 95 % interval


class SearchWorker(Requeued):
    """What a launcher starts, and Slurm after a preemption, a time limit or the loss of a node again.

    Args:
        folder: of the search or study.
        slot: of the machine it was started on, see `slots`; None in Slurm.
        phase: of a study, see there.
    """

    def __init__(self, folder: Path, *, slot: int | None = None, phase: str | None = None) -> None:
        self.folder = folder
        self.slot = slot
        self.phase = phase

    def __call__(self) -> None:
        """Works until there is nothing more to do."""
        take_cores()
        plan = open_plan(self.folder, phase=self.phase)
        workers = Workers(self.folder / "workers", stale_seconds=plan.settings["stale_seconds"])
        name = own_name()
        with workers.alive(name, slot=self.slot):
            work(plan, workers, name)


def open_plan(folder: Path, *, phase: str | None = None) -> Search | Study:
    """The search or study that was begun in the folder."""
    return Study(folder, phase=phase) if (folder / "study.json").exists() else Search(folder)


def work(plan: Search | Study, workers: Workers, name: str) -> None:
    """Runs trials until there are none left, then writes what they come to.

    Of several workers that find no trial to begin, one waits for those that run, to go on with the trial of a
    worker that is killed, or with what comes after.
    """
    while not plan.is_over():
        for search in plan.searches():
            if (number := search.take(workers, name)) is not None:
                workers.works(name)
                run_trial(search, number, name)
                break
        else:
            if not workers.waits(name):
                return
            time.sleep(1)
    write_results(plan)


def run_trial(search: Search, number: int, name: str) -> None:
    """Runs a trial and tells the score; a failure is told too, and stays with the trial."""
    folder = search.folder_of(number)
    try:
        found = _tested(search.evaluates) if search.evaluates else _trained(search, number, name)
    except TrainingStopped as ended:
        if ended.status == "pruned":
            search.tell(number, "pruned")
    except Exception as error:
        if not search.is_owner(number, name):
            return  # two in one folder, for as long as it takes to notice, may well get in each other's way
        write_traceback(folder)
        reason = str(error).strip().partition("\n")[0]
        told = reason if isinstance(error, MammoError) else f"{type(error).__name__}: {reason}"
        search.tell(number, "failed", error=told)
    else:
        search.tell(number, "finished", **found)


def _trained(search: Search, number: int, name: str) -> dict[str, Any]:
    """Trains a trial's configuration, or goes on where another worker left it."""
    with quick_imports():  # PyTorch takes seconds
        from mammo.sweeping.trial_callback import EpochReport, Pruned

    runs: list[RunFolder] = []
    for part, overrides in search.runs_of(number):
        before = [run.score for run in runs if run.score is not None]
        folder = search.folder_of(number) / part
        report = EpochReport(search, number=number, run=RunFolder(folder), worker=name, before=before)
        try:
            run = train_or_go_on(overrides, run_dir=folder, part_of=search.folder, callbacks=(report,))
        except Pruned:
            _write_pruned(RunFolder(folder), search.read_trials()[number])
            raise
        assert run is not None  # a worker is one process
        runs.append(run)
    return mean_score(runs, independent=search.settings["objective"]["over"] == "folds")


def _write_pruned(run: RunFolder, trial: Trial) -> None:
    """Adds a pruned training to TensorBoard's HParams table, with the last score it reported."""
    from mammo.metrics import Estimate
    from mammo.training.hparams import write_hparams

    assert trial.value is not None  # it was pruned by it
    score = Estimate(trial.value, low=math.nan, high=math.nan, standard_error=math.nan)
    write_hparams(run.tensorboard, config=run.config(), score=score, seconds=math.nan)


def _tested(run_dir: Path) -> dict[str, Any]:
    """Evaluates a run on its test images, once."""
    with quick_imports():
        from mammo.evaluation.run_evaluation import evaluate_run

    run = RunFolder(run_dir)
    folder = run.evaluation / "test"
    if not (folder / "report.html").exists():  # which is written last
        evaluate_run(run, split="test", folder=folder)
    auc = json.loads((folder / "metrics.json").read_text())["image"]["auc"]
    return {"value": auc["value"], "low": auc["low"], "high": auc["high"]}


def mean_score(runs: list[RunFolder], *, independent: bool) -> dict[str, float | None]:
    """The mean of the runs' scores, with its 95 % interval, and the seconds they took.

    Args:
        runs: finished.
        independent: whether their validation images are of different patients, as those of folds; else the
            error of the mean is as large as that of one.
    """
    scores = [run.facts()["score"] for run in runs]
    value = sum(score["value"] for score in scores) / len(scores)
    seconds = sum(run.facts()["seconds"] for run in runs)
    if len(scores) == 1:
        return {"value": value, "low": scores[0]["low"], "high": scores[0]["high"], "seconds": seconds}
    errors = [score["standard_error"] for score in scores]
    if None in errors:
        return {"value": value, "low": None, "high": None, "seconds": seconds}
    error = math.hypot(*errors) / len(errors) if independent else sum(errors) / len(errors)
    low, high = max(0.0, value - _Z * error), min(1.0, value + _Z * error)
    return {"value": value, "low": low, "high": high, "seconds": seconds}


if __name__ == "__main__":
    folder, slot, *phase = sys.argv[1:]
    SearchWorker(Path(folder), slot=int(slot), phase=phase[0] if phase else None)()
