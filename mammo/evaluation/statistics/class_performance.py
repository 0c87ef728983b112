"""Metrics of the classes of a task by sample, with their intervals by patient."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo.data.samples import PLURALS
from mammo.data.seen_patients import describe_seen
from mammo.evaluation.number_format import aligned, as_json, number, number_and_interval
from mammo.evaluation.predictions import Predictions, counted
from mammo.evaluation.statistics.headline_intervals import FEW
from mammo.evaluation.statistics.jackknife import jackknife
from mammo.evaluation.statistics.proportions import clustered_wilson
from mammo.evaluation.statistics.weighted_metrics import Floats
from mammo.metrics import Estimate, clustered_auc, clustered_multiclass_auc, mean_fold_auc
from mammo.metrics.kappa import weighted_quadratic_kappa

_METHOD = {
    "auc": "score interval by patient with a t quantile, see mammo.metrics.clustered_auc",
    "accuracy": "class of the highest score; Wilson's interval with a design effect",
    "level": 0.95,
}
_KAPPA = "Cohen's kappa with quadratic weights; jackknife of the patients on Fisher's z scale"


def measure_classes(predictions: Predictions) -> dict[str, Any]:
    """Return the metrics of a task that has no positive class, as plain values for JSON.

    Args:
        predictions: predictions of the images to evaluate.

    Returns:
        `n`; `multiclass` with `auc_macro`, `accuracy`, `auc_<CLASS>` of each class against the rest and, for
        ordered classes, `kappa`, each as `{"value", "low", "high"}`, `classes` and `confusion` (rows: truth;
        columns: class of the highest score); `image`, `breast` and `patient` are None, because they hold
        metrics of positive units; `notes`; `method`; `provenance`. Other values of None mean undefined.
    """
    labels, patients, folds = predictions.labels, predictions.patients, predictions.folds
    called = predictions.scores.argmax(axis=1)
    scores: dict[str, Estimate] = {
        "auc_macro": image_auc(predictions),
        "accuracy": clustered_wilson(called == labels, patients),
    }
    if predictions.task.ordered:
        scores["kappa"] = kappa_estimate(labels, called, patients)
    for index, name in enumerate(predictions.classes):
        one = predictions.scores[:, index], (labels == index).astype(np.int64), patients
        scores[f"auc_{name}"] = clustered_auc(*one) if folds is None else mean_fold_auc(*one, folds)
    counts = {name: int((labels == index).sum()) for index, name in enumerate(predictions.classes)}
    auc = _METHOD["auc"] if folds is None else f"mean of the folds' AUCs; {_METHOD['auc']}"
    return {
        "source": predictions.source,
        "task": predictions.task.name,
        "unit": predictions.unit,
        "n": {
            "images": len(set(predictions.image_ids)),
            PLURALS[predictions.unit]: len(labels),
            "patients": len(np.unique(patients)),
            "classes": counts,
        },
        "image": None,
        "breast": None,
        "patient": None,
        "multiclass": {
            **{name: as_json(estimate) for name, estimate in scores.items()},
            "classes": list(predictions.classes),
            "confusion": confusion(labels, called, len(predictions.classes)).tolist(),
        },
        "notes": _notes(predictions),
        "method": _METHOD | {"auc": auc} | ({"kappa": _KAPPA} if predictions.task.ordered else {}),
        "provenance": [record.to_dict() for record in predictions.provenance],
    }


def image_auc(predictions: Predictions) -> Estimate:
    """Return the AUC by sample with its interval: of positive samples, or the macro AUC of the classes."""
    if predictions.task.positive:
        scored = predictions.malignancy, predictions.malignant, predictions.patients
        folds = predictions.folds
        return clustered_auc(*scored) if folds is None else mean_fold_auc(*scored, folds)
    return clustered_multiclass_auc(
        predictions.scores, predictions.labels, predictions.patients, folds=predictions.folds
    )


def kappa_estimate(
    labels: NDArray[np.int64], called: NDArray[np.int64], patients: NDArray[np.str_], *, level: float = 0.95
) -> Estimate:
    """Return the quadratic weighted kappa with its interval by patient.

    The interval is that of `jackknife` for (1 + kappa) / 2, whose logit is twice Fisher's z of kappa.

    Args:
        labels: N, index of the true class.
        called: N, index of the predicted class.
        patients: N, patient of each image.
        level: confidence level.
    """

    def halved(weights: Floats) -> dict[str, Floats]:
        return {"kappa": (1 + weighted_quadratic_kappa(labels, called, weights)) / 2}

    found = jackknife(halved, np.zeros_like(labels), patients, level=level)["kappa"]
    return dataclasses.replace(
        found,
        value=2 * found.value - 1,
        low=2 * found.low - 1,
        high=2 * found.high - 1,
        standard_error=2 * found.standard_error,
    )


def confusion(labels: NDArray[np.int64], called: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Return C C counts, with one row per true class and one column per predicted class."""
    counts = np.bincount(labels * classes + called, minlength=classes**2)
    return counts.reshape(classes, classes).astype(np.int64)


def _notes(predictions: Predictions) -> list[str]:
    patients = [
        len(np.unique(predictions.patients[predictions.labels == index]))
        for index in range(len(predictions.classes))
    ]
    few = [
        f"{name} {count}" for name, count in zip(predictions.classes, patients, strict=True) if count < FEW
    ]
    notes = seen_notes(predictions)
    if not few:
        return notes
    return [*notes, f"too few patients for reliable intervals, {FEW} of each class needed: {', '.join(few)}"]


def seen_notes(predictions: Predictions) -> list[str]:
    """Return a sentence for each run that has seen scored patients in training."""
    records, number = predictions.provenance, len(predictions.samples)
    said = [describe_seen(each.seen, images=each.images or number, split=each.split) for each in records]
    return list(dict.fromkeys(note for note in said if note))


def classes_table(performance: Mapping[str, Any]) -> str:
    """Format the result of `measure_classes` as a table, with intervals in brackets, `-` if undefined."""
    n, found = performance["n"], performance["multiclass"]
    counts = ", ".join(f"{name} {count}" for name, count in n["classes"].items())
    rows = [[f"by {performance['unit']}", performance["task"]]]
    rows += [
        [class_metric_title(name), number_and_interval(value)]
        for name, value in found.items()
        if isinstance(value, dict)
    ]
    width = max(map(len, [*found["classes"], "truth"]))
    matrix = [["truth", *found["classes"], "called"]]
    matrix += [
        [name.ljust(width), *map(str, row), ""]
        for name, row in zip(found["classes"], found["confusion"], strict=True)
    ]
    method = performance["method"]
    lines = [
        f"{counted(n, performance['unit'])} of {n['patients']} patients: {counts}",
        "",
        *aligned(rows),
        "",
    ]
    lines += [*aligned(matrix), *own_table(performance), "", *performance["notes"]]
    lines += [f"95 % intervals of AUC: {method['auc']}", f"of accuracy: {method['accuracy']}"]
    return "\n".join(lines + ([f"of kappa: {method['kappa']}"] if "kappa" in method else []))


def own_table(performance: Mapping[str, Any]) -> list[str]:
    """Return the lines of a table of the user's own metrics; none without such metrics."""
    own = performance.get("own")
    if not own:
        return []
    rows = [
        ["own metrics", performance.get("unit", "image")],
        *([name, number(value, missing="-")] for name, value in own.items()),
    ]
    return ["", *aligned(rows)]


def class_metric_title(name: str) -> str:
    """Return the title of a metric of `measure_classes`."""
    titles = {
        "auc_macro": "Macro AUC, mean over the classes",
        "accuracy": "Accuracy, class of the highest score",
        "kappa": "Quadratic weighted kappa",
    }
    return titles.get(name) or f"AUC, {name.removeprefix('auc_')} against the rest"
