"""The intervals of the AUC and of the proportions at the threshold, by patient, also with few patients."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mammo.evaluation.predictions import Units
from mammo.evaluation.statistics.proportions import clustered_wilson
from mammo.metrics import Estimate, clustered_auc, delong_auc, mean_fold_auc

# Fewest malignant and fewest benign patients for an interval that keeps its coverage.
FEW = 10


def headline_intervals(
    units: Units, resampled: Mapping[str, Estimate], *, called: NDArray[np.bool_] | None
) -> dict[str, Estimate]:
    """Return the AUC, and the sensitivity and specificity at the threshold, with their intervals.

    The AUC has the interval of `clustered_auc`, of `mean_fold_auc` if the scores are of several folds; the
    proportions have that of `clustered_wilson`. Below 10 malignant or benign patients no method keeps its
    coverage, and the interval is the widest of all methods.

    Args:
        units: images, breasts or patients.
        resampled: estimates of the bootstrap by name, see `bootstrap`.
        called: M, whether each unit is called malignant; None without a threshold.

    Returns:
        `auc`, `auc_delong` and, if there is a threshold, `sensitivity` and `specificity`; of several folds
        also `auc_pooled`, of the ranks within the folds.
    """
    score, label, patients = units.score, units.label, units.cluster
    usual = delong_auc(score, label, patients)
    if units.fold is None:
        area, others = clustered_auc(score, label, patients), [usual, resampled["auc"]]
        found = {"auc_delong": usual}
    else:
        area, others = mean_fold_auc(score, label, patients, units.fold), []
        pooled = resampled["auc"]
        found = {"auc_pooled": pooled}
    few = bool(too_few(units))
    found["auc"] = _widest(area, others) if few else area
    if called is not None:
        for name, held, right in (("sensitivity", label == 1, called), ("specificity", label == 0, ~called)):
            share = clustered_wilson(right[held], patients[held])
            found[name] = _widest(share, [resampled[name]]) if few else share
    return found


def too_few(units: Units) -> str | None:
    """Return the sentence for the report where patients are too few for an interval; None elsewhere."""
    for label, name in ((1, "malignant"), (0, "benign")):
        patients = len(np.unique(units.cluster[units.label == label]))
        if 0 < patients < FEW:
            return (
                f"too few to say: {patients} patients with {name} images, {FEW} needed; the intervals of the "
                "AUC, sensitivity and specificity are the widest of several methods and may be too narrow"
            )
    return None


def _widest(estimate: Estimate, others: list[Estimate]) -> Estimate:
    """Return the estimate with the union of the intervals; NaN is ignored."""
    every = [estimate, *others]
    low, high = np.array([other.low for other in every]), np.array([other.high for other in every])
    if np.isnan(low).all():
        return estimate
    return Estimate(estimate.value, float(np.nanmin(low)), float(np.nanmax(high)), estimate.standard_error)
