"""Evaluation of a run: scores, metrics with intervals, heatmaps, report."""

from typing import Any, Literal

import numpy as np
import pandas as pd

from mammo.data.sources.reader import source_name
from mammo.evaluation.evaluation_files import calibration_of, write_evaluation
from mammo.evaluation.evaluation_settings import Evaluation, EvaluationSettings
from mammo.evaluation.explain.heatmaps import Method, default_method
from mammo.evaluation.explain.localisation_scores import localisation_table, localise
from mammo.evaluation.heatmap_evaluation import evaluate_heatmaps, write_gallery
from mammo.evaluation.number_format import finite
from mammo.evaluation.predictions import Predictions
from mammo.evaluation.report.evaluation_report import write_report
from mammo.evaluation.report.training_curves import draw_curves
from mammo.evaluation.split_scoring import open_split
from mammo.evaluation.statistics.performance import measure_performance, performance_table
from mammo.evaluation.statistics.subgroups import check_subgroups
from mammo.metrics.own_metrics import OwnMetrics
from mammo.runs import RunFolder


def evaluate_run(
    run: RunFolder,
    settings: EvaluationSettings,
    *,
    heatmap: Method | Literal["auto", "none"] = "auto",
    heatmap_layer: str | None = None,
    hanging: bool = True,
) -> Evaluation:
    """Evaluate a split of a run and write all files of the evaluation.

    Args:
        run: finished run.
        settings: settings of the evaluation.
        heatmap: see `Heatmaps`; `auto` is `map` for a network that has one, else `gradcam`; `none` leaves out
            heatmaps and localisation, as does a run of patches.
        heatmap_layer: module whose feature maps are used, see `Heatmaps`.
        hanging: whether pictures are drawn as mammograms hang, see `drawn_views`.
    """
    folder = settings.folder
    calibration = calibration_of(run, tta=settings.tta, rule=settings.rule, target=settings.target)
    opened = open_split(run, settings.split, data=settings.data, tta=settings.tta)
    check_subgroups(settings.subgroups, opened.dataset.units, task=opened.task)
    if opened.dataset.sample_unit == "patch":  # heat is compared with the lesions of whole images
        heatmap = "none"
    rng = np.random.default_rng(settings.seed)
    if heatmap == "auto":
        one = opened.dataset.batch([0])["image"].to(opened.scorer.device)
        heatmap = default_method(opened.scorer.classifier, one)
    results = None
    if heatmap == "none" or heatmap == "occlusion":
        predictions = opened.score()
    else:
        results = evaluate_heatmaps(opened, method=heatmap, layer=heatmap_layer, rng=rng)
        predictions = opened.predictions(results.scores)
    metrics: dict[str, Any] = measure_performance(predictions, calibration=calibration, **settings.measures())
    metrics["notes"] += opened.notes
    metrics["own"] = own_metrics(run, predictions)
    metrics["data"] = None if settings.data is None else {"source": source_name(settings.data)}
    tables = [performance_table(metrics)]
    write_evaluation(folder, predictions=predictions, metrics=metrics, calibration=calibration)
    if heatmap == "occlusion":  # hundreds of passes per image, so the scores are written first
        results = evaluate_heatmaps(opened, method=heatmap, layer=heatmap_layer, rng=rng)
    if results is not None and opened.task.of_pathology:
        images = opened.images.set_index("row").loc[results.rows]
        of_image = pd.Series(opened.labels, index=opened.images["row"])[results.rows]
        metrics["localisation"] = localise(
            results.marks,
            malignant=np.isin(of_image, opened.task.positives).astype(np.int64),
            scores=predictions.malignancy[results.units],
            patients=images["patient_id"].to_numpy(dtype=str),
            rng=rng,
            resamples=settings.resamples,
        )
        metrics["localisation"]["placement"] = results.heatmaps.placement(opened.store.images.shape[1:])
        tables.append(localisation_table(metrics["localisation"]))
        write_evaluation(folder, predictions=predictions, metrics=metrics, calibration=calibration)
    if results is not None:
        threshold = metrics[predictions.unit]["threshold"] if opened.task.positive else None
        pictures = folder / "heatmaps"
        write_gallery(opened, results, predictions, threshold=threshold, folder=pictures, hanging=hanging)
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
