"""Metrics of a model with their intervals, by image, breast and patient, and by subgroup."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo.errors import DataError
from mammo.evaluation.number_format import aligned, as_json, finite, number, number_and_interval
from mammo.evaluation.predictions import UNITS, Predictions, Reduce, Unit, Units, by_unit
from mammo.evaluation.seen_patients import describe_seen
from mammo.evaluation.statistics.calibration import Calibration
from mammo.evaluation.statistics.intervals import Draws, bootstrap, draw_patients
from mammo.evaluation.statistics.weighted_metrics import AucOnly, BinaryMetrics, MulticlassMetrics
from mammo.metrics import Estimate, clustered_auc

SUBGROUPS = ("density", "abnormality_type", "view", "subtlety", "assessment", "laterality")
# Number of patients of each class that a subgroup needs for an AUC.
SMALLEST_GROUP = 5
_NO_RULE = 0.5
_SHOWN = {
    "auc": "AUC",
    "auc_delong": "AUC, DeLong by patient",
    "auc_delong_images": "AUC, DeLong by image",
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
    "f1": "F1",
    "brier": "Brier score",
    "ece": "calibration error (ECE)",
    "calibration_slope": "calibration slope",
    "calibration_intercept": "calibration intercept",
    "brier_calibrated": "Brier score, calibrated",
    "ece_calibrated": "calibration error, calibrated",
    "calibration_slope_calibrated": "calibration slope, calibrated",
    "calibration_intercept_calibrated": "calibration intercept, calibrated",
}


def measure_performance(
    predictions: Predictions,
    *,
    calibration: Calibration | None,
    resamples: int = 2000,
    seed: int = 0,
    reduce: Reduce = "mean",
) -> dict[str, Any]:
    """Return all metrics of malignancy with 95 % intervals by patient, as plain values for JSON.

    For the four classes of lesion type and pathology, the score of malignancy is the sum of the scores of
    the two malignant classes, and `multiclass` has the metrics of the four classes.

    Args:
        predictions: predictions of the images to evaluate.
        calibration: calibration fixed on validation images; without it, the threshold is 0.5 and no score is
            calibrated.
        resamples: number of resamples of the patients.
        seed: seed of the resamples.
        reduce: how the scores of the images of a breast or patient become one score.

    Returns:
        `n`; for each of `image`, `breast` and `patient` the metrics as `{"value", "low", "high"}` with
        `threshold` and `confusion` (rows: benign, malignant; columns: called benign, called malignant), or
        None if the unit is left out; `multiclass` or None; `subgroups`; `notes`, one sentence for each result
        that is left out, and for scored patients whom a run has seen; `method`; `provenance`. Other values
        of None mean undefined.
    """
    draws = draw_patients(
        predictions.patients,
        predictions.malignant,
        resamples=resamples,
        rng=np.random.default_rng(seed),
    )
    result: dict[str, Any] = {"source": predictions.source, "n": {}, "notes": _notes(predictions)}
    result["n"] = {
        "images": len(predictions.images),
        "malignant_images": int(predictions.malignant.sum()),
        "patients": len(draws.patients),
        "malignant_patients": int(draws.stratum.sum()),
        "breasts": None,
        "malignant_breasts": None,
    }
    for unit in UNITS:
        try:
            units = by_unit(predictions, unit, reduce=reduce)
        except DataError as error:
            result[unit] = None
            result["notes"].append(str(error))
            continue
        if unit == "breast":
            result["n"].update(breasts=len(units.label), malignant_breasts=int(units.label.sum()))
        threshold = calibration.threshold(unit, reduce) if calibration else _NO_RULE
        if math.isnan(threshold):
            result["notes"].append(f"no operating threshold for the {unit}: the validation images gave none")
        probability = calibration.probabilities(predictions, unit, reduce) if calibration else None
        result[unit] = _of_unit(unit, units, probability, threshold, draws)
    result["multiclass"] = _multiclass(predictions, draws) if len(predictions.classes) > 2 else None
    result["subgroups"] = _subgroups(predictions, resamples=resamples, seed=seed)
    result["method"] = {
        "interval": "percentile bootstrap of patients, stratified by whether a patient has a malignant image",
        "level": 0.95,
        "resamples": resamples,
        "seed": seed,
        "reduce": reduce,
        "threshold": calibration.rule if calibration else f"{_NO_RULE}, not calibrated",
        "partial_auc": "area at specificity >= 0.8, McClish-standardised: 0.5 is chance, 1 perfect",
        "ece": "15 bins of equal width; no interval, because no bootstrap interval has sufficient coverage",
        "auc_delong": "DeLong 1988 in Obuchowski's form for clusters, interval on the logit scale",
        "calibration": calibration.to_dict() if calibration else None,
    }
    result["provenance"] = [record.to_dict() for record in predictions.provenance]
    return result


def _notes(predictions: Predictions) -> list[str]:
    number = len(predictions.images)
    records = predictions.provenance
    said = [describe_seen(each.seen, images=each.images or number, split=each.split) for each in records]
    notes = list(dict.fromkeys(note for note in said if note))
    there = np.unique(predictions.malignant)
    if len(there) == 2:
        return notes
    only = "malignant" if there[0] else "benign"
    return [*notes, f"all {number} images are {only}: metrics that compare classes are undefined"]


def _of_unit(
    unit: Unit,
    units: Units,
    calibrated: NDArray[np.float64] | None,
    threshold: float,
    draws: Draws,
) -> dict[str, Any]:
    metrics = BinaryMetrics(units.score, units.label, threshold=threshold, calibrated=calibrated)
    found = _plain(bootstrap(metrics, draws, units.cluster))
    found["auc_delong"] = as_json(clustered_auc(units.score, units.label, units.cluster))
    if unit == "image":
        found["auc_delong_images"] = as_json(
            clustered_auc(units.score, units.label, np.arange(len(units.label)))
        )
    found["threshold"] = finite(threshold)
    found["confusion"] = None
    if not math.isnan(threshold):
        found["confusion"] = _confusion(units.label, (units.score >= threshold).astype(np.int64), 2)
    return found


def _multiclass(predictions: Predictions, draws: Draws) -> dict[str, Any]:
    metrics = MulticlassMetrics(predictions.scores, predictions.labels, predictions.classes)
    found = _plain(bootstrap(metrics, draws, predictions.patients))
    found["classes"] = list(predictions.classes)
    found["confusion"] = _confusion(
        predictions.labels, predictions.scores.argmax(axis=1), len(predictions.classes)
    )
    return found


def _subgroups(predictions: Predictions, *, resamples: int, seed: int) -> list[dict[str, Any]]:
    """Return the AUC for each value of each non-empty subgroup column; missing values are the group None."""
    groups = []
    for column in SUBGROUPS:
        values = predictions.table[column]
        if values.isna().all():
            continue
        for value in [*sorted(values.dropna().unique().tolist()), None]:
            rows = (values.isna() if value is None else values == value).fillna(value=False)
            if rows.any():
                group = predictions.take(rows.to_numpy(dtype=bool))
                estimate, note = _subgroup_auc(group, resamples=resamples, seed=seed)
                groups.append(
                    {
                        "column": column,
                        "value": value,
                        "n": len(group.images),
                        "patients": len(np.unique(group.patients)),
                        "malignant": int(group.malignant.sum()),
                        "auc": estimate,
                        "note": note,
                    }
                )
    return groups


def _subgroup_auc(
    group: Predictions, *, resamples: int, seed: int
) -> tuple[dict[str, float | None] | None, str | None]:
    for label, name in enumerate(("benign", "malignant")):
        patients = len(np.unique(group.patients[group.malignant == label]))
        if patients < SMALLEST_GROUP:
            return None, f"{patients} patients with {name} images, {SMALLEST_GROUP} needed"
    draws = draw_patients(
        group.patients, group.malignant, resamples=resamples, rng=np.random.default_rng(seed)
    )
    metrics = AucOnly({"auc": group.malignancy}, group.malignant)
    return as_json(bootstrap(metrics, draws, group.patients)["auc"]), None


def _confusion(labels: NDArray[np.int64], called: NDArray[np.int64], classes: int) -> list[list[int]]:
    """Return C C counts, with one row per true class and one column per predicted class."""
    counts = np.bincount(labels * classes + called, minlength=classes**2)
    return [[int(count) for count in row] for row in counts.reshape(classes, classes)]


def _plain(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: as_json(estimate) for name, estimate in estimates.items()}


def performance_table(performance: Mapping[str, Any]) -> str:
    """Format the result of `measure_performance` as a table, with intervals in brackets, `-` if undefined."""
    n = performance["n"]
    lines = [f"{n['images']} images of {n['patients']} patients, {n['malignant_images']} malignant"]
    units = [unit for unit in UNITS if performance[unit] is not None]
    rows = [["", *units]]
    for name, shown in _SHOWN.items():
        if name in performance["image"]:
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
        lines += ["", *aligned([["four classes", "image"], *rows])]
    if performance["subgroups"]:
        rows = [["subgroup", "images", "malignant", "AUC"]]
        for group in performance["subgroups"]:
            value = "unknown" if group["value"] is None else group["value"]
            area = number_and_interval(group["auc"]) if group["auc"] else f"- ({group['note']})"
            rows.append([f"{group['column']} {value}", str(group["n"]), str(group["malignant"]), area])
        lines += ["", *aligned(rows)]
    method = performance["method"]
    lines += [
        "",
        *performance["notes"],
        f"95 % intervals: {method['interval']}, {method['resamples']} resamples",
    ]
    return "\n".join(lines)
