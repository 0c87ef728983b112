"""Heatmaps of every image of a split, compared with the lesions, and pictures of them."""

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
    """What one pass over the images of a split gives.

    Attributes:
        probability: N C.
        marks: by method, N each; `box_head` is the box predicted by a two-headed network, if the run has
            one, `brightest` and `random` are the baselines.
        heatmaps: that gave the heat.
        boxes: N K 4, of the true lesions.
        told: N 4 in pixels, of the box head where there is one.
    """

    probability: NDArray[np.float32]
    marks: dict[str, list[Marks]]
    heatmaps: Heatmaps
    boxes: NDArray[np.float32]
    told: NDArray[np.float32] | None


def evaluate_heatmaps(
    opened: OpenedSplit, *, method: Method, layer: str | None = None, rng: np.random.Generator
) -> HeatmapResults:
    """Score every image, and hold its heat against its lesions; a batch is in memory at a time.

    The heat is that of malignancy; among four classes that of the malignant one which scores higher. No map
    is kept.

    Args:
        opened: a split.
        method: method of the heatmaps.
        layer: see `Heatmaps`.
        rng: draws the random baseline.
    """
    scorer, store = opened.scorer, opened.store
    heatmaps = Heatmaps(scorer.classifier, method=method, layer=layer)
    boxes = lesion_boxes(store.lesions, opened.images["image_id"])
    names = [method, *(["box_head"] if scorer.classifier.has_boxes else []), *BASELINES]
    marks: dict[str, list[Marks]] = {name: [] for name in names}
    probability, told = [], []
    starts = range(0, len(opened.rows), scorer.batch_size)
    with ThreadPoolExecutor() as pool:
        for start in tqdm(starts, desc=f"scores and {method}", disable=not sys.stderr.isatty(), leave=False):
            part = slice(start, start + scorer.batch_size)
            rows, lesions = opened.rows[part], boxes[part]
            pixels = store.read(rows)
            seen = scorer.with_heat(as_images(pixels), heatmaps, classes=_malignant(opened))
            probability.append(seen.probability.numpy())
            masks = [None if store.masks is None else store.masks[row] for row in rows]
            found = pool.map(mark_heat, seen.heat, lesions, masks)
            breasts = pool.map(breast_in, pixels)
            # in the order of the images, for the random points are drawn one after the other
            for image in zip(pixels, lesions, masks, breasts, strict=True):
                for name, mark in mark_baselines(*image[:3], breast=image[3], rng=rng).items():
                    marks[name].append(mark)
            marks[method] += found
            if seen.boxes is not None:
                told.append(seen.boxes.numpy())
                shapes = [image.shape for image in pixels]
                marks["box_head"] += map(mark_box, told[-1], lesions, shapes, masks)
    if not any(len(mark.scores) for mark in marks[method]):
        print(
            f"heatmap={method}: every map is empty, as where the network's last map is a single pixel; "
            "heatmap=occlusion needs no map",
            file=sys.stderr,
        )
    return HeatmapResults(
        np.concatenate(probability), marks, heatmaps, boxes, np.concatenate(told) if told else None
    )


def _malignant(opened: OpenedSplit) -> list[int]:
    return malignant_classes(opened.classes)


def write_gallery(
    opened: OpenedSplit,
    sight: HeatmapResults,
    predictions: Predictions,
    *,
    threshold: float,
    folder: Path,
    pictures: int = 20,
) -> None:
    """Pictures of the most telling images with their heat, which is made again for these few.

    Args:
        opened: the split.
        sight: heatmap results of the images.
        predictions: predictions of the images.
        threshold: at or above which an image is called malignant.
        folder: `gallery.json` and the pictures, beside those of other methods.
        pictures: largest number of pictures.

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
            sight.heatmaps,
            classes=_malignant(opened),
        ).heat
    ]
    try:
        _write_pictures(opened, sight, predictions, chosen=chosen, heats=heats, folder=folder)
    except OSError as error:
        raise ConfigError(f"output={folder}: cannot be written: {error.strerror}") from error


def _write_pictures(
    opened: OpenedSplit,
    sight: HeatmapResults,
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
            sight.boxes[index],
            predicted_boxes(heat)[0],
            f"{public(image_name(image_id))}: {label.lower().replace('_', ' ')}, score {score:.3f}",
            width=_PICTURE_WIDTH,
            box_head=None if sight.told is None else sight.told[index],
        )
        # by number, for an image's id may hold what a file's name may not
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
