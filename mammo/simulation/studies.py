"""The simulations: coverage of intervals, bias of the AUC over folds, type I error of a comparison."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo.evaluation.predictions import Units
from mammo.evaluation.statistics.calibration import fit_platt
from mammo.evaluation.statistics.fold_scores import ranked_within_folds
from mammo.evaluation.statistics.headline_intervals import headline_intervals
from mammo.evaluation.statistics.intervals import bootstrap, draw_patients
from mammo.evaluation.statistics.weighted_metrics import AucOnly, BinaryMetrics, expit, logit
from mammo.metrics import (
    Estimate,
    auc,
    auc_difference,
    clustered_auc,
    clustered_covariance,
    delong_auc,
    mean_fold_auc,
)
from mammo.simulation.designs import Design, draw, midway, true_metrics

Row = dict[str, Any]
_Method = Callable[..., Estimate]

_RESAMPLES = 500  # of the bootstrap
_FOLDS = 5
_BIASED = "calibrated on its labels"
# women and malignant women
_SETS = ((350, 140), (350, 35), (350, 20), (100, 40), (100, 20), (40, 20))
_FEW = ((40, 16), (350, 7), (40, 4), (100, 2))
_AUCS = (0.6, 0.75, 0.85, 0.95, 0.97)
_CORRELATIONS = (0.0, 0.5, 0.9)
# women and prevalence
_FOLD_SETS = ((60, 0.2), (100, 0.4), (350, 0.4), (350, 0.1))


def interval_coverage(*, replicates: int, seed: int) -> list[Row]:
    """Share of the 95 % intervals that contain the true AUC, of each method, in each design.

    The percentile bootstrap is run for one correlation only, because it takes longest.
    """
    rows = []
    for women, malignant in (*_SETS, *_FEW):
        for area in _AUCS:
            for correlation in _CORRELATIONS:
                design = Design(women, malignant, area, correlation)
                methods: dict[str, Callable[..., Estimate]] = {
                    "clustered_auc": clustered_auc,
                    "delong": delong_auc,
                }
                if correlation == 0.5:
                    methods["bootstrap"] = _bootstrap
                rng = np.random.default_rng(seed)
                rows.append(vars(design) | _coverage(design, methods, rng, replicates))
    return rows


def _coverage(
    design: Design, methods: Mapping[str, _Method], rng: np.random.Generator, replicates: int
) -> Row:
    inside = dict.fromkeys(methods, 0)
    above = dict.fromkeys(methods, 0)  # intervals that flatter: all of it is above the truth
    for _ in range(replicates):
        scores, labels, woman = draw(design, rng)
        for name, method in methods.items():
            found = method(scores[:, 0], labels, woman)
            inside[name] += found.low <= design.auc <= found.high
            above[name] += found.low > design.auc
    return {name: inside[name] / replicates for name in methods} | {
        f"{name} too high": above[name] / replicates for name in methods
    }


def _bootstrap(scores: NDArray[np.float64], labels: NDArray[np.int64], woman: NDArray[np.int64]) -> Estimate:
    names = woman.astype(str)
    draws = draw_patients(names, labels, resamples=_RESAMPLES, rng=np.random.default_rng(0))
    return bootstrap(AucOnly({"auc": scores}, labels), draws, names)["auc"]


def metric_coverage(*, replicates: int, seed: int) -> list[Row]:
    """Share of the 95 % intervals of an evaluation, and of percentile bootstraps, that contain the truth.

    For each metric of `headline_intervals` except the AUC; the threshold is midway between the classes.
    """
    rows = []
    for women, malignant in (*_SETS, *_FEW):
        for area in (0.75, 0.9):
            design = Design(women, malignant, area, 0.5)
            truth = true_metrics(design)
            inside = {name: np.zeros(2) for name in truth}
            rng = np.random.default_rng(seed)
            for _ in range(replicates):
                scores, labels, woman = draw(design, rng)
                names = woman.astype(str)
                units = Units(expit(scores[:, 0] - midway(design)), labels, names)
                metrics = BinaryMetrics(units.score, labels, threshold=0.5)
                draws = draw_patients(names, labels, resamples=_RESAMPLES, rng=np.random.default_rng(0))
                resampled = bootstrap(metrics.discrimination, draws, names)
                shown = headline_intervals(units, metrics, resampled, called=units.score >= 0.5)
                for name, true in truth.items():
                    inside[name] += [
                        found[name].low <= true <= found[name].high for found in (shown, resampled)
                    ]
            shares = {name: counts / replicates for name, counts in inside.items()}
            rows.append(
                {"women": women, "malignant": malignant, "auc": area}
                | {name: share[0] for name, share in shares.items()}
                | {f"{name} bootstrap": share[1] for name, share in shares.items()}
            )
    return rows


def fold_bias(*, replicates: int, seed: int) -> list[Row]:
    """Mean AUC of scores without information in k-fold cross-validation, by how the folds are combined.

    Each fold's network has its own scale and offset. `calibrated on its labels` is the procedure that this
    software does not use: it fits Platt's map to the held-out labels of each fold and pools the results.
    """
    rows = []
    for women, prevalence in _FOLD_SETS:
        rng = np.random.default_rng(seed)
        found: dict[str, list[float]] = {
            "mean of folds": [],
            "pooled ranks": [],
            "calibrated on its labels": [],
        }
        false, covered = 0, 0
        for _ in range(replicates):
            scores, labels, woman, folds = _noise(women, prevalence, rng)
            estimate = mean_fold_auc(scores, labels, woman, folds)
            found["mean of folds"].append(estimate.value)
            false += estimate.low > 0.5
            covered += estimate.low <= 0.5 <= estimate.high
            found["pooled ranks"].append(auc(ranked_within_folds(scores, folds), labels))
            found[_BIASED].append(auc(_calibrated(expit(scores), labels, folds), labels))
        rows.append(
            {"women": women, "prevalence": prevalence}
            | {name: float(np.nanmean(values)) for name, values in found.items()}
            | {"error of the means": float(np.nanstd(found["mean of folds"]) / math.sqrt(replicates))}
            | {"coverage": covered / replicates, "lower bound above 0.5": false / replicates}
        )
    return rows


def _noise(women: int, prevalence: float, rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
    scores, _, woman = draw(Design(women, 0, 0.5, 0.5), rng)
    malignant = rng.random(women) < prevalence
    fold = rng.permutation(np.arange(women) % _FOLDS)
    offset, scale = rng.normal(size=_FOLDS), np.exp(0.3 * rng.normal(size=_FOLDS))
    folds = fold[woman]
    return offset[folds] + scale[folds] * scores[:, 0], malignant[woman].astype(np.int64), woman, folds


def _calibrated(
    probability: NDArray[np.float64], labels: NDArray[np.int64], folds: NDArray[np.int64]
) -> NDArray[np.float64]:
    together = np.empty(len(labels))
    for fold in np.unique(folds):
        held = folds == fold
        slope, intercept = fit_platt(probability[held], labels[held])
        together[held] = expit(slope * logit(probability[held]) + intercept)
    return together


def comparison_error(*, replicates: int, seed: int) -> list[Row]:
    """Share of false positives at p < 0.05 when two models of equal AUC are compared, in each design."""
    rows = []
    for women, malignant in (*_SETS, *_FEW):
        for area in (0.75, 0.9):
            design = Design(women, malignant, area, 0.5)
            rng = np.random.default_rng(seed)
            paired = delong = 0
            for _ in range(replicates):
                scores, labels, woman = draw(design, rng, models=2)
                estimate, p = auc_difference(scores[:, 0], scores[:, 1], labels, woman)
                paired += p < 0.05
                covariance = clustered_covariance(scores, labels, woman)
                variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
                delong += abs(estimate.value) > 1.959964 * math.sqrt(max(variance, 0))
            rows.append(vars(design) | {"paired t": paired / replicates, "delong": delong / replicates})
    return rows


STUDIES = {
    "intervals": interval_coverage,
    "metrics": metric_coverage,
    "folds": fold_bias,
    "comparison": comparison_error,
}
