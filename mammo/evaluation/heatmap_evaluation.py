"""Heatmaps of all images of a split: comparison with the lesions, and pictures."""

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mammo.data.loading.loader import lesion_boxes
from mammo.data.tasks import malignant_classes
from mammo.errors import ConfigError
from mammo.evaluation.explain.drawn_lesions import GROUPS, DrawnLesions, drawn_lesions
from mammo.evaluation.explain.heatmaps import Heatmaps, Method
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
from mammo.evaluation.explain.overlays import choose_gallery, draw_overlay, save_picture
from mammo.evaluation.predictions import Predictions
from mammo.evaluation.report.report_content import image_name, public
from mammo.evaluation.scoring import as_images, images_of
from mammo.evaluation.split_scoring import OpenedSplit

_PICTURE_WIDTH = 480


@dataclass(frozen=True)
class HeatmapResults:
    """Results of one pass over the images of a split.

    Attributes:
        probability: N C.
        marks: for each group of lesions, N marks for each method, None for an image that is left out;
            `box_head` is the box predicted by a two-headed network, if the run has one, `brightest` and
            `random` are the baselines.
        heatmaps: heatmaps that computed the heat.
        boxes: N K 4, boxes of the true lesions.
        regressed_boxes: N 4, boxes predicted by the box head, in pixels; None without a box head.
    """

    probability: NDArray[np.float32]
    marks: dict[str, dict[str, list[Marks | None]]]
    heatmaps: Heatmaps
    boxes: NDArray[np.float32]
    regressed_boxes: NDArray[np.float32] | None


def evaluate_heatmaps(
    opened: OpenedSplit, *, method: Method, layer: str | None = None, rng: np.random.Generator
) -> HeatmapResults:
    """Score every image and compare its heat with its lesions, with one batch in memory at a time.

    The heat is that of malignancy; for four classes, that of the malignant class with the higher score. The
    maps are not kept.

    Args:
        opened: opened split.
        method: method of the heatmaps.
        layer: see `Heatmaps`.
        rng: random number generator of the random baseline.
    """
    scorer, store = opened.scorer, opened.store
    heatmaps = Heatmaps(scorer.classifier, method=method, layer=layer)
    lesions = drawn_lesions(store.lesions, opened.images)
    names = [method, *(["box_head"] if scorer.classifier.has_boxes else []), *BASELINES]
    marks: dict[str, dict[str, list[Marks | None]]] = {
        group: {name: [] for name in names} for group in GROUPS
    }
    probability, regressed, empty = [], [], True
    starts = range(0, len(opened.rows), scorer.batch_size)
    with ThreadPoolExecutor() as pool:
        for start in tqdm(starts, desc=f"scores and {method}", disable=not sys.stderr.isatty(), leave=False):
            part = slice(start, start + scorer.batch_size)
            rows = opened.rows[part]
            pixels = store.read(rows)
            scored = scorer.with_heat(as_images(pixels), heatmaps, classes=_malignant(opened))
            probability.append(scored.probability.numpy())
            candidates: list[dict[str, Candidates]] = [
                {method: found} for found in pool.map(heat_candidates, scored.heat)
            ]
            empty = empty and not any(len(found[method].scores) for found in candidates)
            # in the order of the images, because all random points come from one generator
            for found, image, breast in zip(candidates, pixels, pool.map(breast_in, pixels), strict=True):
                found |= baseline_candidates(image, rng=rng, breast=breast)
            if scored.boxes is not None:
                regressed.append(scored.boxes.numpy())
                for found, box, image in zip(candidates, regressed[-1], pixels, strict=True):
                    found["box_head"] = box_candidate(box, image.shape)
            masks = [None if store.masks is None else store.masks[row] for row in rows]
            for compared in pool.map(_compared, candidates, lesions[part], masks):
                for (group, name), mark in compared.items():
                    marks[group][name].append(mark)
    if empty:
        print(
            f"heatmap={method}: every map is empty, for example because the network's last feature map has a "
            "single pixel; use heatmap=occlusion, which needs no feature map",
            file=sys.stderr,
        )
    boxes = lesion_boxes(store.lesions, opened.images["image_id"])
    return HeatmapResults(
        np.concatenate(probability), marks, heatmaps, boxes, np.concatenate(regressed) if regressed else None
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


def _malignant(opened: OpenedSplit) -> list[int]:
    return malignant_classes(opened.classes)


def write_gallery(
    opened: OpenedSplit,
    results: HeatmapResults,
    predictions: Predictions,
    *,
    threshold: float,
    folder: Path,
    pictures: int = 20,
) -> None:
    """Write pictures of the most informative images with their heat, which is computed again for them.

    Args:
        opened: the split.
        results: heatmap results of the images.
        predictions: predictions of the images.
        threshold: score at or above which an image is called malignant.
        folder: folder for `gallery.json` and the pictures; an existing one is replaced.
        pictures: maximum number of pictures.

    Raises:
        ConfigError: the folder cannot be written.
    """
    chosen = dict(choose_gallery(predictions.malignant, predictions.malignancy, threshold, pictures))
    indices = list(chosen)
    size = opened.scorer.batch_size
    heats = [
        heat
        for start in range(0, len(indices), size)
        for heat in opened.scorer.with_heat(
            images_of(opened.store, [opened.rows[index] for index in indices[start : start + size]]),
            results.heatmaps,
            classes=_malignant(opened),
        ).heat
    ]
    try:
        _write_pictures(opened, results, predictions, chosen=chosen, heats=heats, folder=folder)
    except OSError as error:
        raise ConfigError(f"output={folder}: cannot be written: {error.strerror}") from error


def _write_pictures(
    opened: OpenedSplit,
    results: HeatmapResults,
    predictions: Predictions,
    *,
    chosen: dict[int, str],
    heats: list[NDArray[np.float32]],
    folder: Path,
) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    entries = []
    for number, ((index, reason), heat) in enumerate(zip(chosen.items(), heats, strict=True), start=1):
        label = str(predictions.table["label"].iloc[index])
        score, image_id = float(predictions.malignancy[index]), str(predictions.images[index])
        picture = draw_overlay(
            opened.store.images[opened.rows[index]],
            heat,
            results.boxes[index],
            heat_candidates(heat).boxes,
            f"{public(image_name(image_id))}: {label.lower().replace('_', ' ')}, score {score:.3f}",
            width=_PICTURE_WIDTH,
            box_head=None if results.regressed_boxes is None else results.regressed_boxes[index],
        )
        # a number, because an image id may contain characters that a file name may not
        name = f"{number:02}.jpg"
        save_picture(folder / name, picture)
        entries.append(
            {
                "image_id": image_id,
                "picture": f"{folder.name}/{name}",
                "reason": reason,
                "label": label,
                "score": score,
            }
        )
    (folder / "gallery.json").write_text(json.dumps(entries, indent=2) + "\n")
