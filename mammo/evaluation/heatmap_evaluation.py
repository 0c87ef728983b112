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
from mammo.evaluation.explain.heatmaps import Heatmaps, Method
from mammo.evaluation.explain.localisation import (
    BASELINES,
    Marks,
    breast_in,
    mark_baselines,
    mark_box,
    mark_heat,
    predicted_boxes,
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
        marks: N marks for each method; `box_head` is the box predicted by a two-headed network, if the run
            has one, `brightest` and `random` are the baselines.
        heatmaps: heatmaps that computed the heat.
        boxes: N K 4, boxes of the true lesions.
        regressed_boxes: N 4, boxes predicted by the box head, in pixels; None without a box head.
    """

    probability: NDArray[np.float32]
    marks: dict[str, list[Marks]]
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
    boxes = lesion_boxes(store.lesions, opened.images["image_id"])
    names = [method, *(["box_head"] if scorer.classifier.has_boxes else []), *BASELINES]
    marks: dict[str, list[Marks]] = {name: [] for name in names}
    probability, regressed = [], []
    starts = range(0, len(opened.rows), scorer.batch_size)
    with ThreadPoolExecutor() as pool:
        for start in tqdm(starts, desc=f"scores and {method}", disable=not sys.stderr.isatty(), leave=False):
            part = slice(start, start + scorer.batch_size)
            rows, lesions = opened.rows[part], boxes[part]
            pixels = store.read(rows)
            scored = scorer.with_heat(as_images(pixels), heatmaps, classes=_malignant(opened))
            probability.append(scored.probability.numpy())
            masks = [None if store.masks is None else store.masks[row] for row in rows]
            found = pool.map(mark_heat, scored.heat, lesions, masks)
            breasts = pool.map(breast_in, pixels)
            # in the order of the images, because all random points come from one generator
            for image in zip(pixels, lesions, masks, breasts, strict=True):
                for name, mark in mark_baselines(*image[:3], breast=image[3], rng=rng).items():
                    marks[name].append(mark)
            marks[method] += found
            if scored.boxes is not None:
                regressed.append(scored.boxes.numpy())
                shapes = [image.shape for image in pixels]
                marks["box_head"] += map(mark_box, regressed[-1], lesions, shapes, masks)
    if not any(len(mark.scores) for mark in marks[method]):
        print(
            f"heatmap={method}: every map is empty, for example because the network's last feature map has a "
            "single pixel; use heatmap=occlusion, which needs no feature map",
            file=sys.stderr,
        )
    return HeatmapResults(
        np.concatenate(probability), marks, heatmaps, boxes, np.concatenate(regressed) if regressed else None
    )


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
            predicted_boxes(heat)[0],
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
