"""The report of an evaluation: one HTML file that opens in any browser and loads nothing from a network."""

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mammo.atomic_files import write_atomically
from mammo.errors import DataError
from mammo.evaluation.number_format import parts
from mammo.evaluation.predictions import UNITS, Predictions, by_unit, read_predictions
from mammo.evaluation.report.clinical_plots import calibration_curve_figure, decision_curve_figure
from mammo.evaluation.report.figure_style import draw_figures, readable, svg_text
from mammo.evaluation.report.plots import (
    confusion_figure,
    froc_figure,
    histogram_figure,
    precision_recall_figure,
    reliability_figure,
    roc_figure,
    subgroups_figure,
)
from mammo.evaluation.report.report_content import (
    data_pictures,
    image_name,
    images_table,
    inline_svg,
    override,
    render,
    settings,
)
from mammo.evaluation.report.training_curves import draw_curves
from mammo.evaluation.statistics.calibration import Calibration
from mammo.metrics import clustered_auc
from mammo.runs import RunFolder
from mammo.runs.provenance import Provenance

_SPLITS = {"val": "validation", "train": "training", "clean_test": "clean test"}
# Title and meaning of each score, in the order of the page.
_SCORES = {
    "auc": ("AUC", "probability that a malignant case scores higher than a benign one; 0.5 is chance"),
    "auc_delong": ("AUC, DeLong by patient", "the same value, with the interval usual in the literature"),
    "auc_pooled": ("AUC, pooled", "over the images of all folds, ranked within each fold"),
    "partial_auc": ("Partial AUC", "AUC of the part with a specificity of at least 80 %; 0.5 is chance"),
    "average_precision": ("Average precision", "area under the precision-recall curve"),
    "pr_auc": ("PR-AUC", "area under the precision-recall curve"),
    "sensitivity_at_80_specificity": ("Sensitivity at 80 % specificity", "found on these images"),
    "sensitivity_at_90_specificity": ("Sensitivity at 90 % specificity", "found on these images"),
    "specificity_at_80_sensitivity": ("Specificity at 80 % sensitivity", "found on these images"),
    "specificity_at_90_sensitivity": ("Specificity at 90 % sensitivity", "found on these images"),
    "threshold": ("Operating threshold", "lowest score that is classified as malignant"),
    "sensitivity": ("Sensitivity", "at the operating threshold"),
    "specificity": ("Specificity", "at the operating threshold"),
    "sensitivity_validation": ("Sensitivity, validation images", "at the threshold, which was fixed on them"),
    "specificity_validation": ("Specificity, validation images", "at the threshold, which was fixed on them"),
    "accuracy": ("Accuracy", "at the operating threshold"),
    "balanced_accuracy": ("Balanced accuracy", "at the operating threshold"),
    "f1": ("F1", "at the operating threshold"),
    "ppv": ("PPV", "share of malignant cases among those called malignant; depends on their share here"),
    "npv": ("NPV", "share of benign cases among those called benign; depends on their share here"),
    "ppv_at_prevalence": (
        "PPV at a prevalence of {prevalence:g}",
        "by Bayes from sensitivity and specificity",
    ),
    "npv_at_prevalence": (
        "NPV at a prevalence of {prevalence:g}",
        "by Bayes from sensitivity and specificity",
    ),
    "positive_likelihood_ratio": (
        "Positive likelihood ratio",
        "sensitivity / (1 - specificity); 1 is chance",
    ),
    "negative_likelihood_ratio": (
        "Negative likelihood ratio",
        "(1 - sensitivity) / specificity; 1 is chance",
    ),
    "brier": ("Brier score", "mean squared difference of score and truth; 0 is best"),
    "log_loss": ("Log loss", "mean negative log likelihood of the truth, in nats; 0 is best"),
    "ece": (
        "Calibration error (ECE)",
        "mean difference between score and share of malignant cases; 0 is best",
    ),
    "calibration_slope": ("Calibration slope", "1 is best, below 1 the scores are too extreme"),
    "calibration_in_the_large": (
        "Calibration-in-the-large",
        "intercept with the slope fixed to 1; 0 is best, below 0 the scores are too high",
    ),
    "observed_expected_ratio": (
        "Observed / expected (O:E)",
        "number of malignant cases / sum of the scores; 1 is best, below 1 the scores are too high",
    ),
}


def write_report(run: RunFolder, *, folder: Path, split: str | None = None) -> Path:
    """Write `report.html` and `figures/` of an evaluation, and the figures of the run's curves.

    Only `predictions.csv` is required. The report also shows the content of `metrics.json`,
    `heatmaps/gallery.json`, the run's `metrics.csv` and the lists of its split, as far as they exist.

    Args:
        run: finished run.
        folder: folder of the evaluation, with `predictions.csv`.
        split: `val`, `test`, ..., with an optional variant (`val-flips`); None for the name of the folder.

    Raises:
        DataError: a file in the folder is invalid.
    """
    predictions = read_predictions(folder / "predictions.csv")
    metrics = _json(folder / "metrics.json", dict)
    records = Provenance.all_from(metrics.get("provenance"))
    seen = records[0].seen if len(records) == 1 else None
    key, _, variant = (split or folder.name).partition("-")
    shown = " ".join(filter(None, [_SPLITS.get(key, key), variant and f"({variant})"]))
    drawn = draw_figures(figures_of(predictions, metrics, split=shown), folder=folder / "figures")
    if run.metrics.exists():
        drawn |= {name: svg_text(figure) for name, figure in draw_curves(run).items()}
    gallery = _gallery(folder, predictions)
    page = render(
        {
            **_run_facts(run),
            "split": shown,
            "validation": key == "val",
            "seen": seen,
            "disjoint": seen is not None
            and not (seen["trained_images"] or (seen["chosen_images"] and key != "val")),
            "written": f"{datetime.date.today():%-d %B %Y}",
            "metrics": metrics,
            "counts": metrics.get("n") or _counts(predictions),
            "classes": predictions.classes,
            "area": _area(predictions, metrics),
            "threshold": operating_threshold(metrics),
            "units": [unit for unit in UNITS if metrics.get(unit)],
            "scores": _scores(metrics),
            "figures": {
                name: inline_svg(svg, name=name, text=_TEXTS[name].format(split=shown))
                for name, svg in drawn.items()
            },
            "gallery": _by_reason(gallery),
            "table": images_table(predictions, operating_threshold(metrics), gallery),
        }
    )
    write_atomically(folder / "report.html", page)
    return folder / "report.html"


_TEXTS = {
    "loss": "Curves of the loss on training and validation images by epoch.",
    "auc": "Curves of the AUC on training and validation images by epoch.",
    "accuracy": "Curves of the accuracy on training and validation images by epoch.",
    "roc": "ROC curve of the {split} images with its band; the numbers are in the table of scores.",
    "precision_recall": "Precision-recall curve of the {split} images.",
    "reliability": "Share of malignant {split} images by score, and how many images have that score.",
    "calibration_curve": "Smooth curve of the share of malignant {split} images by score, with its band.",
    "decision_curve": "Net benefit on the {split} images by threshold: model, all and none called malignant.",
    "histogram": "Histograms of the scores of benign and of malignant {split} images.",
    "confusion": "Numbers of {split} images by truth and by the class at the threshold.",
    "confusion_classes": "Numbers of {split} images by class and by the class of the highest score.",
    "subgroups": "AUC with interval for each subgroup of the {split} images; the table has the numbers.",
    "froc": "Share of malignant lesions marked by false marks per image, for each heatmap method.",
}


def _json(file: Path, kind: type[dict[Any, Any]] | type[list[Any]]) -> Any:
    """Return the content of a JSON file, or an empty container if the file does not exist."""
    if not file.exists():
        return kind()
    try:
        found = json.loads(file.read_text())
    except ValueError as error:
        raise DataError(f"{file}: is not valid JSON ({error}); evaluate the run again") from None
    if not isinstance(found, kind):
        raise DataError(f"{file}: does not contain a {kind.__name__}; evaluate the run again")
    return found


def _run_facts(run: RunFolder) -> dict[str, Any]:
    """Return facts about network, data and training, from `config.yaml`, `run.json` and the split lists."""
    config, facts = run.config(), run.facts()
    sides = {side: run.path / "split" / f"{side}.txt" for side in ("train", "val", "test")}
    lists = {side: set(file.read_text().splitlines()) for side, file in sides.items() if file.exists()}
    images = sum(map(len, lists.values()))
    return {
        "name": config.get("name") or run.path.name,
        "config": config,
        "settings": settings(config),
        "facts": facts,
        "overrides": [override(text) for text in facts.get("overrides") or []],
        "sides": {_SPLITS.get(side, side): len(names) for side, names in lists.items()},
        "shared_images": images - len(set().union(*lists.values())),
    }


def _counts(predictions: Predictions) -> dict[str, int]:
    return {
        "images": len(predictions.images),
        "malignant_images": int(predictions.malignant.sum()),
        "patients": len(np.unique(predictions.patients)),
    }


def _area(predictions: Predictions, metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the AUC by image with its interval; compute it from the scores if `metrics.json` lacks it."""
    given = (metrics.get("image") or {}).get("auc")
    if parts(given)[0] is None:
        units = by_unit(predictions)
        given = vars(clustered_auc(units.score, units.label, units.cluster))
    return dict(zip(("value", "low", "high"), parts(given), strict=True))


def _scores(metrics: Mapping[str, Any]) -> list[tuple[str, str, list[Any]]]:
    """Return title, meaning and the values by unit of every score in `metrics.json`."""
    units = [metrics[unit] for unit in UNITS if metrics.get(unit)]
    method = metrics.get("method")
    prevalence = method.get("prevalence") if isinstance(method, dict) else None
    held = {name: None for unit in units for name, value in unit.items() if parts(value)[0] is not None}
    rows = []
    for name in [
        *(name for name in _SCORES if name in held),
        *(name for name in held if name not in _SCORES),
    ]:
        label, meaning = _SCORES.get(name, (readable(name).capitalize(), ""))
        plain = name.removesuffix("_calibrated")
        if name != plain and plain in _SCORES:
            label, meaning = f"{_SCORES[plain][0]}, calibrated", "after calibration on validation images"
        label = label.format(prevalence=prevalence)
        rows.append((label, meaning, [unit.get(name) for unit in units]))
    return rows


def operating_threshold(metrics: Mapping[str, Any]) -> float | None:
    """Return the threshold for images in `metrics.json`, or None if it has none."""
    for holder in (metrics.get("image") or {}, metrics):
        value, _, _ = parts(holder.get("threshold"))
        if value is not None:
            return value
    return None


def _calibrated(predictions: Predictions, metrics: Mapping[str, Any]) -> NDArray[np.float64] | None:
    """Return N scores of malignancy, calibrated as `metrics.json` records; None if it has no calibration."""
    method = metrics.get("method")
    held = metrics.get("calibration") or (method.get("calibration") if isinstance(method, dict) else None)
    try:
        return Calibration.from_dict(held).apply(predictions).malignancy if held else None
    except DataError:
        return None


def figures_of(predictions: Predictions, metrics: Mapping[str, Any], *, split: str) -> dict[str, Figure]:
    """Draw all figures for which the predictions and scores suffice; return them by name."""
    units = by_unit(predictions)
    threshold = operating_threshold(metrics)
    title = f"{split.capitalize()} images"
    figures = {}
    if 0 < units.label.mean() < 1:
        figures["roc"] = roc_figure(units, threshold=threshold, title=title)
        figures["precision_recall"] = precision_recall_figure(units, title=title)
    figures["reliability"] = reliability_figure(
        units, calibrated=_calibrated(predictions, metrics), title=title
    )
    if 0 < units.label.mean() < 1:
        calibrated = _calibrated(predictions, metrics)
        figures["calibration_curve"] = calibration_curve_figure(units, calibrated=calibrated, title=title)
        figures["decision_curve"] = decision_curve_figure(units, calibrated=calibrated, title=title)
    figures["histogram"] = histogram_figure(units, threshold=threshold, title=title)
    if threshold is not None:
        called = (units.score >= threshold).astype(np.int64)
        figures["confusion"] = confusion_figure(
            _confusion(units.label, called, 2),
            classes=("BENIGN", "MALIGNANT"),
            called=f"Class at threshold {threshold:.3g}",
            title=title,
        )
    if len(predictions.classes) > 2:
        figures["confusion_classes"] = confusion_figure(
            _confusion(predictions.labels, predictions.scores.argmax(axis=1), len(predictions.classes)),
            classes=predictions.classes,
            called="Class of the highest score",
            title=title,
        )
    if metrics.get("subgroups"):
        overall = _area(predictions, metrics)["value"]
        figures["subgroups"] = subgroups_figure(metrics["subgroups"], overall=overall, title=title)
    malignant = (metrics.get("localisation") or {}).get("malignant") or {}
    froc = {method: found["froc"] for method, found in malignant.items() if found.get("froc")}
    if froc:
        figures["froc"] = froc_figure(froc, title=f"{title}, malignant lesions")
    return figures


def _confusion(labels: NDArray[np.int64], called: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    counts = np.bincount(labels * classes + called, minlength=classes**2)
    return counts.reshape(classes, classes).astype(np.int64)


def _gallery(folder: Path, predictions: Predictions) -> list[dict[str, Any]]:
    """Return the pictures of `heatmaps/gallery.json`, each with the content of its caption."""
    rows = {name: number for number, name in enumerate(predictions.images.tolist(), start=1)}
    listed = [entry for entry in _json(folder / "heatmaps" / "gallery.json", list) if entry.get("picture")]
    files = [(folder / str(entry["picture"])).resolve() for entry in listed]
    # pictures outside the folder of the evaluation are not shown
    inside = [file if file.is_relative_to(folder.resolve()) else Path("/nowhere") for file in files]
    pictures = data_pictures(inside)
    return [
        {
            "id": f"picture-{number}",
            "name": image_name(str(entry.get("image_id", ""))),
            "row": rows.get(entry.get("image_id")),
            "reason": str(entry.get("reason") or "Examples"),
            "label": entry.get("label"),
            "score": entry.get("score"),
            "data": picture,
        }
        for number, (entry, picture) in enumerate(zip(listed, pictures, strict=True), start=1)
    ]


def _by_reason(gallery: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Group the pictures by reason, in the order in which the reasons first occur."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for entry in gallery:
        groups.setdefault(entry["reason"], []).append(entry)
    return groups
