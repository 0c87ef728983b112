"""A worker of a search: one process that repeatedly takes a trial, trains it and reports its score."""

import math
import sys
import time
from pathlib import Path
from typing import Any

from mammo.errors import MammoError, TrainingStopped
from mammo.fast_imports import quick_imports
from mammo.runs import RunFolder
from mammo.sweeping.jobs.code_snapshot import require_frozen
from mammo.sweeping.jobs.device_slots import bind_cores
from mammo.sweeping.jobs.slurm import RequeuedJob
from mammo.sweeping.jobs.training_job import train_or_resume, write_traceback
from mammo.sweeping.search.search import Search
from mammo.sweeping.search.trials import Trial
from mammo.sweeping.search.worker_registry import Workers, worker_name
from mammo.sweeping.search_results import write_results
from mammo.sweeping.study import Study

_Z = 1.959964  # 97.5 % quantile of the normal distribution, for 95 % intervals


class SearchWorker(RequeuedJob):
    """Work on a search or study until no trial is left.

    Slurm starts the same worker again after a preemption, a time limit or the loss of a node.

    Args:
        folder: folder of the search or study.
        slot: index of the worker's share of cores and GPUs on this machine; None in Slurm.
        phase: only phase of a study to work on; None for all phases.
    """

    def __init__(self, folder: Path, *, slot: int | None = None, phase: str | None = None) -> None:
        self.folder = folder
        self.slot = slot
        self.phase = phase

    def __call__(self) -> None:
        """Run trials until none is left.

        Raises:
            MammoError: this process does not run the copy of the code.
        """
        require_frozen(self.folder)
        bind_cores()
        plan = open_plan(self.folder, phase=self.phase)
        workers = Workers(self.folder / "workers", stale_seconds=plan.settings["stale_seconds"])
        name = worker_name()
        with workers.heartbeat(name, slot=self.slot):
            work(plan, workers, name)


def open_plan(folder: Path, *, phase: str | None = None) -> Search | Study:
    """Open the search or study that was begun in the folder.

    Args:
        folder: folder of the search or study.
        phase: only phase of a study to work on; None for all phases.
    """
    return Study(folder, phase=phase) if (folder / "study.json").exists() else Search(folder)


def work(plan: Search | Study, workers: Workers, name: str) -> None:
    """Run trials until none is left, then write the results.

    Of several workers without a trial, one waits while trials are running: it resumes the trial of a worker
    that is killed, and begins the trials that become possible later. The others end.

    Args:
        plan: search or study.
        workers: registry of its workers.
        name: name of this worker.
    """
    while not plan.is_over():
        for search in plan.searches():
            if (number := search.take(workers, name)) is not None:
                workers.release_waiting(name)
                run_trial(search, number, name)
                break
        else:
            if not workers.claim_waiting(name):
                return
            time.sleep(1)
    write_results(plan)


def run_trial(search: Search, number: int, name: str) -> None:
    """Run a trial and record its score, or the reason of its failure, in the journal.

    Args:
        search: search that the trial belongs to.
        number: number of the trial, from 0.
        name: name of the worker that owns the trial.
    """
    folder = search.folder_of(number)
    try:
        result = _test_run(search.evaluates) if search.evaluates else _train_trial(search, number, name)
    except TrainingStopped as stopped:
        if stopped.status == "pruned":
            search.tell(number, "pruned")
    except Exception as error:
        if not search.is_owner(number, name):
            return  # the error may come from the new owner, which writes to the same folder
        write_traceback(folder)
        reason = str(error).strip().partition("\n")[0]
        message = reason if isinstance(error, MammoError) else f"{type(error).__name__}: {reason}"
        search.tell(number, "failed", error=message)
    else:
        search.tell(number, "finished", **result)


def _train_trial(search: Search, number: int, name: str) -> dict[str, Any]:
    """Train the runs of a trial, or resume them where another worker stopped."""
    with quick_imports():  # PyTorch takes seconds
        from mammo.sweeping.trial_callback import EpochReport, Pruned

    runs: list[RunFolder] = []
    for part, overrides in search.runs_of(number):
        earlier = [run.score for run in runs if run.score is not None]
        folder = search.folder_of(number) / part
        report = EpochReport(search, number=number, worker=name, earlier_scores=earlier)
        try:
            run = train_or_resume(
                overrides,
                run_dir=folder,
                part_of=search.folder,
                searched=search.searched,
                callbacks=(report,),
                take_over=True,
            )
        except Pruned:
            _write_pruned(RunFolder(folder), search.read_trials()[number], searched=search.searched)
            raise
        assert run is not None  # None only in the other processes of a distributed training
        runs.append(run)
    return mean_score(runs, independent=search.settings["objective"]["over"] == "folds")


def _write_pruned(run: RunFolder, trial: Trial, *, searched: list[str]) -> None:
    """Add a pruned training to TensorBoard's HParams table, with its last reported score."""
    from mammo.metrics import Estimate
    from mammo.training.loggers.hparams import write_hparams

    assert trial.value is not None  # the pruner decides by a reported score
    score = Estimate(trial.value, low=math.nan, high=math.nan, standard_error=math.nan)
    if not run.tensorboard.exists():  # the run has no TensorBoard
        return
    write_hparams(run, score=score, seconds=math.nan, searched=searched)


def _test_run(run_dir: Path) -> dict[str, Any]:
    """Evaluate a run on its test images, unless its current weights were evaluated before."""
    with quick_imports():
        from mammo.evaluation.evaluation_files import metrics_of
        from mammo.evaluation.evaluation_settings import EvaluationSettings
        from mammo.evaluation.run_evaluation import evaluate_run

    run = RunFolder(run_dir)
    folder = run.evaluation / "test"
    metrics = metrics_of(run, "test") if (folder / "report.html").exists() else None  # written last
    if metrics is None:
        metrics = evaluate_run(run, EvaluationSettings(split="test", folder=folder)).metrics
    auc = metrics[metrics.get("unit", "image")]["auc"]
    return {"value": auc["value"], "low": auc["low"], "high": auc["high"]}


def mean_score(runs: list[RunFolder], *, independent: bool) -> dict[str, float | None]:
    """Average the scores of runs.

    The interval is made from the scores of the runs alone, for a trial keeps no scores of images. So it is
    not that of `mean_fold_auc`, which an evaluation of the runs reports.

    Args:
        runs: finished runs, at least one.
        independent: whether the validation images of the runs are of different patients, as with folds;
            if not, the standard error of the mean is the mean of the runs' standard errors.

    Returns:
        `value`, the mean validation AUC; `low` and `high`, its 95 % interval, None where a run has no
        standard error; `seconds`, the sum of the runs' durations.
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
    try:
        SearchWorker(Path(folder), slot=int(slot), phase=phase[0] if phase else None)()
    except MammoError as error:
        sys.exit(f"error: {error}")
