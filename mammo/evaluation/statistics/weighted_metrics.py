"""Metrics of a classifier for many weightings of the same images at once, as needed for resampling.

A weighting is a row of integers: how often each image counts. The images are sorted once for all rows.
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Lowest specificity of the partial AUC.
PARTIAL_SPECIFICITY = 0.8
# Lowest specificity of each sensitivity, and the reverse.
SENSITIVITIES_AT = {"sensitivity_at_80_specificity": 0.8, "sensitivity_at_90_specificity": 0.9}
SPECIFICITIES_AT = {"specificity_at_80_sensitivity": 0.8, "specificity_at_90_sensitivity": 0.9}
ECE_BINS = 15
# Smallest distance of a probability from 0 and 1, limited by float32.
_SMALLEST = 1e-7
_NEWTON_STEPS = 50


def logit(probability: Floats) -> Floats:
    """Return the log odds of probabilities, which are clipped to [1e-7, 1 - 1e-7]."""
    held = np.clip(probability, _SMALLEST, 1 - _SMALLEST)
    return np.asarray(np.log(held) - np.log1p(-held))


def expit(log_odds: Floats) -> Floats:
    """Return the probability of log odds."""
    return np.asarray(0.5 * (1 + np.tanh(log_odds / 2)))


class Ranking:
    """Points of the ROC curve for each weighting: the origin and one point for each distinct score.

    Args:
        scores: N.
        labels: N, 1 for positive and 0 for negative.
    """

    def __init__(self, scores: Floats, labels: NDArray[np.int64]) -> None:
        self._order = np.argsort(-scores, kind="stable")
        ranked = scores[self._order]
        self._positive = labels[self._order].astype(np.float64)
        self._ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))

    def points(self, weights: Floats) -> tuple[Floats, Floats]:
        """Return the true and false positives at or above each score, R (1 + distinct), in ascending order.

        Args:
            weights: R N.
        """
        ranked = weights[:, self._order]
        hits = ranked * self._positive
        ranked -= hits  # what remains are the negatives
        origin = np.zeros((len(weights), 1))
        true, false = (
            np.concatenate([origin, np.cumsum(part, axis=1)[:, self._ends]], axis=1)
            for part in (hits, ranked)
        )
        return true, false


def auc(true: Floats, false: Floats) -> Floats:
    """Return R areas under the ROC curve, with ties counted half; NaN where a class has no weight."""
    doubled = np.einsum("rk,rk->r", np.diff(false), true[:, 1:] + true[:, :-1])
    return np.asarray(doubled / (2 * true[:, -1] * false[:, -1]))


def partial_auc(true: Floats, false: Floats, *, specificity: float = PARTIAL_SPECIFICITY) -> Floats:
    """Return R areas under the ROC curve at or above a specificity, on the scale of the AUC.

    McClish's standardisation (1989, Analyzing a portion of the ROC curve, Medical Decision Making 9:190):
    0.5 for chance and 1 for a perfect ranking, as with `max_fpr` of scikit-learn and torchmetrics.
    """
    reach = 1 - specificity
    widths = np.diff(false) / false[:, -1:]
    left = false[:, :-1] / false[:, -1:]
    low, rise = true[:, :-1] / true[:, -1:], np.diff(true) / true[:, -1:]
    inside = np.clip(reach - left, 0, widths)  # of each step's width
    share = np.divide(inside, widths, out=np.zeros_like(inside), where=widths > 0)
    area = np.einsum("rk,rk->r", inside, low + rise * share / 2)
    chance = reach**2 / 2
    return np.asarray(0.5 * (1 + (area - chance) / (reach - chance)))


def average_precision(true: Floats, false: Floats) -> Floats:
    """Return R areas under the precision-recall curve: the sum of precision times increase of recall."""
    called = true[:, 1:] + false[:, 1:]
    precision = np.divide(true[:, 1:], called, out=np.zeros_like(called), where=called > 0)
    return np.asarray(np.einsum("rk,rk->r", np.diff(true), precision) / true[:, -1])


def sensitivity_at(true: Floats, false: Floats, *, specificity: float) -> Floats:
    """Return R sensitivities, each the highest of all observed thresholds with at least this specificity."""
    allowed = false <= (1 - specificity) * false[:, -1:] + 1e-9
    return np.asarray(_at(true, allowed.sum(axis=1) - 1) / true[:, -1])


def specificity_at(true: Floats, false: Floats, *, sensitivity: float) -> Floats:
    """Return R specificities, each the highest of all observed thresholds with at least this sensitivity."""
    missing = true < sensitivity * true[:, -1:] - 1e-9
    return np.asarray(1 - _at(false, missing.sum(axis=1)) / false[:, -1])


def _at(values: Floats, column: NDArray[np.int64]) -> Floats:
    return np.asarray(np.take_along_axis(values, column[:, None], axis=1)[:, 0])


def at_threshold(called: NDArray[np.bool_], labels: NDArray[np.int64], weights: Floats) -> dict[str, Floats]:
    """Return R values of each metric of a decision, by name.

    `ppv` and `npv` are the positive and negative predictive values at the share of positives of the images.
    The positive likelihood ratio is NaN, not infinite, where no negative is called positive.

    Args:
        called: N, whether the image is called positive.
        labels: N, 1 for positive and 0 for negative.
        weights: R N.
    """
    counted = np.stack([called & (labels == 1), ~called & (labels == 0), labels == 1, labels == 0, called])
    hits, rejections, positives, negatives, calls = (weights @ counted.T.astype(np.float64)).T
    sensitivity, specificity = hits / positives, rejections / negatives
    alarm_rate = np.where(specificity < 1, 1 - specificity, np.nan)
    return {
        "accuracy": (hits + rejections) / (positives + negatives),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "f1": 2 * hits / (positives + calls),
        "ppv": hits / calls,
        "npv": rejections / (positives + negatives - calls),
        "positive_likelihood_ratio": sensitivity / alarm_rate,
        "negative_likelihood_ratio": (1 - sensitivity) / np.where(specificity > 0, specificity, np.nan),
    }


def brier(probability: Floats, labels: NDArray[np.int64], weights: Floats) -> Floats:
    """Return R mean squared differences between probability and label."""
    return np.asarray(weights @ (probability - labels) ** 2 / weights.sum(axis=1))


def expected_calibration_error(probability: Floats, labels: NDArray[np.int64], weights: Floats) -> Floats:
    """Return R weighted means over bins of |share of positives - mean probability|.

    The definition is that of Naeini et al. (2015, Obtaining well calibrated probabilities using Bayesian
    binning, AAAI), with 15 bins of equal width. A bin includes its lower edge, the last one also 1.
    """
    bins = np.minimum(np.searchsorted(np.linspace(0, 1, ECE_BINS + 1), probability, "right"), ECE_BINS) - 1
    gap = np.zeros((len(probability), ECE_BINS))
    gap[np.arange(len(probability)), bins] = probability - labels
    return np.asarray(np.abs(weights @ gap).sum(axis=1) / weights.sum(axis=1))


def logistic_fit(
    predictor: Floats, target: Floats, weights: Floats, *, start: tuple[float, float] | None = None
) -> tuple[Floats, Floats]:
    """Return R slopes and intercepts of a logistic regression on one predictor, by Newton's method.

    If the predictor is the logit of a score, the slope is the calibration slope, which is 1 for a calibrated
    score (Cox 1958, Two further applications of a model for binary regression, Biometrika 45:562).

    Args:
        predictor: N.
        target: N, from 0 to 1.
        weights: R N.
        start: slope and intercept near the solutions, to save steps.

    Returns:
        Slopes and intercepts. They are NaN where there is no finite solution, because the predictor is
        constant or separates the classes.
    """
    found = np.full((len(weights), 2), np.nan)
    centre, scale = float(predictor.mean()), float(predictor.std())
    if not scale > 1e-12 * (1 + abs(centre)):
        return found[:, 0], found[:, 1]
    x = (predictor - centre) / scale
    powers = np.stack([np.ones_like(x), x, x * x], axis=1)  # N 3
    slope, intercept = start or (0.0, 0.0)
    at = np.tile([intercept + slope * centre, slope * scale], (len(weights), 1))  # R 2, constant first
    active = np.arange(len(weights))
    for _ in range(_NEWTON_STEPS):
        fitted = expit(at[active] @ powers[:, :2].T)
        held = weights[active]
        gradient = (held * (target - fitted)) @ powers[:, :2]
        flat, mixed, curved = ((held * fitted * (1 - fitted)) @ powers).T
        determinant = flat * curved - mixed**2
        # there is no finite solution if a class has no weight or the classes are separated
        solvable = determinant > 1e-12 * (1 + flat * curved)
        step = np.stack(
            [
                curved * gradient[:, 0] - mixed * gradient[:, 1],
                flat * gradient[:, 1] - mixed * gradient[:, 0],
            ],
            axis=1,
        )
        step = step[solvable] / determinant[solvable, None]
        active = active[solvable]
        at[active] += np.clip(step, -1, 1)
        done = (np.abs(step) < 1e-7).all(axis=1)  # the error that remains is of the order of its square
        found[active[done]] = at[active[done]]
        active = active[~done]
        if not active.size:
            break
    slopes = found[:, 1] / scale
    return slopes, found[:, 0] - slopes * centre


class BinaryMetrics:
    """All metrics of a classifier of two classes, by name, for each weighting.

    The metrics of `rank_metrics` and those at the threshold use the uncalibrated scores. `brier`, `ece` and
    `calibration_slope` treat these scores as probabilities; with calibrated scores, they are also computed
    for those, under names that end with `_calibrated`.

    Args:
        scores: N, from 0 to 1.
        labels: N, 1 for positive and 0 for negative.
        threshold: score at or above which an image is called positive; with NaN, the metrics at the
            threshold are undefined.
        calibrated: N, the scores after calibration.
        ranked: N, the scores that are ranked, if they are not `scores` themselves, as for several folds.

    Attributes:
        labels: N, as given.
        ranked: N scores that are ranked.
        probabilities: N scores that are treated as probabilities, by the suffix of their metrics' names.
    """

    def __init__(
        self,
        scores: Floats,
        labels: NDArray[np.int64],
        *,
        threshold: float = math.nan,
        calibrated: Floats | None = None,
        ranked: Floats | None = None,
    ) -> None:
        self.labels = labels
        self.ranked = scores if ranked is None else ranked
        self._ranking = Ranking(self.ranked, labels)
        self._called = None if math.isnan(threshold) else scores >= threshold
        self.probabilities = {"": scores} if calibrated is None else {"": scores, "_calibrated": calibrated}
        everything = np.ones((1, len(scores)))
        self._starts = {
            suffix: tuple(
                float(part[0]) for part in logistic_fit(logit(given), labels.astype(np.float64), everything)
            )
            for suffix, given in self.probabilities.items()
        }

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        """Return R values of each metric, NaN where undefined.

        Args:
            weights: R N.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.discrimination(weights) | self._calibration(weights)

    def discrimination(self, weights: Floats) -> dict[str, Floats]:
        """Return R values of each metric of the ranking and of the decisions, NaN where undefined.

        Args:
            weights: R N.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            return rank_metrics(*self._ranking.points(weights)) | self._decisions(weights)

    def _decisions(self, weights: Floats) -> dict[str, Floats]:
        called = np.zeros(len(self.labels), bool) if self._called is None else self._called
        values = at_threshold(called, self.labels, weights)
        if self._called is None:
            return {name: np.full(len(weights), np.nan) for name in values}
        return values

    def _calibration(self, weights: Floats) -> dict[str, Floats]:
        values: dict[str, Floats] = {}
        for suffix, probability in self.probabilities.items():
            values[f"brier{suffix}"] = brier(probability, self.labels, weights)
            values[f"ece{suffix}"] = expected_calibration_error(probability, self.labels, weights)
            slope, intercept = self._starts[suffix]
            if math.isnan(slope):  # undefined on the whole set, so undefined on every resample
                slopes = np.full(len(weights), np.nan)
            else:
                slopes, _ = logistic_fit(
                    logit(probability), self.labels.astype(np.float64), weights, start=(slope, intercept)
                )
            values[f"calibration_slope{suffix}"] = slopes
        return values


def rank_metrics(true: Floats, false: Floats) -> dict[str, Floats]:
    """Return R values of each metric that depends only on the ranking, from the points of a `Ranking`."""
    values = {
        "auc": auc(true, false),
        "partial_auc": partial_auc(true, false),
        "average_precision": average_precision(true, false),
        **{name: sensitivity_at(true, false, specificity=low) for name, low in SENSITIVITIES_AT.items()},
        **{name: specificity_at(true, false, sensitivity=low) for name, low in SPECIFICITIES_AT.items()},
    }
    undefined = (true[:, -1] == 0) | (false[:, -1] == 0)
    return {name: np.where(undefined, np.nan, value) for name, value in values.items()}


class AucOnly:
    """The AUC alone, of one or of several models on the same images.

    Args:
        scores: N scores of each model, by name.
        labels: N, 1 for positive and 0 for negative.
    """

    def __init__(self, scores: dict[str, Floats], labels: NDArray[np.int64]) -> None:
        self._rankings = {name: Ranking(given, labels) for name, given in scores.items()}

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        """Return R values for each name, NaN where undefined."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return {name: auc(*ranking.points(weights)) for name, ranking in self._rankings.items()}


class MulticlassMetrics:
    """`auc_micro`, `auc_macro`, `accuracy` and `auc_<CLASS>` of each class against the rest.

    Micro pools all pairs of image and class; macro is the mean over the classes that occur.

    Args:
        scores: N C.
        labels: N, index of the class.
        classes: C names.
    """

    def __init__(self, scores: Floats, labels: NDArray[np.int64], classes: tuple[str, ...]) -> None:
        hits = (labels[:, None] == np.arange(len(classes))).astype(np.int64)
        self._pooled = Ranking(scores.ravel(), hits.ravel())
        self._single = {name: Ranking(scores[:, index], hits[:, index]) for index, name in enumerate(classes)}
        self._right = (scores.argmax(axis=1) == labels).astype(np.float64)

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        """Return R values of each metric, NaN where undefined."""
        with np.errstate(divide="ignore", invalid="ignore"):
            single = {f"auc_{name}": auc(*ranking.points(weights)) for name, ranking in self._single.items()}
            areas = np.stack(list(single.values()), axis=1)  # R C
            there = ~np.isnan(areas)
            return {
                "auc_micro": auc(*self._pooled.points(np.repeat(weights, areas.shape[1], axis=1))),
                "auc_macro": np.where(there, areas, 0).sum(axis=1) / there.sum(axis=1),
                "accuracy": weights @ self._right / weights.sum(axis=1),
                **single,
            }
