"""The scores of several runs as one: of an ensemble, of seeds of one setting, or of folds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mammo.config.calls.differences import OF_THE_RUN
from mammo.config.flattening import differing_keys
from mammo.data.sources.reader import source_name
from mammo.errors import ConfigError
from mammo.evaluation.combined_predictions import ensemble
from mammo.evaluation.evaluation_files import (
    calibration_of,
    combine_predictions,
    ensemble_calibration,
    predictions_of,
    same_images,
    write_evaluation,
)
from mammo.evaluation.evaluation_settings import Evaluation, EvaluationSettings
from mammo.evaluation.heatmap_evaluation import (
    HeatmapResults,
    evaluate_heatmaps,
    heatmap_method,
    write_heat,
)
from mammo.evaluation.number_format import as_json, finite
from mammo.evaluation.predictions import Predictions
from mammo.evaluation.report.evaluation_report import write_report
from mammo.evaluation.run_evaluation import own_metrics
from mammo.evaluation.scoring import Tta
from mammo.evaluation.split_scoring import SplitName, open_split
from mammo.evaluation.statistics.calibration import Calibration
from mammo.evaluation.statistics.class_performance import image_auc
from mammo.evaluation.statistics.performance import measure_performance, performance_table
from mammo.runs import RunFolder

_REPETITION = ("seed", *OF_THE_RUN)  # keys in which repetitions of one setting differ


@dataclass(frozen=True)
class _Combined:
    """Scores of several runs as one.

    Attributes:
        predictions: the combined scores.
        calibration: their calibration; None for folds.
        facts: AUC of each run, what `describe_runs` adds, and `notes`.
        store: folder of the store of the images; None if the runs have different ones.
        results: heatmap results of each fold; empty without heatmaps.
    """

    predictions: Predictions
    calibration: Calibration | None
    facts: dict[str, Any]
    store: Path | None
    results: list[HeatmapResults]


def evaluate_runs(runs: Sequence[RunFolder], settings: EvaluationSettings) -> Evaluation:
    """Evaluate the scores of several runs as one and write all files of the evaluation.

    Args:
        runs: finished runs: an ensemble, seeds of one setting, or folds.
        settings: settings of the evaluation.
    """
    rng = np.random.default_rng(settings.seed)
    combined, folder = _combine(runs, settings, rng), settings.folder
    metrics = measure_performance(
        combined.predictions, calibration=combined.calibration, **settings.measures()
    )
    metrics["own"] = own_metrics(runs[0], combined.predictions)
    metrics["runs"] = combined.facts
    metrics["notes"] += combined.facts["notes"]
    metrics["data"] = None if settings.data is None else {"source": source_name(settings.data)}
    tables = [performance_table(metrics)]
    write_evaluation(
        folder, predictions=combined.predictions, metrics=metrics, calibration=combined.calibration
    )
    if combined.results:
        tables += write_heat(
            combined.results,
            combined.predictions,
            metrics,
            calibration=combined.calibration,
            settings=settings,
            rng=rng,
        )
    name = settings.name or settings.split
    if settings.report:
        write_report(runs, folder=folder, split=name, store=combined.store)
    return Evaluation(combined.predictions, metrics, "\n\n".join(tables), name, folder)


def _combine(runs: Sequence[RunFolder], settings: EvaluationSettings, rng: np.random.Generator) -> _Combined:
    """Combine the scores of several runs, and fit a calibration to scores combined in the same way.

    Scores out of fold stay as they are: a calibration would need the labels of the very images it is
    applied to, and so let the shares of the folds into the scores.

    Args:
        runs: finished runs.
        settings: settings of the evaluation.
        rng: random number generator of the random baseline of the heatmaps.

    Raises:
        ConfigError: a run has no calibration, folds are given a target of the threshold, or an ensemble a
            method of the heatmaps.
    """
    split, data, tta = settings.split, settings.data, settings.tta
    differ = len({_held_out(run) for run in runs}) > 1
    folds = differ and split == "val" and data is None
    if differ and settings.rule != "youden":
        raise ConfigError(
            f"target_{settings.rule}={settings.target}: the threshold is fixed on validation images, and "
            "these runs have none in common; leave it out"
        )
    if not folds and settings.heatmap not in ("auto", "none"):
        raise ConfigError(
            f"heatmap={settings.heatmap}: the runs score the same images and have no common heatmap; leave "
            "it out, or evaluate one of them"
        )
    method = None
    results: list[HeatmapResults] = []
    scored, stores, notes = [], set(), []
    for run in runs:
        opened = open_split(run, split, data=data, tta=tta)
        if folds:  # each image has one network, which has its heat
            method = method or heatmap_method(opened, settings.heatmap)
        if method is None:
            scored.append(opened.score())
        else:
            heat = evaluate_heatmaps(opened, method=method, layer=settings.heatmap_layer, rng=rng)
            results.append(heat)
            scored.append(heat.predictions)
        notes += [note for note in opened.notes if note not in notes]
        stores.add(opened.store.directory)
    store = stores.pop() if len(stores) == 1 else None
    facts: dict[str, Any] = {"notes": [], "auc": [as_json(image_auc(each)) for each in scored]}
    if same_images(scored):
        facts = describe_runs(scored, [run.config() for run in runs])
    facts["notes"] += notes
    if not scored[0].task.positive:
        calibration_of(runs[0], tta=tta, rule=settings.rule, target=settings.target)  # refuses a target
        return _Combined(combine_predictions(scored, split=split), None, facts, store, results)
    if differ:
        facts["notes"].append(
            "the scores are not calibrated and the threshold is 0.5, because the runs have different "
            "validation images; give runs of one split for a calibrated ensemble"
        )
        if folds:
            return _Combined(combine_predictions(scored, split=split), None, facts, store, results)
    held_out = [predictions_of(run, "val", tta=tta) for run in runs]
    maps = _calibrations(runs, tta=tta)
    scored, held_out = (
        [map_.apply(one) for map_, one in zip(maps, side, strict=True)] for side in (scored, held_out)
    )
    combined = combine_predictions(scored, split=split)
    calibration = ensemble_calibration(held_out, rule=settings.rule, target=settings.target)
    return _Combined(combined, calibration, facts, store, results)


def _held_out(run: RunFolder) -> frozenset[str]:
    """Return the names of the validation images of a run."""
    return frozenset((run.path / "split" / "val.txt").read_text().splitlines())


def mean_predictions(parts: Sequence[Sequence[RunFolder]], split: SplitName) -> Predictions:
    """Return the mean of the scores of several parts: runs, or sets of folds.

    The scores of several runs are calibrated before they are averaged, as in `evaluate_runs`. Those of
    folds stay as they are, and so do all that are averaged with them.

    Args:
        parts: the run, or the folds, of each part; images of one set only, if there are several.
        split: the images.

    Raises:
        ConfigError: a run has no calibration.
        DataError: the parts have different tasks or samples.
    """
    scored = [[predictions_of(run, split) for run in part] for part in parts]
    single = all(len(part) == 1 for part in parts)
    if len(parts) > 1 and single and scored[0][0].task.positive:
        maps = _calibrations([part[0] for part in parts], key="runs")
        scored = [[map_.apply(part[0])] for map_, part in zip(maps, scored, strict=True)]
    combined = [part[0] if len(part) == 1 else combine_predictions(part, split=split) for part in scored]
    return combined[0] if len(combined) == 1 else ensemble(combined)


def _calibrations(runs: Sequence[RunFolder], *, key: str = "run", tta: Tta = "none") -> list[Calibration]:
    """Return the calibration of each run; raise ConfigError if one has none."""
    maps = [found for run in runs if (found := calibration_of(run, tta=tta)) is not None]
    if len(maps) < len(runs):
        raise ConfigError(f"{key}=[...]: a run without calibration cannot be combined with others; remove it")
    return maps


def describe_runs(scored: Sequence[Predictions], configs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how the AUC varies from run to run on the same images.

    For repetitions of one setting with other seeds, the standard deviation is that of training. Its share
    says how much of the uncertainty of one run's AUC comes from training, and not from the choice of
    patients: sd^2 / (sd^2 + se^2), with the mean standard error by patient se.

    Args:
        scored: scores of each run for the same images.
        configs: configuration of each run.

    Returns:
        `auc`, the AUC by sample of each run with its interval; `mean`, `sd` and `training_share` (None if a
        value is undefined, or if the runs differ in more than the seed); `differ`, the keys in which they
        differ; `notes`.
    """
    areas = [image_auc(run) for run in scored]
    differ = [key for key in differing_keys(configs) if key not in _REPETITION]
    values = [area.value for area in areas]
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    error = float(np.mean([area.standard_error**2 for area in areas]))
    repeated = not differ and len({config.get("seed") for config in configs}) == len(configs)
    share = finite(spread**2 / (spread**2 + error)) if repeated and spread > 0 else None
    notes = []
    if repeated and finite(spread) is not None:
        notes.append(
            f"{len(areas)} seeds of one setting: AUC by {scored[0].unit} {mean:.3f} on average, standard "
            f"deviation {spread:.3f} from seed to seed"
        )
    return {
        "auc": [as_json(area) for area in areas],
        "mean": finite(mean),
        "sd": finite(spread),
        "training_share": share,
        "differ": differ,
        "notes": notes,
    }
