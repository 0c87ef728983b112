"""Scores of breasts and exams: the views of each are decoded together and scored in one forward pass."""

import functools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo.data.images.dicom import Pixels
from mammo.data.progress_bar import progress
from mammo.data.samples import Samples, group_samples, part_names
from mammo.data.store.store_building import Settings
from mammo.data.worker_pool import completed_results
from mammo.evaluation.prediction.heat_writers import DrawnHeat
from mammo.evaluation.prediction.input_files import Row, prepare_files
from mammo.evaluation.prediction.prediction_log import PredictionLog
from mammo.evaluation.prediction.sample_inputs import InputSample, InputSamples

if TYPE_CHECKING:  # this imports PyTorch, which takes seconds
    from mammo.evaluation.scoring import Scorer, Scores

# The images of each sample, as of `prepare_files`.
_Prepared: TypeAlias = list[tuple[InputSample, list[tuple[Row, Pixels | None]]]]


def pending_samples(
    found: InputSamples, log: PredictionLog, *, written: Callable[[str], bool] = lambda path: True
) -> list[InputSample]:
    """List the samples to score: those without a row, and those with an image whose heat is not written.

    Args:
        found: all samples of the input.
        log: log of the rows scored so far.
        written: whether the requested files of the heat of a path exist.
    """

    def lacks_picture(sample: InputSample, key: str) -> bool:
        lacking = [path for path in sample.paths if not written(path)]
        return bool(lacking) and any(path not in log.row(key)["unreadable"] for path in lacking)

    keys = [found.key(sample) for sample in found.samples]
    return [
        sample
        for sample, key in zip(found.samples, keys, strict=True)
        if key not in log or lacks_picture(sample, key)
    ]


def score_samples(
    found: InputSamples,
    samples: Sequence[InputSample],
    *,
    network: "Callable[[], tuple[Scorer, DrawnHeat | None]]",
    classes: Sequence[str],
    settings: Settings,
    workers: int,
    batch_size: int,
) -> Iterator[list[Row]]:
    """Score samples and yield the rows of each batch, in the order in which the batches are decoded.

    A row has the sample's key as `path`, its `scores` (None if no image can be read), `parts` (the scores of
    its views and sides by the names of their columns, where the network gives them), and `unreadable` (the
    reason for each image that cannot be read; the sample is scored without it) and `notes` of its images.

    Args:
        found: all samples of the input.
        samples: samples to score.
        network: function that returns the run's scorer and, where files of heat are requested, what writes
            them; called once, at the first readable image.
        classes: names of the classes.
        settings: settings of the run's store.
        workers: number of processes that decode, 0 for decoding in this process.
        batch_size: number of samples that a process decodes at a time and the network scores together.
    """
    starts = range(0, len(samples), batch_size)
    calls = (
        partial(
            _prepare,
            found.root,
            samples[start : start + batch_size],
            settings=settings,
            include=found.include,
        )
        for start in starts
    )
    network = functools.cache(network)
    total = len(found.samples)
    with progress(
        total=total, done=total - len(samples), what="scoring", unit=found.unit, after_seconds=2
    ) as advance:
        for batch in completed_results(
            calls, workers=min(workers, len(starts)), retry=lambda call: call(alone=True)
        ):
            yield _score(batch, found, network, classes=classes, size=batch_size)
            advance(len(batch))


def _prepare(
    root: Path,
    samples: Sequence[InputSample],
    *,
    settings: Settings,
    include: Collection[str],
    alone: bool = False,
) -> _Prepared:
    prepare = partial(prepare_files, root, settings=settings, secondary=True, include=include, alone=alone)
    return [(sample, prepare(sample.paths)) for sample in samples]


def _score(
    batch: _Prepared,
    found: InputSamples,
    network: "Callable[[], tuple[Scorer, DrawnHeat | None]]",
    *,
    classes: Sequence[str],
    size: int,
) -> list[Row]:
    rows: list[Row] = []
    images: list[tuple[Row, int]] = []  # row of the image and number of its sample
    pixels: list[Pixels] = []
    for number, (sample, prepared) in enumerate(batch):
        unreadable = {row["path"]: row["error"] for row, _ in prepared if row["error"] is not None}
        notes = [note for row, _ in prepared for note in row["notes"]]
        known = {"path": found.key(sample), "parts": {}, "unreadable": unreadable, "notes": notes}
        rows.append(known | {"scores": None, "error": None})
        for (row, image), (_, laterality, view) in zip(prepared, sample.images, strict=True):
            if image is not None:
                images.append((row | {"laterality": laterality, "view": view}, number))
                pixels.append(image)
    if not pixels:
        return rows
    table = pd.DataFrame(
        {
            "image_id": [f"{place:09d}" for place in range(len(images))],
            "patient_id": [f"{number:09d}" for _, number in images],
            **{key: [row[key] for row, _ in images] for key in ("laterality", "view")},
        },
        dtype="string",
    )
    samples = group_samples(table, unit=found.unit, views=found.views)
    scorer, drawn = network()
    of_sample, heats = _forward(samples, pixels, scorer, drawn, size=size)
    numbers = samples.table.drop_duplicates("group")["patient_id"].astype(int)
    for place, number in enumerate(numbers):
        rows[number]["scores"] = of_sample.probability[place].tolist()
        if of_sample.parts is not None:
            rows[number]["parts"] = {
                f"score_{name}_{part}": None if math.isnan(value) else value
                for part, values in zip(
                    part_names(found.unit, found.views), of_sample.parts[place].tolist(), strict=True
                )
                for name, value in zip(classes, values, strict=True)
            }
    if drawn is not None:
        drawn.draw(heats, pixels, [row | {"scores": rows[number]["scores"]} for row, number in images])
    return rows


def _forward(
    samples: Samples, pixels: Sequence[Pixels], scorer: "Scorer", drawn: DrawnHeat | None, *, size: int
) -> "tuple[Scores, NDArray[np.float32]]":
    """Return the scores of the groups of samples and, where it is requested, the heat of the images.

    Args:
        samples: samples whose rows are positions in `pixels`.
        pixels: images, H W each.
        scorer: scorer of the run.
        drawn: the requested heat; None for none.
        size: number of samples per forward pass.
    """
    import torch

    from mammo.evaluation.scoring import as_images, of_units

    scores: list[Scores] = []
    heats = np.zeros((len(pixels) if drawn else 0, *pixels[0].shape), np.float32)
    for start in range(0, len(samples.rows), size):
        rows = samples.rows[start : start + size]
        present = rows >= 0
        stored = np.zeros((*rows.shape, *pixels[0].shape), pixels[0].dtype)
        stored[present] = [pixels[row] for row in rows[present]]
        images = as_images(stored.reshape(-1, *pixels[0].shape)).reshape(*rows.shape, 1, *pixels[0].shape)
        there = torch.from_numpy(present)
        if drawn is None:
            scores.append(scorer(images, there))
            continue
        scored = scorer.with_heat(images, drawn.heatmaps, classes=drawn.task.shown, present=there)
        scores.append(scored.scores)
        heats[rows[present]] = scored.heat[present]  # an image of several samples: of the last one
    return of_units(samples.table["group"].to_numpy(dtype=np.int64), scores), heats
