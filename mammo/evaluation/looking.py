"""Where the network looked: its heat on every image of a split, held against the lesions and shown."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from mammo.data.loader import lesion_boxes
from mammo.errors import ConfigError
from mammo.evaluation.evaluating import Scored
from mammo.evaluation.heatmaps import Heatmaps, Method
from mammo.evaluation.inference import images_of
from mammo.evaluation.localisation import (
    BASELINES,
    Marks,
    localise,
    mark_baselines,
    mark_box,
    mark_heat,
    predicted_boxes,
)
from mammo.evaluation.overlays import choose_gallery, draw_overlay, save_picture
from mammo.evaluation.report_page import image_name, public

_PICTURE_WIDTH = 480


def look(
    scored: Scored,
    *,
    method: Method,
    layer: str | None = None,
    threshold: float,
    folder: Path,
    pictures: int = 20,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Heatmaps of every image: how well they find the lesions, and pictures of the most telling.

    The heat is that of malignancy; among four classes that of the malignant one which scores higher. No map
    is kept but those that are shown.

    Args:
        scored: a split.
        method: of the heatmaps.
        layer: see `Heatmaps`.
        threshold: at or above which an image is called malignant.
        folder: `gallery.json` and the pictures, beside those of other methods.
        pictures: at most so many.
        resamples: of the patients.
        seed: of the resamples and the random baseline.

    Returns:
        See `localise`; by method, `box_head` is the box that a two-headed network tells, where the run has
        one; `brightest` and `random` are the baselines.

    Raises:
        ConfigError: the folder cannot be written.
    """
    predictions, store = scored.predictions, scored.store
    rng = np.random.default_rng(seed)
    boxes = lesion_boxes(store.lesions, predictions.table["image_id"])
    chosen = dict(choose_gallery(predictions.malignant, predictions.malignancy, threshold, pictures))
    shown: dict[int, NDArray[np.float32]] = {}
    told = _told_boxes(scored)
    names = [method, *([] if told is None else ["box_head"]), *BASELINES]
    marks: dict[str, list[Marks]] = {name: [] for name in names}
    warm = 0
    for index, heat in enumerate(_heats(scored, method, layer)):
        warm += bool(heat.any())
        row = scored.rows[index]
        mask = None if store.masks is None else np.asarray(store.masks[row])
        marks[method].append(mark_heat(heat, boxes[index], mask))
        if told is not None:
            marks["box_head"].append(mark_box(told[index], boxes[index], heat.shape, mask))
        for name, mark in mark_baselines(store.images[row], boxes[index], mask, rng=rng).items():
            marks[name].append(mark)
        if index in chosen:
            shown[index] = heat
    if not warm:
        print(
            f"heatmap={method}: every map is empty, as where the network's last map is a single pixel; "
            "heatmap=occlusion needs no map",
            file=sys.stderr,
        )
    try:
        _write_gallery(scored, chosen=chosen, heats=shown, boxes=boxes, told=told, folder=folder)
    except OSError as error:
        raise ConfigError(f"output={folder}: cannot be written: {error.strerror}") from error
    return localise(
        marks,
        malignant=predictions.malignant,
        scores=predictions.malignancy,
        patients=predictions.patients,
        rng=rng,
        resamples=resamples,
    )


def _heats(scored: Scored, method: Method, layer: str | None) -> Iterator[NDArray[np.float32]]:
    """H W each, in the order of the predictions; a batch in memory at a time."""
    scorer, predictions = scored.scorer, scored.predictions
    heatmaps = Heatmaps(scorer.classifier, method=method, layer=layer)
    malignant = [index for index, name in enumerate(predictions.classes) if name.startswith("MALIGNANT")]
    targets = np.asarray(malignant)[predictions.scores[:, malignant].argmax(axis=1)]
    starts = range(0, len(scored.rows), scorer.batch_size)
    for start in tqdm(starts, desc=f"heatmaps, {method}", disable=not sys.stderr.isatty(), leave=False):
        part = slice(start, start + scorer.batch_size)
        images = images_of(scored.store, scored.rows[part]).to(scorer.device)
        yield from heatmaps(images, torch.from_numpy(targets[part]).to(scorer.device))


def _told_boxes(scored: Scored) -> NDArray[np.float32] | None:
    """N 4 in pixels of the run's box head, in the order of the predictions; None where it has none."""
    scorer, rows = scored.scorer, scored.rows
    if not scorer.classifier.has_boxes:
        return None
    starts = range(0, len(rows), scorer.batch_size)
    parts = (scorer.boxes(images_of(scored.store, rows[at : at + scorer.batch_size])) for at in starts)
    return np.concatenate([part.numpy() for part in parts])


def _write_gallery(
    scored: Scored,
    *,
    chosen: dict[int, str],
    heats: dict[int, NDArray[np.float32]],
    boxes: NDArray[np.float32],
    told: NDArray[np.float32] | None,
    folder: Path,
) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    predictions, entries = scored.predictions, []
    for number, (index, reason) in enumerate(chosen.items(), start=1):
        heat, label = heats[index], str(predictions.table["label"].iloc[index])
        score, image_id = float(predictions.malignancy[index]), str(predictions.images[index])
        picture = draw_overlay(
            scored.store.images[scored.rows[index]],
            heat,
            boxes[index],
            predicted_boxes(heat)[0],
            f"{public(image_name(image_id))}: {label.lower().replace('_', ' ')}, score {score:.3f}",
            width=_PICTURE_WIDTH,
            box_head=None if told is None else told[index],
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
