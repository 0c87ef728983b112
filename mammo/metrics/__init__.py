"""Areas under the ROC curve, their intervals by patient, and the scores of an epoch (`epoch_scores`)."""

from mammo.metrics.auc_intervals import (
    Estimate,
    auc_difference,
    clustered_auc,
    clustered_covariance,
    clustered_multiclass_auc,
    delong_auc,
    mean_fold_auc,
    multiclass_auc_difference,
    patient_influence,
)
from mammo.metrics.kappa import quadratic_kappa
from mammo.metrics.roc_auc import auc, micro_chance, multiclass_auc

__all__ = [
    "Estimate",
    "auc",
    "auc_difference",
    "clustered_auc",
    "clustered_covariance",
    "clustered_multiclass_auc",
    "delong_auc",
    "mean_fold_auc",
    "micro_chance",
    "multiclass_auc",
    "multiclass_auc_difference",
    "patient_influence",
    "quadratic_kappa",
]
