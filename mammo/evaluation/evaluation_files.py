"""Reading and writing the files of an evaluation: predictions, metrics and calibration."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mammo.atomic_files import write_atomically
from mammo.errors import ConfigError, DataError
from mammo.evaluation.predictions import Predictions, ensemble, out_of_fold, read_predictions
from mammo.evaluation.split_scoring import SplitName, score_split
from mammo.evaluation.statistics.calibration import Calibration, Rule, fit_calibration, read_calibration
from mammo.runs import RunFolder


def calibration_of(run: RunFolder, *, rule: Rule = "youden", target: float = 0.9) -> Calibration | None:
    """Return the calibration of a run; fit it if there is none of this rule yet, and save Youden's.

    Args:
        run: finished run.
        rule: rule of the thresholds, see `fit_calibration`.
        target: target value of `sensitivity` or `specificity`.

    Returns:
        None if the validation images are all benign or all malignant, and the rule is Youden's.

    Raises:
        ConfigError: the run has no scores of its validation images.
        DataError: the validation images are all benign or all malignant, and the rule has a target.
    """
    if rule != "youden":
        return fit_calibration(validation_predictions(run), rule=rule, target=target)
    fixed = read_calibration(run.path)
    if fixed is not None:
        return fixed
    try:
        calibration = fit_calibration(validation_predictions(run))
    except DataError:
        return None  # all images are of one class
    write_calibration(run.path, calibration)
    return calibration


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Write `calibration.json` atomically."""
    write_atomically(folder / "calibration.json", json.dumps(calibration.to_dict(), indent=2) + "\n")


def validation_predictions(run: RunFolder) -> Predictions:
    """Return the scores of the validation images that were saved at the end of the training.

    Raises:
        ConfigError: the run is not finished.
    """
    file = run.evaluation / "val" / "predictions.csv"
    if not file.exists():
        raise ConfigError(
            f"run={run.path}: has no {file.name} of its validation images; finish the run with resume=..."
        )
    return replace(read_predictions(file), source=f"{run.path} (val)")


def predictions_of(run: RunFolder, split: SplitName) -> Predictions:
    """Return the scores of a split, read from an earlier evaluation if there is one."""
    file = run.evaluation / split / "predictions.csv"
    return read_predictions(file) if file.exists() else score_split(run, split)


def combine_predictions(scored: Sequence[Predictions], *, split: SplitName) -> Predictions:
    """Combine the scores of several runs: `out_of_fold` if their `val` images differ, else `ensemble`."""
    first = set(scored[0].images)
    if split == "val" and any(set(run.images) != first for run in scored[1:]):
        return out_of_fold(scored)
    return ensemble(scored)


def write_evaluation(
    folder: Path, *, predictions: Predictions, metrics: dict[str, Any], calibration: Calibration | None
) -> None:
    """Write `predictions.csv`, `metrics.json` and, with a calibration, `calibration.json`.

    The metrics can be computed again from the predictions and the calibration.

    Raises:
        ConfigError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        predictions.write(folder / "predictions.csv")
        if calibration is not None:
            write_calibration(folder, calibration)
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    except OSError as error:
        raise ConfigError(f"output={folder}: cannot be written: {error.strerror}") from error
