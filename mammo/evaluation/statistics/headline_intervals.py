"""The intervals of the AUC, the proportions and the smooth metrics, by patient, also with few patients."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mammo.evaluation.number_format import count_of
from mammo.evaluation.predictions import Units
from mammo.evaluation.statistics.intervals import widest
from mammo.evaluation.statistics.jackknife import jackknife
from mammo.evaluation.statistics.proportions import clustered_wilson
from mammo.evaluation.statistics.weighted_metrics import SENSITIVITIES_AT, SPECIFICITIES_AT, BinaryMetrics
from mammo.metrics import Estimate, clustered_auc, delong_auc, mean_fold_auc

# Fewest malignant and fewest benign patients for an interval that keeps its coverage.
FEW = 10
_ROUNDING = 1e-9


def headline_intervals(
    units: Units,
    metrics: BinaryMetrics,
    resampled: Mapping[str, Estimate],
    *,
    called: NDArray[np.bool_] | None,
) -> dict[str, Estimate]:
    """Return the metrics that have a better interval than percentiles of a bootstrap, with this interval.

    The AUC has the interval of `clustered_auc`, of `mean_fold_auc` if the scores are of several folds; the
    proportions have that of `clustered_wilson`, other metrics that change smoothly that of `jackknife`, and
    predictive values too unless they are 0 or 1. Below 10 malignant or benign patients the interval of all
    but the AUC, whose interval keeps its coverage, is the widest of all methods. Sensitivities at a
    specificity, and the reverse, have the union of Wilson's interval at the observed threshold and of that of
    the bootstrap.

    Args:
        units: images, breasts or patients.
        metrics: metrics of these units.
        resampled: estimates of the bootstrap by name, see `bootstrap`.
        called: M, whether each unit is called malignant; None without a threshold.

    Returns:
        `auc`, `auc_delong`, `average_precision`, `partial_auc`, sensitivities at a specificity and the
        reverse; with a threshold also `sensitivity`, `specificity`, `accuracy`, `ppv`, `npv`,
        `balanced_accuracy` and `f1`; of several folds also `auc_pooled`, of the ranks within the folds.
    """
    score, label, patients = units.score, units.label, units.cluster
    left_out = jackknife(metrics.discrimination, label, patients)
    found = {name: left_out[name] for name in ("average_precision", "partial_auc")}
    if called is not None:
        found |= {name: left_out[name] for name in ("balanced_accuracy", "f1")}
        malignant = label == 1
        for name, held, right in (
            ("sensitivity", malignant, called),
            ("specificity", ~malignant, ~called),
            ("ppv", called, malignant),
            ("npv", ~called, ~malignant),
            ("accuracy", np.full(len(label), True), called == malignant),
        ):
            share = clustered_wilson(right[held], patients[held])
            # the share of malignant units is fixed, so predictive values vary less than free proportions
            inner = name in ("ppv", "npv") and 0 < share.value < 1
            found[name] = left_out[name] if inner else share
    for name, share in _shares_at_targets(units, metrics.ranked).items():
        found[name] = widest(share, [resampled[name]])  # Wilson's takes the threshold as fixed
    if too_few(units):
        found = {name: widest(estimate, [resampled[name]]) for name, estimate in found.items()}
    if units.fold is None:
        usual = delong_auc(score, label, patients)
        found |= {"auc": clustered_auc(score, label, patients), "auc_delong": usual}
    else:
        found |= {"auc": mean_fold_auc(score, label, patients, units.fold), "auc_pooled": resampled["auc"]}
    return found


def _shares_at_targets(units: Units, ranked: NDArray[np.float64]) -> dict[str, Estimate]:
    """Return the sensitivities at a specificity and the reverse, at thresholds taken as fixed."""
    malignant = units.label == 1
    if malignant.all() or not malignant.any():
        return {}
    # shares of the malignant and of the benign units whose score is at least that of each unit
    recall, alarms = (
        1 - np.searchsorted(np.sort(ranked[held]), ranked) / held.sum() for held in (malignant, ~malignant)
    )
    found = {}
    for name, low in SENSITIVITIES_AT.items():
        called = alarms <= 1 - low + _ROUNDING
        found[name] = clustered_wilson(called[malignant], units.cluster[malignant])
    for name, low in SPECIFICITIES_AT.items():
        called = ranked >= ranked[recall >= low - _ROUNDING].max()
        found[name] = clustered_wilson(~called[~malignant], units.cluster[~malignant])
    return found


def too_few(units: Units) -> str | None:
    """Return the sentence for the report where patients are too few for an interval; None elsewhere."""
    for label, name in ((1, units.words["positive"]), (0, units.words["negative"])):
        patients = len(np.unique(units.cluster[units.label == label]))
        if 0 < patients < FEW:
            return (
                f"too few to say: {count_of(patients, 'patient')} with {name} cases, {FEW} needed; the "
                "intervals at the threshold are the widest of several methods, and all intervals may be too "
                "narrow"
            )
    return None
