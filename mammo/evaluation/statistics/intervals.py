"""Intervals by resampling patients: one woman's images are alike, so they are drawn together."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mammo.metrics import Estimate

# R values of each score by name, of R M weights.
Metrics = Callable[[NDArray[np.float64]], dict[str, NDArray[np.float64]]]

# A score that fewer of the resamples define has no interval.
_DEFINED = 0.95
# Weights worked on at once, which stay in the processor's cache.
_CHUNK = 2**17


@dataclass(frozen=True)
class Draws:
    """Resamples of the patients.

    Attributes:
        patients: P, sorted.
        counts: R P, how often each patient was drawn.
        stratum: P, 1 for a patient with a positive image, else 0.
        enough: whether each present class is in two patients or more, without which there is no
            interval.
    """

    patients: NDArray[np.str_]
    counts: NDArray[np.int64]
    stratum: NDArray[np.int64]
    enough: bool

    def weights(self, clusters: NDArray[np.str_]) -> NDArray[np.float64]:
        """R M, how often each image (or other unit) counts: as often as its patient, all or none.

        Args:
            clusters: M, the patient of each.
        """
        return self.counts[:, np.searchsorted(self.patients, clusters)].astype(np.float64)


def draw_patients(
    patients: NDArray[np.str_], labels: NDArray[np.int64], *, resamples: int, rng: np.random.Generator
) -> Draws:
    """Draw patients with replacement; the numbers with and without a positive image stay.

    Args:
        patients: N, the patient of each image.
        labels: N, 1 for positive and 0 for negative.
        resamples: R.
        rng: draws them.
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
    return Draws(names, counts, stratum, enough)


def evaluate(metrics: Metrics, weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """R values of each score, a part of the resamples at a time.

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
    """Each score with its interval by patient: percentiles of the resamples.

    Their coverage is as good as that of BCa intervals on simulated test sets of 120 and 351 patients, 93 to
    97 %, at less cost. The share of patients with a malignant image counts as given, as it is in a test set
    that was put together by pathology: what depends on it (accuracy, precision, F1, calibration intercept) is
    for that share. The expected calibration error has no interval: it is biased upwards in a sample and more
    so in a resample, and no bootstrap was found that covers it (percentiles 0 to 38 %, reflected ones 88 to
    90 %, and 37 % where the truth is 0); the calibration slope and intercept have sound ones.

    Args:
        metrics: function of the weights of the units; names that begin with `ece` are expected calibration
            errors.
        draws: resamples of the patients.
        clusters: M, the patient of each unit.
        level: confidence level.

    Returns:
        NaN for the interval where a score is undefined in more than 5 % of the resamples, all resamples
        agree (as with a perfect ranking), or a class is in one patient only.
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
    """The interval of a value from its resamples, see `bootstrap`.

    Args:
        value: value on the whole set.
        resampled: R, NaN where undefined.
        level: confidence level.
    """
    there = resampled[~np.isnan(resampled)]
    if math.isnan(value) or there.size < max(2, _DEFINED * resampled.size) or np.ptp(there) == 0:
        return Estimate(value, math.nan, math.nan, math.nan)
    low, high = np.quantile(there, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high), float(there.std(ddof=1)))
