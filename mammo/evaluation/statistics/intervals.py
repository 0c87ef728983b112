"""Intervals by resampling patients: images of one patient are correlated, so they are drawn together."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mammo.metrics import Estimate

# Function of R M weights that returns R values of each metric, by name.
Metrics = Callable[[NDArray[np.float64]], dict[str, NDArray[np.float64]]]

# Share of the resamples in which a metric must be defined to have an interval.
_DEFINED = 0.95
# Number of weights processed at once; they fit in the processor's cache.
_CHUNK = 2**17


@dataclass(frozen=True)
class Draws:
    """Resamples of the patients.

    Attributes:
        patients: P, sorted.
        counts: R P, how often each patient was drawn.
        stratum: P, 1 for a patient with a positive image, else 0.
        enough: whether each class that occurs is in at least two patients, and each stratum that is not empty
            has two; otherwise there are no intervals.
    """

    patients: NDArray[np.str_]
    counts: NDArray[np.int64]
    stratum: NDArray[np.int64]
    enough: bool

    def weights(self, clusters: NDArray[np.str_]) -> NDArray[np.float64]:
        """Return R M, how often each unit (such as an image) counts: as often as its patient was drawn.

        Args:
            clusters: M, patient of each unit.
        """
        return self.counts[:, np.searchsorted(self.patients, clusters)].astype(np.float64)


def draw_patients(
    patients: NDArray[np.str_], labels: NDArray[np.int64], *, resamples: int, rng: np.random.Generator
) -> Draws:
    """Draw patients with replacement, separately from those with and without a positive image.

    Args:
        patients: N, patient of each image.
        labels: N, 1 for positive and 0 for negative.
        resamples: R, number of resamples.
        rng: random number generator.
    """
    names, index = np.unique(patients, return_inverse=True)
    stratum = np.zeros(len(names), np.int64)
    np.maximum.at(stratum, index, labels)
    counts = np.zeros((resamples, len(names)), np.int64)
    for side in (0, 1):
        members = np.flatnonzero(stratum == side)
        if members.size:
            drawn = rng.integers(members.size, size=(resamples, members.size))
            drawn += members.size * np.arange(resamples)[:, None]
            times = np.bincount(drawn.ravel(), minlength=resamples * members.size)
            counts[:, members] = times.reshape(resamples, -1)
    enough = all(np.unique(index[labels == value]).size > 1 for value in np.unique(labels))
    enough &= all((stratum == side).sum() != 1 for side in (0, 1))  # a single patient is in every resample
    return Draws(names, counts, stratum, enough)


def evaluate(metrics: Metrics, weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return R values of each metric, computed for a part of the resamples at a time.

    Args:
        metrics: function of weights that returns the metrics.
        weights: R M.
    """
    parts = math.ceil(weights.size / _CHUNK) or 1
    found = [metrics(part) for part in np.array_split(weights, min(parts, len(weights)))]
    return {name: np.concatenate([values[name] for values in found]) for name in found[0]}


def bootstrap(
    metrics: Metrics, draws: Draws, clusters: NDArray[np.str_], *, level: float = 0.95
) -> dict[str, Estimate]:
    """Return each metric with its interval by patient: percentiles of the resamples.

    On simulated test sets of 120 and 351 patients their coverage is 93 to 97 %, as good as that of BCa
    intervals, at less cost. The share of patients with a malignant image is fixed, as in a test set selected
    by pathology; metrics that depend on it (accuracy, PPV, F1, calibration-in-the-large) are valid for
    that share. The expected calibration error has no interval: it is biased upwards in a sample and more so
    in a resample, and no bootstrap interval had sufficient coverage (percentile intervals 0 to 38 %,
    reflected ones 88 to 90 %, and 37 % if the true value is 0). The calibration slope and
    calibration-in-the-large have valid intervals.

    Args:
        metrics: function of the weights of the units; names that begin with `ece` are expected calibration
            errors.
        draws: resamples of the patients.
        clusters: M, patient of each unit.
        level: confidence level.

    Returns:
        Estimates by name. The interval is NaN if the metric is undefined in more than 5 % of the resamples,
        if all resamples have the same value (as for a perfect ranking), or if a class is in one patient only.
    """
    values = metrics(np.ones((1, len(clusters))))
    resampled = evaluate(metrics, draws.weights(clusters))
    estimates = {}
    for name, value in values.items():
        estimate = interval(float(value[0]), resampled[name], level=level)
        sound = draws.enough and not name.startswith("ece")
        estimates[name] = estimate if sound else Estimate(estimate.value, *[math.nan] * 3)
    return estimates


def interval(value: float, resampled: NDArray[np.float64], *, level: float = 0.95) -> Estimate:
    """Return a value with its interval from resamples; see `bootstrap`.

    Args:
        value: value on the whole set.
        resampled: R values, NaN where undefined.
        level: confidence level.
    """
    there = resampled[~np.isnan(resampled)]
    if math.isnan(value) or there.size < max(2, _DEFINED * resampled.size) or np.ptp(there) == 0:
        return Estimate(value, math.nan, math.nan, math.nan)
    low, high = np.quantile(there, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high), float(there.std(ddof=1)))


def widest(estimate: Estimate, others: list[Estimate]) -> Estimate:
    """Return the estimate with the union of the intervals; NaN is ignored."""
    every = [estimate, *others]
    low, high = np.array([other.low for other in every]), np.array([other.high for other in every])
    if np.isnan(low).all():
        return estimate
    return Estimate(estimate.value, float(np.nanmin(low)), float(np.nanmax(high)), estimate.standard_error)
