"""What is fixed on validation images before the test set is opened: operating thresholds and calibration."""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from mammo.errors import DataError
from mammo.evaluation.predictions import UNITS, Predictions, Reduce, Unit, by_unit
from mammo.evaluation.statistics.weighted_metrics import Floats, Ranking, expit, logistic_fit, logit

Rule = Literal["youden", "sensitivity", "specificity"]

# Temperatures from 1 / 20 to 20.
_WIDEST_LOG_TEMPERATURE = math.log(20)


@dataclass(frozen=True)
class Calibration:
    """A map from scores to probabilities, and thresholds on the scores as they are before it.

    Two classes are calibrated by Platt's (1999, Probabilistic outputs for support vector machines) logistic
    regression on the logit of the score. A temperature, which has one parameter, could not undo the shift
    that balanced sampling or class weights give the scores; the two parameters take hundreds of images, as
    there are. More classes are calibrated by one temperature on the log probabilities (Guo et al. 2017, On
    calibration of modern neural networks, ICML), which keeps their order in each image.

    Attributes:
        classes: names of the classes of the task.
        method: `platt` or `temperature`.
        slope: by which the logits are multiplied, not negative; the inverse of the temperature.
        intercept: added to them; 0 for a temperature.
        rule: by which the thresholds were chosen.
        target: target value of the rule; None for Youden's.
        thresholds: at or above which a score of malignancy is called malignant, by unit and, but for
            images, by how the unit's score is made: `image`, `breast_mean`, `breast_max`, `patient_mean`,
            `patient_max`.
        images: on how many it was fixed.
        source: the predictions it was fixed on.
    """

    classes: tuple[str, ...]
    method: Literal["platt", "temperature"]
    slope: float
    intercept: float
    rule: Rule
    target: float | None
    thresholds: dict[str, float]
    images: int
    source: str

    def apply(self, predictions: Predictions) -> Predictions:
        """The predictions with calibrated scores.

        Raises:
            DataError: they are of other classes.
        """
        if predictions.classes != self.classes:
            raise DataError(
                f"{predictions.source} has the classes {', '.join(predictions.classes)} and {self.source}, "
                f"which fixed the calibration, {', '.join(self.classes)}; use those of one run"
            )
        if self.method == "platt":
            positive = expit(self.slope * logit(predictions.scores[:, 1]) + self.intercept)
            return predictions.with_scores(np.stack([1 - positive, positive], axis=1))
        return predictions.with_scores(_softmax(self.slope * _log(predictions.scores)))

    def threshold(self, unit: Unit, reduce: Reduce) -> float:
        """The operating threshold, NaN where the validation images did not give one."""
        return self.thresholds.get(_key(unit, reduce), math.nan)

    def to_dict(self) -> dict[str, Any]:
        """Itself as plain values for JSON."""
        return {**dataclasses.asdict(self), "classes": list(self.classes)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """From what `to_dict` gave.

        Raises:
            DataError: these are no such values.
        """
        try:
            return cls(**{**values, "classes": tuple(values["classes"])})
        except (KeyError, TypeError):
            raise DataError(
                f"no calibration: {', '.join(values) or 'nothing'}; fix it on the validation images again"
            ) from None


def read_calibration(folder: Path) -> Calibration | None:
    """The content of a folder's `calibration.json`; None without one.

    Raises:
        DataError: the file is damaged.
    """
    file = folder / "calibration.json"
    if not file.exists():
        return None
    try:
        values = json.loads(file.read_text())
    except ValueError:
        values = {}
    try:
        return Calibration.from_dict(values)
    except DataError as error:
        raise DataError(f"{file}: damaged; remove it, and python -m mammo.evaluate fixes it again") from error


def fit_calibration(predictions: Predictions, *, rule: Rule = "youden", target: float = 0.9) -> Calibration:
    """Fix thresholds and calibration on validation images.

    Args:
        predictions: predictions of images that are neither training nor test images.
        rule: `youden` chooses the threshold with the highest sum of sensitivity and specificity (Youden
            1950, Index for rating diagnostic tests, Cancer 3:32), `sensitivity` and `specificity` the one
            that reaches the target at the least cost to the other.
        target: target value of `sensitivity` or `specificity`, 0 to 1.

    Raises:
        DataError: the images are all benign or all malignant.
    """
    if len(np.unique(predictions.malignant)) < 2:
        raise DataError(
            f"{predictions.source}: the {len(predictions.malignant)} images are all "
            f"{'malignant' if predictions.malignant.any() else 'benign'}; calibration needs both"
        )
    if len(predictions.classes) == 2:
        slope, intercept = fit_platt(predictions.scores[:, 1], predictions.labels)
    else:
        slope, intercept = 1 / fit_temperature(predictions.scores, predictions.labels), 0.0
    thresholds = {}
    reductions: tuple[Reduce, ...] = ("mean", "max")
    for unit in UNITS:
        if unit == "breast" and predictions.table["laterality"].isna().any():
            continue
        for reduce in reductions:
            units = by_unit(predictions, unit, reduce=reduce)
            if 0 < units.label.mean() < 1:
                thresholds[_key(unit, reduce)] = operating_threshold(
                    units.score, units.label, rule=rule, target=target
                )
    return Calibration(
        classes=predictions.classes,
        method="platt" if len(predictions.classes) == 2 else "temperature",
        slope=slope,
        intercept=intercept,
        rule=rule,
        target=None if rule == "youden" else target,
        thresholds=thresholds,
        images=len(predictions.labels),
        source=predictions.source,
    )


def operating_threshold(
    scores: Floats, labels: NDArray[np.int64], *, rule: Rule = "youden", target: float = 0.9
) -> float:
    """The threshold that a rule chooses, see `fit_calibration`, midway between two neighbouring scores.

    Args:
        scores: N, of both classes.
        labels: N, 1 for positive and 0 for negative.
        rule: which; among equals the highest threshold.
        target: target value of `sensitivity` or `specificity`.

    Example:
        >>> operating_threshold(np.array([0.1, 0.3, 0.2, 0.7]), np.array([0, 0, 1, 1]))
        0.5
    """
    true, false = (side[0] for side in Ranking(scores, labels).points(np.ones((1, len(scores)))))
    positives, negatives = true[-1], false[-1]
    if rule == "youden":
        called = int(np.argmax(true * negatives - false * positives))  # whole numbers: equals are equal
    elif rule == "sensitivity":
        called = int(np.argmax(true >= target * positives - 1e-9))
    else:
        called = int((false <= (1 - target) * negatives + 1e-9).sum()) - 1
    distinct = np.unique(scores)[::-1]
    if called == 0:
        return float(np.nextafter(distinct[0], np.inf))
    lowest = float(distinct[called - 1])
    if called == len(distinct):
        return lowest
    midway = (lowest + float(distinct[called])) / 2
    return midway if midway > distinct[called] else lowest


def fit_platt(scores: Floats, labels: NDArray[np.int64]) -> tuple[float, float]:
    """Slope and intercept of the logits that make scores probabilities.

    Platt's targets, which draw the labels a little towards each other, keep the solution finite where the
    scores separate the classes. Where the scores rank the wrong way round the slope is 0: the probability is
    then the share of positives, for a map that turns the ranking over would be another model.

    Args:
        scores: N.
        labels: N, 1 for positive and 0 for negative.
    """
    positives = int(labels.sum())
    negatives = len(labels) - positives
    target = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    slopes, intercepts = logistic_fit(logit(scores), target, np.ones((1, len(scores))))
    if slopes[0] > 0:
        return float(slopes[0]), float(intercepts[0])
    return 0.0, float(logit(target.mean(keepdims=True))[0])


def fit_temperature(scores: Floats, labels: NDArray[np.int64]) -> float:
    """The temperature, from 0.05 to 20, of the highest likelihood: log probabilities are divided by it.

    Args:
        scores: N C probabilities.
        labels: N, index of the class.
    """
    logs = _log(scores)
    own = logs[np.arange(len(labels)), labels].mean()
    low, high = -_WIDEST_LOG_TEMPERATURE, _WIDEST_LOG_TEMPERATURE  # of the inverse temperature
    for _ in range(60):
        middle = (low + high) / 2
        # the loss is convex in the inverse temperature, this its derivative
        expected = (_softmax(math.exp(middle) * logs) * logs).sum(axis=1).mean()
        low, high = (low, middle) if expected > own else (middle, high)
    return math.exp(-(low + high) / 2)


def _key(unit: Unit, reduce: Reduce) -> str:
    return "image" if unit == "image" else f"{unit}_{reduce}"


def _log(scores: Floats) -> Floats:
    return np.asarray(np.log(np.clip(scores, 1e-7, 1)))


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
