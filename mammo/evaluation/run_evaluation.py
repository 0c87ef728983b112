"""Evaluation of a run: scores, metrics with intervals, heatmaps, report."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from omegaconf import DictConfig

from mammo.evaluation.evaluation_files import calibration_of, write_evaluation
from mammo.evaluation.explain.heatmaps import Method
from mammo.evaluation.explain.localisation_scores import localisation_table, localise
from mammo.evaluation.heatmap_evaluation import evaluate_heatmaps, write_gallery
from mammo.evaluation.predictions import Reduce
from mammo.evaluation.report.evaluation_report import write_report
from mammo.evaluation.report.training_curves import draw_curves
from mammo.evaluation.scoring import Tta
from mammo.evaluation.split_scoring import SplitName, open_split
from mammo.evaluation.statistics.calibration import Rule
from mammo.evaluation.statistics.performance import measure_performance, performance_table
from mammo.runs import RunFolder


def evaluate_run(
    run: RunFolder,
    *,
    split: SplitName,
    folder: Path,
    data: DictConfig | None = None,
    tta: Tta = "none",
    heatmap: Method | Literal["none"] = "gradcam",
    heatmap_layer: str | None = None,
    reduce: Reduce = "mean",
    prevalence: float | None = None,
    rule: Rule = "youden",
    target: float = 0.9,
    resamples: int = 2000,
    seed: int = 0,
    report: bool = True,
    name: str | None = None,
) -> str:
    """Evaluate a split of a run and write all files of the evaluation.

    Args:
        run: finished run.
        split: split to evaluate.
        folder: folder of the results.
        data: data to evaluate instead of the run's own, if any.
        tta: see `Scorer`.
        heatmap: see `Heatmaps`; `none` leaves out heatmaps and localisation.
        heatmap_layer: module whose feature maps are used, see `Heatmaps`.
        reduce: how the scores of the images of a breast or patient become one score.
        prevalence: share of malignant units where the model is to be used, for PPV and NPV; None for none.
        rule: rule of the operating thresholds, which are fixed on the validation images, see
            `fit_calibration`.
        target: target value of `sensitivity` or `specificity`.
        resamples: number of resamples of the patients, for the intervals.
        seed: seed of the resamples.
        report: whether to write the HTML report.
        name: name of the images in the report, such as `test` or `test-flips`; None uses `split`.

    Returns:
        The tables to print.
    """
    calibration = calibration_of(run, tta=tta, rule=rule, target=target)
    opened = open_split(run, split, data=data, tta=tta)
    rng = np.random.default_rng(seed)
    results = None
    if heatmap == "none" or heatmap == "occlusion":
        probability = opened.scorer.of_store(opened.store, opened.rows)
    else:
        results = evaluate_heatmaps(opened, method=heatmap, layer=heatmap_layer, rng=rng)
        probability = results.probability
    predictions = opened.predictions(probability)
    metrics: dict[str, Any] = measure_performance(
        predictions,
        calibration=calibration,
        resamples=resamples,
        seed=seed,
        reduce=reduce,
        prevalence=prevalence,
    )
    metrics["data"] = None if data is None else {"source": data.source}
    tables = [performance_table(metrics)]
    write_evaluation(folder, predictions=predictions, metrics=metrics, calibration=calibration)
    if heatmap == "occlusion":  # hundreds of passes per image, so the scores are written first
        results = evaluate_heatmaps(opened, method=heatmap, layer=heatmap_layer, rng=rng)
    if results is not None:
        metrics["localisation"] = localise(
            results.marks,
            malignant=predictions.malignant,
            scores=predictions.malignancy,
            patients=predictions.patients,
            rng=rng,
            resamples=resamples,
        )
        metrics["localisation"]["placement"] = results.heatmaps.placement(opened.store.images.shape[1:])
        tables.append(localisation_table(metrics["localisation"]))
        write_evaluation(folder, predictions=predictions, metrics=metrics, calibration=calibration)
        threshold = metrics["image"]["threshold"]
        write_gallery(opened, results, predictions, threshold=threshold, folder=folder / "heatmaps")
    if report:
        page = write_report([run], folder=folder, split=name or split, store=opened.store.directory)
        tables.append(f"report {page}")
    return "\n\n".join(tables)


def write_training_report(run: RunFolder, *, report: bool) -> None:
    """Write the curves of a training and, if requested, the report on its validation images."""
    if report:
        evaluate_run(run, split="val", folder=run.evaluation / "val")  # the report draws the curves too
    else:
        draw_curves(run)
