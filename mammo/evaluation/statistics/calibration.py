"""Operating thresholds and calibration, fixed on validation images before the test set is used."""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from mammo.errors import DataError
from mammo.evaluation.predictions import Predictions, Reduce, Unit, by_unit
from mammo.evaluation.statistics.weighted_metrics import Floats, Ranking, expit, logistic_fit, logit
from mammo.runs.provenance import Provenance

Rule = Literal["youden", "sensitivity", "specificity"]

# Temperatures from 1 / 20 to 20.
_WIDEST_LOG_TEMPERATURE = math.log(20)


@dataclass(frozen=True)
class Calibration:
    """A map from scores to probabilities, and thresholds on the uncalibrated scores.

    Two classes are calibrated by logistic regression on the logit of the score (Platt 1999, Probabilistic
    outputs for support vector machines). A temperature has one parameter and cannot correct the shift of the
    scores that balanced sampling or class weights cause; the two parameters need hundreds of images, which
    validation sets have. More classes are calibrated by one temperature on the log probabilities (Guo et al.
    2017, On calibration of modern neural networks, ICML), which keeps the order of the classes in each image.

    Attributes:
        classes: names of the classes of the task.
        method: `platt` or `temperature`.
        slope: non-negative factor of the logits; the inverse of the temperature.
        intercept: constant added to the scaled logits; 0 for a temperature.
        rule: rule that chose the thresholds.
        target: target value of the rule; None for Youden's.
        thresholds: scores of malignancy at or above which a unit is called malignant, by unit and, except
            for images, by the reduction of the scores: `image`, `breast_mean`, `breast_max`, `patient_mean`,
            `patient_max`.
        images: number of samples used to fit the calibration.
        source: predictions used to fit the calibration.
        reached: sensitivity and specificity of each threshold on these images, by the keys of `thresholds`.
        maps: slope and intercept of the logit of a breast's or patient's score of malignancy, by the keys of
            `thresholds`. A mean or maximum of calibrated scores of images is not a calibrated score of the
            unit, because a unit is malignant if any of its images is.
        provenance: records of the predictions used to fit the calibration; empty if they are not known.
        unit: what these samples are.
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
    reached: dict[str, dict[str, float]] = field(default_factory=dict)
    maps: dict[str, tuple[float, float]] = field(default_factory=dict)
    provenance: tuple[Provenance, ...] = ()
    unit: Unit = "image"

    def apply(self, predictions: Predictions) -> Predictions:
        """Return the predictions with calibrated scores.

        Raises:
            DataError: the predictions have other classes.
        """
        if predictions.classes != self.classes:
            raise DataError(
                f"{predictions.source} has the classes {', '.join(predictions.classes)}, but the calibration "
                f"of {self.source} has {', '.join(self.classes)}; use predictions and calibration of one run"
            )
        if self.method == "platt":
            positive = expit(self.slope * logit(predictions.scores[:, 1]) + self.intercept)
            return predictions.with_scores(np.stack([1 - positive, positive], axis=1))
        return predictions.with_scores(_softmax(self.slope * _log(predictions.scores)))

    def probabilities(self, predictions: Predictions, unit: Unit, reduce: Reduce) -> Floats | None:
        """Return M calibrated scores of malignancy of a unit, in the order of `by_unit`.

        Returns:
            None if the validation images gave no map for this unit.

        Raises:
            DataError: the predictions have other classes, or `by_unit` raises it.
        """
        if unit == predictions.unit:
            return self.apply(predictions).malignancy
        return self.mapped(by_unit(predictions, unit, reduce=reduce).score, unit, reduce)

    def mapped(self, scores: Floats, unit: Unit, reduce: Reduce) -> Floats | None:
        """Return M calibrated scores of malignancy of units that are not the samples.

        Args:
            scores: M, reduced scores of the samples of each unit, not calibrated.
            unit: breast or patient.
            reduce: how they were reduced.

        Returns:
            None if the validation images gave no map for this unit.
        """
        if (key := _key(unit, reduce)) not in self.maps:
            return None
        slope, intercept = self.maps[key]
        return expit(slope * logit(scores) + intercept)

    def threshold(self, unit: Unit | None = None, reduce: Reduce = "mean") -> float:
        """Return the operating threshold of a unit, None for the samples; NaN if there is none."""
        return self.thresholds.get(_key(unit or self.unit, reduce), math.nan)

    def on_validation(self, unit: Unit, reduce: Reduce) -> dict[str, float]:
        """Return sensitivity and specificity at the threshold on the images used to fix it, if known."""
        return self.reached.get(_key(unit, reduce), {})

    def to_dict(self) -> dict[str, Any]:
        """Return the calibration as plain values for JSON."""
        return {
            **dataclasses.asdict(self),
            "classes": list(self.classes),
            "maps": {key: list(pair) for key, pair in self.maps.items()},
            "provenance": [record.to_dict() for record in self.provenance],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Create a calibration from the values returned by `to_dict`.

        Raises:
            DataError: the values are not those of a calibration.
        """
        try:
            maps = {key: (slope, intercept) for key, (slope, intercept) in values.get("maps", {}).items()}
            records = Provenance.all_from(values.get("provenance"))
            classes = tuple(values["classes"])
            return cls(**{**values, "classes": classes, "maps": maps, "provenance": records})
        except (KeyError, TypeError, ValueError, AttributeError):
            raise DataError(
                f"not a calibration: {', '.join(values) or 'empty'}; fit it on the validation images again"
            ) from None


def read_calibration(file: Path) -> Calibration | None:
    """Read a calibration; None if there is no such file.

    Raises:
        DataError: the file is damaged.
    """
    if not file.exists():
        return None
    try:
        values = json.loads(file.read_text())
    except ValueError:
        values = {}
    try:
        return Calibration.from_dict(values)
    except DataError as error:
        raise DataError(f"{file}: damaged; remove it and run python -m mammo.evaluate again") from error


def fit_calibration(predictions: Predictions, *, rule: Rule = "youden", target: float = 0.9) -> Calibration:
    """Fix thresholds and calibration on validation images.

    Args:
        predictions: predictions of images that are neither training nor test images.
        rule: `youden` chooses the threshold with the highest sum of sensitivity and specificity (Youden
            1950, Index for rating diagnostic tests, Cancer 3:32); `sensitivity` chooses the one with the
            highest specificity among those that reach the target sensitivity, `specificity` the reverse.
        target: target value of `sensitivity` or `specificity`, 0 to 1.

    Raises:
        DataError: the images are all benign or all malignant.
    """
    if len(np.unique(predictions.malignant)) < 2:
        only = predictions.task.words["positive" if predictions.malignant.any() else "negative"]
        raise DataError(
            f"{predictions.source}: the {len(predictions.labels)} images are all {only}; calibration needs "
            "both"
        )
    if len(predictions.classes) == 2:
        slope, intercept = fit_platt(predictions.scores[:, 1], predictions.labels)
    else:
        slope, intercept = 1 / fit_temperature(predictions.scores, predictions.labels), 0.0
    thresholds, reached, maps = {}, {}, {}
    reductions: tuple[Reduce, ...] = ("mean", "max")
    for unit in predictions.units:
        for reduce in reductions:
            try:
                units = by_unit(predictions, unit, reduce=reduce)
            except DataError:  # no laterality
                continue
            if 0 < units.label.mean() < 1:
                key = _key(unit, reduce)
                threshold = operating_threshold(units.score, units.label, rule=rule, target=target)
                called = units.score >= threshold
                thresholds[key] = threshold
                reached[key] = {
                    "sensitivity": float(called[units.label == 1].mean()),
                    "specificity": float(1 - called[units.label == 0].mean()),
                }
                if unit != predictions.unit:
                    maps[key] = fit_platt(units.score, units.label)
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
        reached=reached,
        maps=maps,
        provenance=predictions.provenance,
        unit=predictions.unit,
    )


def operating_threshold(
    scores: Floats, labels: NDArray[np.int64], *, rule: Rule = "youden", target: float = 0.9
) -> float:
    """Return the threshold that a rule chooses, midway between two neighbouring scores.

    Args:
        scores: N, including scores of both classes.
        labels: N, 1 for positive and 0 for negative.
        rule: see `fit_calibration`; of several equally good thresholds it chooses the highest.
        target: target value of `sensitivity` or `specificity`.

    Example:
        >>> operating_threshold(np.array([0.1, 0.3, 0.2, 0.7]), np.array([0, 0, 1, 1]))
        0.5
    """
    true, false = (side[0] for side in Ranking(scores, labels).points(np.ones((1, len(scores)))))
    positives, negatives = true[-1], false[-1]
    if rule == "youden":
        called = int(np.argmax(true * negatives - false * positives))  # whole numbers, so ties are exact
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
    """Fit the slope and intercept of the logits that turn scores into probabilities.

    Platt's targets shift the labels slightly towards each other, which keeps the solution finite if the
    scores separate the classes. If the scores rank the classes in the wrong order, the slope is 0 and the
    probability is the share of positives, because a map that reverses the ranking would be another model.

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
    """Return the temperature, from 0.05 to 20, that divides the log probabilities for the highest likelihood.

    Args:
        scores: N C probabilities.
        labels: N, index of the class.
    """
    logs = _log(scores)
    own = logs[np.arange(len(labels)), labels].mean()
    low, high = -_WIDEST_LOG_TEMPERATURE, _WIDEST_LOG_TEMPERATURE  # logarithm of the inverse temperature
    for _ in range(60):
        middle = (low + high) / 2
        # the loss is convex in the inverse temperature, with the derivative expected - own
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
