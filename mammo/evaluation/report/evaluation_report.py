"""The report of an evaluation: one HTML file that opens in any browser and loads nothing from a network."""

import datetime
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mammo.atomic_files import write_atomically
from mammo.config.instantiation import part_name
from mammo.data.samples import PLURALS
from mammo.data.tasks import Task
from mammo.errors import DataError
from mammo.evaluation.explain.localisation_scores import heat_verdict
from mammo.evaluation.number_format import count, number, parts
from mammo.evaluation.predictions import Predictions, by_unit, read_predictions
from mammo.evaluation.report.checklists import CHECKLISTS, filled
from mammo.evaluation.report.clinical_plots import calibration_curve_figure, decision_curve_figure
from mammo.evaluation.report.figure_style import draw_figures, readable, svg_text
from mammo.evaluation.report.flow_figure import flow_figure
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
    at,
    by_reason,
    images_table,
    inline_svg,
    of_samples,
    override,
    read_gallery,
    render,
    settings,
    shown_in,
)
from mammo.evaluation.report.report_texts import SCORES, TEXTS, hows
from mammo.evaluation.report.study_data import (
    StudyFacts,
    characteristics,
    characteristics_rows,
    data_flow,
    read_study_data,
)
from mammo.evaluation.report.training_curves import draw_curves
from mammo.evaluation.statistics.calibration import Calibration
from mammo.evaluation.statistics.class_performance import class_metric_title, confusion, image_auc
from mammo.evaluation.statistics.fold_scores import ranked_within_folds
from mammo.runs import RunFolder
from mammo.runs.provenance import Provenance

_SPLITS = {"val": "validation", "train": "training", "clean_test": "clean test"}


def write_report(
    runs: Sequence[RunFolder], *, folder: Path, split: str | None = None, store: Path | None = None
) -> Path:
    """Write `report.html`, `figures/` and `characteristics.csv`, and the figures of the run's curves.

    Only `predictions.csv` is required. The report also shows the content of `metrics.json`,
    `heatmaps/gallery.json`, the runs' `metrics.csv` and lists of their split, and the tables of the store, as
    far as they exist.

    Args:
        runs: finished run, or the members of an ensemble or of a k-fold split.
        folder: folder of the evaluation, with `predictions.csv`.
        split: `val`, `test`, ..., with an optional variant (`val-flips`); None for the name of the folder.
        store: folder of the store of the scored images; None for the one that the runs record.

    Raises:
        DataError: a file in the folder is invalid.
    """
    node = runs[0].config().get("task")
    predictions = read_predictions(folder / "predictions.csv", task=None if node is None else Task.of(node))
    task = predictions.task
    metrics = _json(folder / "metrics.json", dict)
    records = Provenance.all_from(metrics.get("provenance"))
    key, shown = (split or folder.name).partition("-")[0], shown_name(split or folder.name)
    threshold = operating_threshold(metrics) if task.positive else None
    data = read_study_data(runs, predictions, store=store, own=not metrics.get("data"))
    flow, table = data_flow(data), characteristics(data)
    write_atomically(folder / "characteristics.csv", table.to_csv(index=False))
    figures = {"flow": flow_figure(flow, title=f"{shown} images")}
    figures |= figures_of(predictions, metrics, split=shown)
    drawn = draw_figures(figures, folder=folder / "figures")
    if len(runs) == 1 and runs[0].metrics.exists():
        drawn |= {name: svg_text(figure) for name, figure in draw_curves(runs[0]).items()}
    entries = _json(folder / "heatmaps" / "gallery.json", list)
    gallery = read_gallery(folder, entries, predictions.samples.tolist())
    images = images_table(predictions, threshold, gallery)
    facts = StudyFacts(
        configs=[run.config() for run in runs],
        runs=[run.facts() for run in runs],
        metrics=metrics,
        split=shown,
        folds=predictions.folds is not None,
        flow=flow,
        has_characteristics=bool(data.sides),
        outcomes=Counter(row["outcome"] for row in images["rows"]) if threshold is not None else {},
        pictures=sum(bool(entry["data"]) for entry in gallery),
        task=task,
        unit=predictions.unit,
    )
    counts = metrics.get("n") or _counts(predictions)
    words, samples = facts.words, facts.samples
    page = render(
        {
            **_run_facts(runs, metrics, facts),
            "setting": facts.setting,
            "part": facts.part,
            "source": facts.source,
            "split": shown,
            "validation": key == "val",
            "folds": facts.folds,
            "seen": [record.seen for record in records if record.seen],
            "leaks": _leaks(runs, records, images=counts["images"]),
            "written": f"{datetime.date.today():%-d %B %Y}",
            "metrics": metrics,
            "counts": counts,
            "task": task,
            **words,
            "area": _area(predictions, metrics),
            "threshold": threshold,
            "sample_units": predictions.units,
            "plurals_above": [PLURALS[unit] for unit in predictions.units[1:]],
            "input": facts.network_input(pixels=True),
            "places": facts.places,
            "units": [unit for unit in predictions.units if metrics.get(unit)],
            "scores": _scores(metrics, predictions.units, words),
            "class_scores": _class_scores(metrics, sample=words["sample"]),
            "characteristics": (list(table.columns[2:]), characteristics_rows(table)),
            "figures": {
                name: inline_svg(svg, name=name, text=TEXTS[name].format(split=shown, **words))
                for name, svg in drawn.items()
            },
            "how": hows(
                metrics,
                unit=predictions.unit,
                these=f"the {count(counts[samples])} {shown} {samples}",
                images=f"the {count(counts['images'])} {shown} images",
                runs=len(runs),
                folds=facts.folds,
                threshold=threshold is not None,
                words=words,
            ),
            "gallery": by_reason(gallery, errors=False),
            "errors": by_reason(gallery, errors=True),
            "shown": shown_in(gallery),
            "verdict": heat_verdict(metrics["localisation"]) if metrics.get("localisation") else None,
            "table": images,
            "checklists": [
                (checklist, filled(checklist.items, facts)) for checklist in CHECKLISTS if task.positive
            ],
        }
    )
    write_atomically(folder / "report.html", page)
    return folder / "report.html"


def shown_name(name: str) -> str:
    """Return the name of an evaluation as it is shown.

    Example:
        >>> shown_name("val-flips")
        'validation (flips)'
        >>> shown_name("test-flips_scales")
        'test (flips and scales)'
    """
    key, _, variant = name.partition("-")
    return " ".join(filter(None, [_SPLITS.get(key, key), variant and f"({variant.replace('_', ' and ')})"]))


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


def _run_facts(runs: Sequence[RunFolder], metrics: Mapping[str, Any], facts: StudyFacts) -> dict[str, Any]:
    """Return facts about networks, data and training, from `config.yaml`, `run.json` and the split lists."""
    first = facts.configs[0]
    kind = f"{len(runs)} folds" if facts.folds else f"Ensemble of {len(runs)} runs"
    rows = [dict(settings(config)) for config in facts.configs]
    keys = dict.fromkeys(key for row in rows for key in row)
    areas = (metrics.get("runs") or {}).get("auc") or [None] * len(runs)
    sides = {side: runs[0].path / "split" / f"{side}.txt" for side in ("train", "val", "test")}
    lists = {side: set(file.read_text().splitlines()) for side, file in sides.items() if file.exists()}
    return {
        "name": (first.get("name") or runs[0].path.name) if len(runs) == 1 else kind,
        "single": len(runs) == 1,
        "facts": facts.runs[0],
        "settings": [(key, " | ".join(dict.fromkeys(row.get(key, "–") for row in rows))) for key in keys],
        "overrides": [override(text) for text in facts.runs[0].get("overrides") or []],
        "sides": {_SPLITS.get(side, side): len(names) for side, names in lists.items()},
        "shared_images": sum(map(len, lists.values())) - len(set().union(*lists.values())),
        "members": [
            {
                "name": run.path.name,
                "network": part_name(config.get("model") or {}),
                "seed": config.get("seed"),
                "fold": at(config, "data.fold") if at(config, "data.split") == "kfold" else None,
                "epochs": run_facts.get("epochs"),
                "commit": (run_facts.get("commit") or "")[:12],
                "area": area,
            }
            for run, config, run_facts, area in zip(runs, facts.configs, facts.runs, areas, strict=True)
        ],
        "differ": (metrics.get("runs") or {}).get("differ") or [],
    }


def _leaks(runs: Sequence[RunFolder], records: Sequence[Provenance], *, images: int) -> list[str]:
    """Return a sentence for each run on the scored images of patients of its training and validation set."""
    found = []
    for run, record in zip(runs, records, strict=False):
        of_run = f" of run {run.path.name}" if len(runs) > 1 else ""
        if record.seen is None:
            found.append(
                "The patients of this page were not compared with those of the training and validation "
                f"set{of_run}."
            )
            continue
        scored, seen = count(record.images or images), {k: count(n) for k, n in record.seen.items()}
        if not any(record.seen.values()):
            found.append(
                f"No patient of the {scored} scored images is in the training or validation set{of_run}, "
                "compared by image and patient id."
            )
            continue
        found.append(
            f"Of {scored} scored images, {seen['trained_images']} are of "
            f"{seen['trained_patients']} patients of the training set{of_run} and {seen['chosen_images']} of "
            f"{seen['chosen_patients']} patients of its validation set, compared by image and patient id."
        )
    return found


def _counts(predictions: Predictions) -> dict[str, Any]:
    names, labels, samples = predictions.classes, predictions.labels, PLURALS[predictions.unit]
    return {
        "images": len(set(predictions.image_ids)),
        samples: len(labels),
        f"malignant_{samples}": int(predictions.malignant.sum()),
        "patients": len(np.unique(predictions.patients)),
        "classes": {name: int((labels == index).sum()) for index, name in enumerate(names)},
    }


def _area(predictions: Predictions, metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the AUC by sample with its interval; compute it from the scores if `metrics.json` lacks it."""
    if predictions.task.positive:
        given = of_samples(metrics).get("auc")
    else:
        given = (metrics.get("multiclass") or {}).get("auc_macro")
    if parts(given)[0] is None:
        given = vars(image_auc(predictions))
    return dict(zip(("value", "low", "high"), parts(given), strict=True))


def _scores(
    metrics: Mapping[str, Any], names: Sequence[str], words: Mapping[str, str]
) -> list[tuple[str, str, list[Any]]]:
    """Return title, meaning and the values by unit of every score in `metrics.json`."""
    units = [metrics[unit] for unit in names if metrics.get(unit)]
    method = metrics.get("method")
    prevalence = method.get("prevalence") if isinstance(method, dict) else None
    held = {name: None for unit in units for name, value in unit.items() if parts(value)[0] is not None}
    rows = []
    order = [*SCORES, *(f"{name}_calibrated" for name in SCORES)]
    for name in [*(name for name in order if name in held), *(name for name in held if name not in order)]:
        label, meaning = SCORES.get(name, (readable(name).capitalize(), ""))
        plain = name.removesuffix("_calibrated")
        if name != plain and plain in SCORES:
            label, meaning = f"{SCORES[plain][0]}, calibrated", "after calibration on validation {samples}"
        label = label.format(prevalence=prevalence, **words)
        rows.append((label, meaning.format(**words), [unit.get(name) for unit in units]))
    return rows


def _class_scores(metrics: Mapping[str, Any], *, sample: str) -> list[tuple[str, Any]]:
    """Return title and value of every score of the classes in `metrics.json`."""
    found = metrics.get("multiclass") or {}
    rows = []
    for name, value in found.items():
        if parts(value)[0] is None or name == "auc_micro_chance":
            continue
        title = class_metric_title(name)
        if name == "auc_micro":
            chance = f"chance level {number(found.get('auc_micro_chance'))}"
            title = f"Micro AUC, over all pairs of {sample} and class, as in the 2019 study ({chance})"
        elif title.endswith("against the rest"):
            title = f"AUC, {readable(name.removeprefix('auc_'))} against the rest"
        rows.append((title, value))
    return rows


def operating_threshold(metrics: Mapping[str, Any]) -> float | None:
    """Return the threshold for samples in `metrics.json`, or None if it has none."""
    for holder in (of_samples(metrics), metrics):
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
    samples = PLURALS[predictions.unit]
    title = f"{split.capitalize()} {samples}"
    if not predictions.task.positive:
        return {"confusion_classes": _confusion_of_classes(predictions, title)}
    units = by_unit(predictions)
    threshold = operating_threshold(metrics)
    figures = {}
    if 0 < units.label.mean() < 1:
        if units.fold is None:
            figures["roc"] = roc_figure(units, threshold=threshold, title=title)
            figures["precision_recall"] = precision_recall_figure(units, title=title)
        else:  # each network has its own scale, so the scores are ranked within the folds
            ranked = replace(units, score=ranked_within_folds(units.score, units.fold))
            figures["roc"] = roc_figure(ranked, area="pooled AUC", title=title)
            figures["precision_recall"] = precision_recall_figure(ranked, title=title)
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
            confusion(units.label, called, 2),
            classes=(units.words["negative"], units.words["positive"]),
            called=f"Class at threshold {threshold:.3g}",
            title=title,
        )
    if len(predictions.classes) > 2:
        figures["confusion_classes"] = _confusion_of_classes(predictions, title)
    if metrics.get("subgroups"):
        overall = _area(predictions, metrics)["value"]
        figures["subgroups"] = subgroups_figure(
            metrics["subgroups"], overall=overall, samples=samples, title=title
        )
    malignant = (metrics.get("localisation") or {}).get("malignant") or {}
    froc = {method: found["froc"] for method, found in malignant.items() if found.get("froc")}
    if any(
        number is not None for points in froc.values() for share in points.values() for number in parts(share)
    ):
        figures["froc"] = froc_figure(froc, title=f"{split.capitalize()} images, malignant lesions")
    return figures


def _confusion_of_classes(predictions: Predictions, title: str) -> Figure:
    return confusion_figure(
        confusion(predictions.labels, predictions.scores.argmax(axis=1), len(predictions.classes)),
        classes=predictions.classes,
        called="Class of the highest score",
        title=title,
    )
