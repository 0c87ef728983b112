"""Reading and writing the files of an evaluation: predictions, metrics and calibration.

Each file records what it was computed from. A file of another checkpoint, store, split or test-time
augmentation, or without a record, is not read: the scores and the calibration are computed again.
"""

import contextlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mammo.atomic_files import report_unwritable, write_atomically
from mammo.data.tasks import Task
from mammo.errors import ConfigError, DataError
from mammo.evaluation.combined_predictions import ensemble, out_of_fold
from mammo.evaluation.predictions import Predictions, read_predictions
from mammo.evaluation.statistics.calibration import Calibration, Rule, fit_calibration, read_calibration
from mammo.runs import RunFolder
from mammo.runs.provenance import current_provenance, is_current, read_json, read_provenance

if TYPE_CHECKING:  # these import PyTorch, which takes seconds
    from mammo.evaluation.scoring import Tta
    from mammo.evaluation.split_scoring import SplitName


def calibration_of(
    run: RunFolder,
    *,
    tta: "Tta" = "none",
    may_score: bool = True,
    rule: Rule = "youden",
    target: float = 0.9,
) -> Calibration | None:
    """Return the calibration of a run's current weights; fit it if there is none yet, and save Youden's.

    It is fitted to validation scores of the same test-time augmentation, because a mean of scores needs
    another calibration than a single score. The file is `calibration.json`, or `calibration-<tta>.json`.

    Args:
        run: finished run.
        tta: test-time augmentation of the scores.
        may_score: whether validation images without current scores are scored.
        rule: rule of the thresholds, see `fit_calibration`.
        target: target value of `sensitivity` or `specificity`.

    Returns:
        None if the validation images are all benign or all malignant and the rule is Youden's, if they have
        no current scores and may not be scored, or if the task has no positive class.

    Raises:
        ConfigError: the rule has a target, and the task has no positive class.
        DataError: the validation images are all benign or all malignant, and the rule has a target.
        MammoError: the run has no checkpoint, or its validation images cannot be scored.
    """
    task = Task.of(run.config()["task"])
    if not task.positive:
        if rule != "youden":
            raise ConfigError(
                f"target_{rule}={target}: the task {task.name} of {run.path} has no positive class; leave it "
                "out"
            )
        return None
    file = run.path / ("calibration.json" if tta == "none" else f"calibration-{tta}.json")
    if rule == "youden":
        with contextlib.suppress(DataError):  # damaged
            fixed = read_calibration(file)
            if fixed is not None and fixed.provenance == (current_provenance(run, split="val", tta=tta),):
                return fixed
    predictions = saved_predictions(run, "val", tta=tta)
    if predictions is None:
        if not may_score:
            return None
        predictions = predictions_of(run, "val", tta=tta)
    if rule != "youden":
        return fit_calibration(predictions, rule=rule, target=target)
    try:
        calibration = fit_calibration(predictions)
    except DataError:
        return None  # all images are of one class
    with contextlib.suppress(OSError):  # a folder without permission to write; the next reader fits it again
        write_atomically(file, _json(calibration.to_dict()))
    return calibration


def saved_predictions(run: RunFolder, split: "SplitName", *, tta: "Tta" = "none") -> Predictions | None:
    """Return the scores of a split that training or an evaluation has saved; None if they are not current."""
    name = split if tta == "none" else f"{split}-{tta}"
    file = run.evaluation / name / "predictions.csv"
    records = read_provenance(file)
    if records != (current_provenance(run, split=split, tta=tta),):
        return None
    found = read_predictions(file, task=Task.of(run.config()["task"]))
    if len(set(found.image_ids)) != records[0].images:
        return None
    return replace(found, source=f"{run.path} ({split})", provenance=records)


def predictions_of(run: RunFolder, split: "SplitName", *, tta: "Tta" = "none") -> Predictions:
    """Return the uncalibrated scores of a split: the saved ones if they are current, else new ones.

    Raises:
        MammoError: see `open_split`.
    """
    found = saved_predictions(run, split, tta=tta)
    if found is None:
        from mammo.evaluation.split_scoring import score_split

        found = score_split(run, split, tta=tta)
    return found


def combine_predictions(scored: Sequence[Predictions], *, split: "SplitName") -> Predictions:
    """Combine the scores of several runs: `out_of_fold` if their `val` images differ, else `ensemble`."""
    if split == "val" and not same_images(scored):
        return out_of_fold(scored)
    return ensemble(scored)


def ensemble_calibration(
    held_out: Sequence[Predictions], *, rule: Rule = "youden", target: float = 0.9
) -> Calibration | None:
    """Fit a calibration to the mean validation scores of several runs.

    Args:
        held_out: validation scores of each run.
        rule: rule of the thresholds, see `fit_calibration`.
        target: target value of `sensitivity` or `specificity`.

    Returns:
        None if the runs have different validation images, or if the images are all benign or all malignant.
    """
    if not same_images(held_out):
        return None
    try:
        return fit_calibration(ensemble(held_out), rule=rule, target=target)
    except DataError:
        return None


def same_images(scored: Sequence[Predictions]) -> bool:
    """Return whether all tables have the same images."""
    first = set(scored[0].samples)
    return all(set(run.samples) == first for run in scored[1:])


def read_evaluation(file: Path, *, task: Task | None = None) -> tuple[Predictions, Calibration | None]:
    """Read a table of predictions, with the calibration in its folder, if there is one.

    Args:
        file: CSV file.
        task: task of the scores, see `read_predictions`.

    Raises:
        DataError: a file is invalid, or the calibration is not known to be one of the same weights.
    """
    predictions = replace(read_predictions(file, task=task), provenance=read_provenance(file))
    calibration = read_calibration(file.with_name("calibration.json"))
    if calibration is not None:
        ours, theirs = (
            [(record.weights_sha256, record.tta) for record in records]
            for records in (predictions.provenance, calibration.provenance)
        )
        if not ours or ours != theirs:
            raise DataError(
                f"{file}: the calibration.json beside it is not known to be of the same checkpoint; evaluate "
                "the run again, or remove calibration.json"
            )
    return predictions, calibration


def metrics_of(run: RunFolder, split: "SplitName") -> dict[str, Any] | None:
    """Return the metrics of an evaluation of a split; None if there are none of the current weights."""
    metrics = read_json(run.evaluation / split / "metrics.json")
    if not isinstance(metrics, dict) or not is_current(metrics, current_provenance(run, split=split)):
        return None
    return metrics


def write_evaluation(
    folder: Path, *, predictions: Predictions, metrics: dict[str, Any], calibration: Calibration | None
) -> None:
    """Write `predictions.csv`, `metrics.json` and, with a calibration, `calibration.json`.

    The metrics can be computed again from the predictions and the calibration. Heatmaps, report, figures,
    characteristics and calibration of an earlier evaluation in this folder are removed.

    Raises:
        ConfigError: the folder cannot be written.
    """
    with report_unwritable("output", folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("report.html", "characteristics.csv", "metrics.json", "calibration.json"):
            (folder / name).unlink(missing_ok=True)
        for ours in ("heatmaps/gallery.json", "figures/flow.svg"):  # not another folder of that name
            if (folder / ours).exists():
                shutil.rmtree((folder / ours).parent)
        predictions.write(folder / "predictions.csv")
        if calibration is not None:
            write_atomically(folder / "calibration.json", _json(calibration.to_dict()))
        write_atomically(folder / "metrics.json", _json(metrics))


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2, allow_nan=False) + "\n"
