"""Metrics of a model with their intervals, by image, breast and patient, and by subgroup."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo.data.samples import PLURALS
from mammo.errors import DataError
from mammo.evaluation.number_format import aligned, as_json, finite, number, number_and_interval
from mammo.evaluation.predictions import UNITS, Predictions, Reduce, Units, by_unit, counted
from mammo.evaluation.statistics.calibration import Calibration
from mammo.evaluation.statistics.class_performance import (
    classes_table,
    confusion,
    kappa_estimate,
    measure_classes,
    own_table,
    seen_notes,
)
from mammo.evaluation.statistics.clinical_metrics import ClinicalMetrics
from mammo.evaluation.statistics.fold_scores import ranked_within_folds
from mammo.evaluation.statistics.headline_intervals import headline_intervals, too_few
from mammo.evaluation.statistics.intervals import Draws, bootstrap, draw_patients
from mammo.evaluation.statistics.subgroups import (
    Chosen,
    check_subgroups,
    compare_subgroups,
    measure_subgroups,
    subgroups_table,
)
from mammo.evaluation.statistics.weighted_metrics import BinaryMetrics, MulticlassMetrics
from mammo.metrics import Estimate, clustered_multiclass_auc, micro_chance

_NO_RULE = 0.5
_ALWAYS = ("image", "breast", "patient")  # keys of the result also where they are None
_AUC = "score interval by patient with a t quantile, see mammo.metrics.clustered_auc"
_SHOWN = {
    "auc": "AUC",
    "auc_delong": "AUC, DeLong by patient",
    "auc_pooled": "AUC, pooled ranks of the folds",
    "partial_auc": "partial AUC, specificity >= 80 %",
    "average_precision": "average precision",
    "sensitivity_at_80_specificity": "sensitivity at 80 % specificity",
    "sensitivity_at_90_specificity": "sensitivity at 90 % specificity",
    "specificity_at_80_sensitivity": "specificity at 80 % sensitivity",
    "specificity_at_90_sensitivity": "specificity at 90 % sensitivity",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "sensitivity_validation": "sensitivity, validation {samples}",
    "specificity_validation": "specificity, validation {samples}",
    "f1": "F1",
    "ppv": "PPV",
    "npv": "NPV",
    "ppv_at_prevalence": "PPV at a prevalence of {prevalence:g}",
    "npv_at_prevalence": "NPV at a prevalence of {prevalence:g}",
    "positive_likelihood_ratio": "positive likelihood ratio",
    "negative_likelihood_ratio": "negative likelihood ratio",
    "brier": "Brier score",
    "log_loss": "log loss",
    "ece": "calibration error (ECE)",
    "calibration_slope": "calibration slope",
    "calibration_in_the_large": "calibration-in-the-large",
    "observed_expected_ratio": "observed / expected (O:E)",
    "brier_calibrated": "Brier score, calibrated",
    "log_loss_calibrated": "log loss, calibrated",
    "ece_calibrated": "calibration error, calibrated",
    "calibration_slope_calibrated": "calibration slope, calibrated",
    "calibration_in_the_large_calibrated": "calibration-in-the-large, calibrated",
    "observed_expected_ratio_calibrated": "observed / expected (O:E), calibrated",
}


def measure_performance(
    predictions: Predictions,
    *,
    calibration: Calibration | None,
    resamples: int = 2000,
    seed: int = 0,
    reduce: Reduce = "mean",
    prevalence: float | None = None,
    subgroups: Chosen | None = None,
) -> dict[str, Any]:
    """Return all metrics of a task with 95 % intervals by patient, as plain values for JSON.

    They are metrics of malignancy, or of the positive classes of another task. Those of a task without a
    positive class are in `measure_classes`.

    For the four classes of lesion type and pathology, the score of malignancy is the sum of the scores of
    the two malignant classes, and `multiclass` has the metrics of the four classes.

    Args:
        predictions: predictions of the images to evaluate.
        calibration: thresholds and calibration fixed on validation images; without it, the threshold is 0.5
            and no score is calibrated.
        resamples: number of resamples of the patients.
        seed: seed of the resamples.
        reduce: how the scores of the images of a breast or patient become one score.
        prevalence: share of malignant units where the model is to be used, for PPV and NPV; None for none.
        subgroups: columns of the subgroups with their cut points, see `measure_subgroups`; None for the
            usual ones.

    Returns:
        `task` and `words`, its words for positive and negative (the keys below always say malignant and
        benign); `unit`, what a sample is; `n`; for each of `image`, `breast`, `patient` and the sample's unit
        the metrics as `{"value", "low", "high"}` with `threshold` and `confusion` (rows: benign, malignant;
        columns: called benign, called malignant), or None if the unit is left out; `multiclass` or None;
        `subgroups` and `subgroup_tests`; `notes`, one sentence for each result that is left out, and for
        scored patients whom a run has seen; `method`; `provenance`. Other values of None mean undefined.
    """
    check_subgroups(subgroups, predictions.table, task=predictions.task)
    if not predictions.task.positive:
        return measure_classes(predictions)
    draws = draw_patients(
        predictions.patients,
        predictions.malignant,
        resamples=resamples,
        rng=np.random.default_rng(seed),
    )
    result: dict[str, Any] = {"source": predictions.source, "task": predictions.task.name}
    result |= {"unit": predictions.unit, **dict.fromkeys(_ALWAYS)}
    result |= {"words": dict(predictions.task.words), "n": {}, "notes": _notes(predictions)}
    result["n"] = {
        "images": len(set(predictions.image_ids)),
        "malignant_images": None,
        "patients": len(draws.patients),
        "malignant_patients": int(draws.stratum.sum()),
        "breasts": None,
        "malignant_breasts": None,
    }
    few: dict[str, list[str]] = {}
    for unit in predictions.units:
        try:
            units = by_unit(predictions, unit, reduce=reduce)
        except DataError as error:
            result[unit] = None
            result["notes"].append(str(error))
            continue
        if note := too_few(units):
            few.setdefault(note, []).append(unit)
        if unit != "patient":
            result["n"] |= {PLURALS[unit]: len(units.label)}
            result["n"] |= {f"malignant_{PLURALS[unit]}": int(units.label.sum())}
        threshold = calibration.threshold(unit, reduce) if calibration else _NO_RULE
        if math.isnan(threshold):
            result["notes"].append(
                f"no operating threshold for the {unit}: the validation {PLURALS[predictions.unit]} gave none"
            )
        probability = calibration.probabilities(predictions, unit, reduce) if calibration else None
        result[unit] = _of_unit(units, probability, threshold, prevalence, draws)
        if calibration:
            result[unit] |= {
                f"{name}_validation": {"value": value, "low": None, "high": None}
                for name, value in calibration.on_validation(unit, reduce).items()
            }
    result["notes"] += [f"by {', '.join(units)}: {note}" for note, units in few.items()]
    result["multiclass"] = _multiclass(predictions, draws) if len(predictions.classes) > 2 else None
    result["subgroups"] = measure_subgroups(
        predictions,
        probability=(calibration.apply(predictions) if calibration else predictions).malignancy,
        threshold=calibration.threshold(predictions.unit, reduce) if calibration else _NO_RULE,
        resamples=resamples,
        seed=seed,
        columns=subgroups,
    )
    result["subgroup_tests"] = compare_subgroups(predictions, columns=subgroups)
    result["method"] = {
        "interval": "percentile bootstrap of patients, stratified by whether a patient has a "
        f"{predictions.task.words['positive']} image",
        "auc": _AUC if predictions.folds is None else f"mean of the folds' AUCs; {_AUC}",
        "auc_pooled": "ranks within each fold, pooled; no label is used to make the folds comparable",
        "proportions": "sensitivity, specificity, accuracy: Wilson's interval with a design effect",
        "smooth": "average precision, partial AUC, PPV, NPV, balanced accuracy, F1: jackknife of patients",
        "level": 0.95,
        "resamples": resamples,
        "seed": seed,
        "reduce": reduce,
        "prevalence": prevalence,
        "threshold": _rule(calibration) if calibration else f"{_NO_RULE}, not calibrated",
        "partial_auc": "area at specificity >= 0.8, McClish-standardised: 0.5 is chance, 1 perfect",
        "log_loss": "log loss",
        "ece": "15 bins of equal width; no interval, because no bootstrap interval has sufficient coverage",
        "auc_delong": "DeLong 1988 in Obuchowski's form for clusters, interval on the logit scale",
        "subgroup_tests": "Wald chi-square of equal logit AUCs, covariance by patient; Holm over the columns",
        "calibration": calibration.to_dict() if calibration else None,
    }
    result["provenance"] = [record.to_dict() for record in predictions.provenance]
    return result


def _rule(calibration: Calibration) -> str:
    target = "" if calibration.target is None else f" of at least {calibration.target:g} on validation images"
    return f"{calibration.rule}{target}"


def _notes(predictions: Predictions) -> list[str]:
    number = len(predictions.samples)
    notes = seen_notes(predictions)
    there = np.unique(predictions.malignant)
    if len(there) == 2:
        return notes
    only = predictions.task.words["positive" if there[0] else "negative"]
    return [
        *notes,
        f"all {number} {PLURALS[predictions.unit]} are {only}: metrics that compare classes are undefined",
    ]


def _of_unit(
    units: Units,
    calibrated: NDArray[np.float64] | None,
    threshold: float,
    prevalence: float | None,
    draws: Draws,
) -> dict[str, Any]:
    metrics = BinaryMetrics(
        units.score,
        units.label,
        threshold=threshold,
        calibrated=calibrated,
        ranked=None if units.fold is None else ranked_within_folds(units.score, units.fold),
    )
    estimates = bootstrap(ClinicalMetrics(metrics, prevalence=prevalence), draws, units.cluster)
    called = None if math.isnan(threshold) else units.score >= threshold
    found = _plain(estimates | headline_intervals(units, metrics, estimates, called=called))
    found["threshold"] = finite(threshold)
    found["confusion"] = None
    if called is not None:
        found["confusion"] = confusion(units.label, called.astype(np.int64), 2).tolist()
    return found


def _multiclass(predictions: Predictions, draws: Draws) -> dict[str, Any]:
    metrics = MulticlassMetrics(predictions.scores, predictions.labels, predictions.classes)
    estimates = bootstrap(metrics, draws, predictions.patients)
    estimates["auc_macro"] = clustered_multiclass_auc(
        predictions.scores, predictions.labels, predictions.patients
    )
    called = predictions.scores.argmax(axis=1)
    if predictions.task.ordered:
        estimates["kappa"] = kappa_estimate(predictions.labels, called, predictions.patients)
    found = _plain(estimates)
    found["auc_micro_chance"] = micro_chance(predictions.labels, len(predictions.classes))
    found["classes"] = list(predictions.classes)
    found["confusion"] = confusion(predictions.labels, called, len(predictions.classes)).tolist()
    return found


def _plain(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: as_json(estimate) for name, estimate in estimates.items()}


def performance_table(performance: Mapping[str, Any]) -> str:
    """Format the result of `measure_performance` as a table, with intervals in brackets, `-` if undefined."""
    if "words" not in performance:
        return classes_table(performance)
    n, words, first = performance["n"], performance["words"], performance["unit"]
    lines = [
        f"{counted(n, first)} of {n['patients']} patients, {n[f'malignant_{PLURALS[first]}']} "
        f"{words['positive']}"
    ]
    units = [unit for unit in UNITS if performance.get(unit) is not None]
    rows = [["", *units]]
    for name, shown in _SHOWN.items():
        if name in performance[first]:
            shown = shown.format(prevalence=performance["method"]["prevalence"], samples=PLURALS[first])
            rows.append([shown, *(number_and_interval(performance[unit].get(name)) for unit in units)])
    rows.append(
        ["operating threshold", *(number(performance[unit]["threshold"], missing="-") for unit in units)]
    )
    lines += ["", *aligned(rows)]
    if performance["multiclass"]:
        rows = [
            [name, number_and_interval(value)]
            for name, value in performance["multiclass"].items()
            if isinstance(value, dict)
        ]
        lines += ["", *aligned([[f"{len(performance['multiclass']['classes'])} classes", first], *rows])]
    lines += subgroups_table(
        performance["subgroups"], performance["subgroup_tests"], words, samples=PLURALS[first]
    )
    lines += own_table(performance)
    method = performance["method"]
    lines += [
        "",
        *performance["notes"],
        f"95 % intervals of AUC: {method['auc']}",
        f"other 95 % intervals: {method['interval']},",
        f"{method['resamples']} resamples",
    ]
    return "\n".join(lines)
