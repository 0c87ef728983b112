"""Evaluation of a run: scores, metrics with intervals, heatmaps, report."""

from typing import Any

import numpy as np

from mammo.data.sources.reader import source_name
from mammo.evaluation.evaluation_files import calibration_of, write_evaluation
from mammo.evaluation.evaluation_settings import Evaluation, EvaluationSettings
from mammo.evaluation.heatmap_evaluation import evaluate_heatmaps, heatmap_method, write_heat
from mammo.evaluation.number_format import finite
from mammo.evaluation.predictions import Predictions
from mammo.evaluation.report.evaluation_report import write_report
from mammo.evaluation.report.training_curves import draw_curves
from mammo.evaluation.split_scoring import open_split
from mammo.evaluation.statistics.performance import measure_performance, performance_table
from mammo.evaluation.statistics.subgroups import check_subgroups
from mammo.metrics.own_metrics import OwnMetrics
from mammo.runs import RunFolder


def evaluate_run(run: RunFolder, settings: EvaluationSettings) -> Evaluation:
    """Evaluate a split of a run and write all files of the evaluation.

    Args:
        run: finished run.
        settings: settings of the evaluation.
    """
    folder = settings.folder
    calibration = calibration_of(run, tta=settings.tta, rule=settings.rule, target=settings.target)
    opened = open_split(run, settings.split, data=settings.data, tta=settings.tta)
    check_subgroups(settings.subgroups, opened.dataset.units, task=opened.task)
    rng = np.random.default_rng(settings.seed)
    method, layer = heatmap_method(opened, settings.heatmap), settings.heatmap_layer
    results = []
    if method is not None and method != "occlusion":
        results = [evaluate_heatmaps(opened, method=method, layer=layer, rng=rng)]
    predictions = results[0].predictions if results else opened.score()
    metrics: dict[str, Any] = measure_performance(predictions, calibration=calibration, **settings.measures())
    metrics["notes"] += opened.notes
    metrics["own"] = own_metrics(run, predictions)
    metrics["data"] = None if settings.data is None else {"source": source_name(settings.data)}
    tables = [performance_table(metrics)]
    write_evaluation(folder, predictions=predictions, metrics=metrics, calibration=calibration)
    if method == "occlusion":  # hundreds of passes per image, so the scores are written first
        results = [evaluate_heatmaps(opened, method=method, layer=layer, rng=rng)]
    if results:
        tables += write_heat(
            results, predictions, metrics, calibration=calibration, settings=settings, rng=rng
        )
    name = settings.name or settings.split
    if settings.report:
        write_report([run], folder=folder, split=name, store=opened.store.directory)
    return Evaluation(predictions, metrics, "\n\n".join(tables), name, folder)


def own_metrics(run: RunFolder, predictions: Predictions) -> dict[str, float | None]:
    """Return the value of each metric of the user's own in the configuration of a run; None if undefined."""
    nodes = run.config().get("metrics") or {}
    metrics = OwnMetrics(nodes, num_classes=len(predictions.classes))
    return {name: finite(value) for name, value in metrics(predictions.scores, predictions.labels).items()}


def write_training_report(run: RunFolder, *, report: bool) -> None:
    """Write the curves of a training and, if requested, the report on its validation images."""
    if report:
        # the report draws the curves too
        evaluate_run(run, EvaluationSettings(split="val", folder=run.evaluation / "val"))
    else:
        draw_curves(run)
