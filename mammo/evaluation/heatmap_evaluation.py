"""Heatmaps of all images of a split: comparison with the lesions, and pictures."""

import json
import math
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from mammo.atomic_files import report_unwritable
from mammo.data.loading.loader import scaled
from mammo.data.progress_bar import shows_bars
from mammo.evaluation.evaluation_files import write_evaluation
from mammo.evaluation.evaluation_settings import EvaluationSettings
from mammo.evaluation.explain.drawn_lesions import GROUPS, DrawnLesions, drawn_lesions
from mammo.evaluation.explain.gallery_choice import choose_class_gallery, choose_gallery, other_breasts
from mammo.evaluation.explain.heatmaps import Heatmaps, Method, default_method
from mammo.evaluation.explain.localisation import (
    BASELINES,
    Candidates,
    Marks,
    baseline_candidates,
    box_candidate,
    breast_in,
    compare,
    heat_candidates,
)
from mammo.evaluation.explain.localisation_scores import localisation_table, localise
from mammo.evaluation.explain.overlays import (
    DrawnView,
    draw_views,
    drawn_views,
    save_picture,
)
from mammo.evaluation.predictions import Predictions
from mammo.evaluation.report.figure_style import readable
from mammo.evaluation.scoring import Scores, of_units
from mammo.evaluation.split_scoring import OpenedSplit
from mammo.evaluation.statistics.calibration import Calibration

_PICTURE_WIDTH = 480
_VIEW_BYTES = 60_000


@dataclass(frozen=True)
class HeatmapResults:
    """Results of one pass over the samples of a split.

    Attributes:
        opened: the split.
        scores: scores of the U units.
        marks: for each group of lesions, M marks for each method, one for each image that a sample has seen,
            None for an image that is left out; `box_head` is the box predicted by a two-headed network, if
            the run has one, `brightest`, `centre` and `random` are the baselines.
        rows: M, row of each of these images in the store.
        units: M, unit of each of these images.
        heatmaps: heatmaps that computed the heat.
    """

    opened: OpenedSplit
    scores: Scores
    marks: dict[str, dict[str, list[Marks | None]]]
    rows: NDArray[np.int64]
    units: NDArray[np.int64]
    heatmaps: Heatmaps

    @property
    def predictions(self) -> Predictions:
        """Uncalibrated predictions of the units."""
        return self.opened.predictions(self.scores)


def heatmap_method(opened: OpenedSplit, heatmap: Method | Literal["auto", "none"]) -> Method | None:
    """Return the method of the heatmaps of a split; None for no heatmaps, such as those of patches."""
    # heat is compared with the lesions of whole images
    if heatmap == "none" or opened.dataset.sample_unit == "patch":
        return None
    if heatmap != "auto":
        return heatmap
    one = opened.dataset.batch([0])["image"].to(opened.scorer.device)
    return default_method(opened.scorer.classifier, one)


def evaluate_heatmaps(
    opened: OpenedSplit, *, method: Method, layer: str | None = None, rng: np.random.Generator
) -> HeatmapResults:
    """Score every sample and compare the heat of its images with their lesions, a batch in memory at a time.

    The heat is that of the most probable of the positive classes, such as malignant, or of all classes if
    none is positive. It is compared with the lesions if the task is one of pathology. The maps are not kept.

    Args:
        opened: opened split.
        method: method of the heatmaps.
        layer: see `Heatmaps`.
        rng: random number generator of the random baseline.
    """
    scorer, store, dataset = opened.scorer, opened.store, opened.dataset
    heatmaps = Heatmaps(scorer.classifier, method=method, layer=layer)
    lesions = dict(zip(opened.images["row"], drawn_lesions(store.lesions, opened.images), strict=True))
    names = [method, *(["box_head"] if scorer.classifier.has_boxes else []), *BASELINES]
    marks: dict[str, dict[str, list[Marks | None]]] = {
        group: {name: [] for name in names} for group in GROUPS
    }
    unit_of: dict[int, int] = {}  # of the images so far, by row
    scores, empty = [], True
    total = math.ceil(len(dataset) / scorer.batch_size)
    with ThreadPoolExecutor() as pool:
        for batch in tqdm(
            scorer.batches(dataset),
            desc=f"scores and {method}",
            total=total,
            disable=not shows_bars(),
            leave=False,
        ):
            scored = scorer.with_heat(
                scaled(batch)["image"], heatmaps, classes=opened.task.shown, present=batch["present"]
            )
            scores.append(scored.scores)
            stored = batch["image"].flatten(0, 2).numpy()
            # an image may be in several samples of a breast
            seen = zip(
                batch["row"].flatten().tolist(),
                batch["unit"].repeat_interleave(batch["row"].shape[1]).tolist(),
                scored.heat.reshape(stored.shape),
                stored,
                strict=True,
            )
            new = {row: rest for row, *rest in seen if row >= 0 and row not in unit_of}
            unit_of |= {row: unit for row, (unit, _, _) in new.items()}
            pixels = [image for _, _, image in new.values()]
            candidates: list[dict[str, Candidates]] = [
                {method: found} for found in pool.map(heat_candidates, [heat for _, heat, _ in new.values()])
            ]
            empty = empty and not any(len(found[method].scores) for found in candidates)
            # in the order of the images, because all random points come from one generator
            for found, image, breast in zip(candidates, pixels, pool.map(breast_in, pixels), strict=True):
                found |= baseline_candidates(image, rng=rng, breast=breast)
            if scored.boxes is not None:
                for found, box, image in zip(candidates, scored.boxes.numpy(), pixels, strict=True):
                    found["box_head"] = box_candidate(box, image.shape)
            masks = [None if store.masks is None else store.masks[row] for row in new]
            for compared in pool.map(_compared, candidates, [lesions[row] for row in new], masks):
                for (group, name), mark in compared.items():
                    marks[group][name].append(mark)
    if empty:
        print(
            f"heatmap={method}: every map is empty, for example because the network's last feature map has a "
            "single pixel; use heatmap=occlusion, which needs no feature map",
            file=sys.stderr,
        )
    return HeatmapResults(
        opened,
        of_units(dataset.unit, scores),
        marks,
        np.array(list(unit_of), dtype=np.int64),
        np.array(list(unit_of.values()), dtype=np.int64),
        heatmaps,
    )


def _compared(
    candidates: dict[str, Candidates], lesions: DrawnLesions, mask: NDArray[np.uint8] | None
) -> dict[tuple[str, str], Marks | None]:
    """Return the marks of each group of lesions and method in one image; None where it is left out."""
    regions = lesions.regions(next(iter(candidates.values())).heat.shape, mask)
    groups = {group: lesions.group(group) for group in GROUPS}
    return {
        (group, name): None if chosen is None else compare(found, regions[chosen])
        for group, chosen in groups.items()
        for name, found in candidates.items()
    }


def localise_results(
    results: Sequence[HeatmapResults],
    predictions: Predictions,
    *,
    rng: np.random.Generator,
    resamples: int,
) -> dict[str, Any]:
    """Compute the localisation scores of a split, or of the splits of all folds together.

    Args:
        results: results of the split, or of each fold.
        predictions: predictions of their units, in the order of the results.
        rng: random number generator of the resamples.
        resamples: number of resamples of the patients.

    Returns:
        What `localise` returns, and `placement`, see `Heatmaps`.
    """
    first = results[0]
    marks = {
        group: {name: [mark for each in results for mark in each.marks[group][name]] for name in methods}
        for group, methods in first.marks.items()
    }
    labels, units, patients = [], [], []
    for start, each in _from_first_unit(results):
        opened = each.opened
        labels.append(pd.Series(opened.labels, index=opened.images["row"])[each.rows])
        units.append(start + each.units)
        patients.append(opened.images.set_index("row").loc[each.rows, "patient_id"].to_numpy(dtype=str))
    found = localise(
        marks,
        malignant=np.isin(np.concatenate(labels), first.opened.task.positives).astype(np.int64),
        scores=predictions.malignancy[np.concatenate(units)],
        patients=np.concatenate(patients),
        rng=rng,
        resamples=resamples,
    )
    return found | {"placement": first.heatmaps.placement(first.opened.store.images.shape[1:])}


def write_heat(
    results: Sequence[HeatmapResults],
    predictions: Predictions,
    metrics: dict[str, Any],
    *,
    calibration: Calibration | None,
    settings: EvaluationSettings,
    rng: np.random.Generator,
) -> list[str]:
    """Add the localisation scores to an evaluation and its files, and write the pictures.

    Args:
        results: results of the split, or of each fold.
        predictions: predictions of their units, in the order of the results.
        metrics: metrics of the predictions, to which `localisation` is added for a task of pathology.
        calibration: calibration of the predictions.
        settings: settings of the evaluation.
        rng: random number generator of the resamples.

    Returns:
        Tables of the scores to print: one, or none.
    """
    task, folder, tables = predictions.task, settings.folder, []
    if task.of_pathology:
        found = localise_results(results, predictions, rng=rng, resamples=settings.resamples)
        metrics["localisation"] = found
        tables.append(localisation_table(found))
        write_evaluation(folder, predictions=predictions, metrics=metrics, calibration=calibration)
    threshold = metrics[predictions.unit]["threshold"] if task.positive else None
    pictures = folder / "heatmaps"
    write_gallery(results, predictions, threshold=threshold, folder=pictures, hanging=settings.hanging)
    return tables


def _from_first_unit(results: Sequence[HeatmapResults]) -> list[tuple[int, HeatmapResults]]:
    """Return each result with the number of units before its first one."""
    counts = [len(each.opened.dataset.units) for each in results]
    return list(zip(np.cumsum([0, *counts[:-1]]).tolist(), results, strict=True))


def write_gallery(
    results: Sequence[HeatmapResults],
    predictions: Predictions,
    *,
    threshold: float | None,
    folder: Path,
    hanging: bool = True,
) -> None:
    """Write pictures of the most informative samples and of the worst errors with their heat.

    The heat is computed again for them. The picture of an image also has the same view of the woman's other
    breast, if it is in the split.

    Args:
        results: results of the split, or of each fold.
        predictions: predictions of their units, in the order of the results.
        threshold: score at or above which an image is called positive; None without a positive class.
        folder: folder for `gallery.json` and the pictures; an existing one is replaced.
        hanging: see `drawn_views`.

    Raises:
        ConfigError: the folder cannot be written.
    """
    if predictions.task.positive:
        chosen = choose_gallery(predictions.malignant, predictions.malignancy, threshold)
    else:
        chosen = choose_class_gallery(predictions.labels, predictions.scores)
    beside: dict[int, int] = {}
    views: dict[int, list[DrawnView | None]] = {}
    for start, each in _from_first_unit(results):
        opened = each.opened
        others = other_breasts(opened.images) if opened.dataset.sample_unit == "image" else {}
        beside |= {start + index: start + other for index, other in others.items()}
        inside = range(start, start + len(opened.dataset.units))
        shown = [unit for index, _ in chosen if index in inside for unit in (index, beside.get(index, index))]
        units = [unit - start for unit in dict.fromkeys(shown)]
        drawn = views_of_units(opened, each.heatmaps, units, hanging=hanging)
        views |= {start + unit: of_unit for unit, of_unit in drawn.items()}
    facts = {"hanging": hanging}
    with report_unwritable("output", folder):
        _write_pictures(predictions, chosen=chosen, beside=beside, views=views, facts=facts, folder=folder)


def views_of_units(
    opened: OpenedSplit, heatmaps: Heatmaps, units: Sequence[int], *, hanging: bool = True
) -> dict[int, list[DrawnView | None]]:
    """Return the views of units with their heat, of the first sample of each.

    Args:
        opened: the split.
        heatmaps: heatmaps of the network of the split.
        units: indices of units of the dataset.
        hanging: see `drawn_views`.
    """
    samples = opened.dataset.first_of_units[list(units)].tolist()
    size = opened.scorer.batch_size
    views: dict[int, list[DrawnView | None]] = {}
    for start in range(0, len(units), size):
        part = slice(start, start + size)
        batch = opened.dataset.batch(samples[part])
        scored = opened.scorer.with_heat(
            batch["image"], heatmaps, classes=opened.task.shown, present=batch["present"]
        )
        heats = scored.heat
        crops = [None] * len(heats) if scored.crops is None else zip(*scored.crops, strict=True)
        boxes = [None] * len(heats) if scored.boxes is None else scored.boxes.numpy()
        views |= {
            unit: drawn_views(opened.dataset, sample, heat, hanging=hanging, box_head=box, crops=crop)
            for unit, sample, heat, box, crop in zip(
                units[part], samples[part], heats, boxes, crops, strict=True
            )
        }
    return views


def score_shown(predictions: Predictions, index: int) -> tuple[float, str]:
    """Return the score that the picture of an image shows, and what it is, with the class of the heat."""
    task, scores = predictions.task, predictions.scores[index]
    drawn = max(task.shown, key=lambda place: scores[place])
    if not task.positive:
        return float(scores[drawn]), f"heat and score of {readable(task.classes[drawn])}"
    several = f"heat of {readable(task.classes[drawn])}, " if len(task.shown) > 1 else ""
    return float(predictions.malignancy[index]), f"{several}score"


def _write_pictures(
    predictions: Predictions,
    *,
    chosen: list[tuple[int, str]],
    beside: dict[int, int],
    views: dict[int, list[DrawnView | None]],
    facts: dict[str, Any],
    folder: Path,
) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    entries = []
    for number, (index, reason) in enumerate(chosen, start=1):
        # the right breast is left of the left one, as mammograms hang
        together = sorted(
            {index, beside.get(index, index)},
            key=lambda each: str(predictions.table["laterality"].iloc[each]) != "RIGHT",
        )
        shown = [view for each in together for view in views[each]]
        picture = draw_views(shown, "", width=_PICTURE_WIDTH)
        # a number, because an image id may contain characters that a file name may not
        name = f"{number:02}.jpg"
        save_picture(folder / name, picture, most_bytes=_VIEW_BYTES * len(shown))
        entries.append(
            {
                **_caption(predictions, index),
                **facts,
                "picture": f"{folder.name}/{name}",
                "reason": reason,
                "views": len(shown),
                "crops": any(view is not None and view.crops is not None for view in shown),
                "beside": _caption(predictions, beside[index]) if index in beside else None,
            }
        )
    (folder / "gallery.json").write_text(json.dumps(entries, indent=2) + "\n")


def _caption(predictions: Predictions, index: int) -> dict[str, Any]:
    score, said = score_shown(predictions, index)
    label = str(predictions.table["label"].iloc[index])
    return {"sample_id": str(predictions.samples[index]), "label": label, "score": score, "said": said}
