"""Intervals of proportions, also of correlated units such as the images of a patient."""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mammo.metrics import Estimate


def wilson_interval(share: float, count: float, *, level: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a proportion (Wilson 1927, Probable inference, JASA 22:209).

    Args:
        share: observed proportion.
        count: number of independent units, above 0; may be a fraction.
        level: confidence level.
    """
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = math.sqrt(z2 * (share * (1 - share) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    # rounding may put a bound that is exactly 0 or 1 just beyond it
    return (0.0 if share == 0 else middle - half), (1.0 if share == 1 else middle + half)


def clustered_wilson(hits: ArrayLike, clusters: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Return the share of hits with an interval that accounts for the similarity of the units of a cluster.

    The interval is that of Wilson for the effective number of units: N divided by the design effect, as in
    Rao and Scott (1992, A simple method for the analysis of clustered binary data, Biometrics 48:577) and
    Saha, Miller and Wang (2016, A comparison of some approximate confidence intervals for a single proportion
    for clustered binary outcome data, International Journal of Biostatistics 12). The design effect is the
    variance estimated between clusters divided by the variance of independent units, and at least 1. It
    cannot be estimated if all units or no unit are hits, or if there is one cluster; it is then that of units
    which are identical within a cluster, sum(size^2) / N.

    If every cluster has one unit, the interval is exactly that of Wilson.

    Args:
        hits: N, 1 or True for a hit and 0 for a miss.
        clusters: N, cluster of each unit, such as its patient.
        level: confidence level.

    Returns:
        The estimate; all its values are NaN if there are no units. The standard error includes the design
        effect, and is 0 for a share of 0 or 1, which still have an interval.
    """
    hit = np.asarray(hits, np.float64)
    if not hit.size:
        return Estimate(*[math.nan] * 4)
    share = float(hit.mean())
    effect = _design_effect(hit, np.asarray(clusters), share)
    low, high = wilson_interval(share, hit.size / effect, level=level)
    return Estimate(share, low, high, math.sqrt(share * (1 - share) * effect / hit.size))


def _design_effect(hit: NDArray[np.float64], clusters: ArrayLike, share: float) -> float:
    _, cluster, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    count = len(sizes)
    if count < 2 or share in (0, 1):
        return float(np.square(sizes).sum() / hit.size)
    residuals = np.bincount(cluster, hit - share)
    between = count / (count - 1) * float(residuals @ residuals) / hit.size**2
    return max(1.0, between / (share * (1 - share) / (hit.size - 1)))
