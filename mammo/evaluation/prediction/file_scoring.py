"""Scores of new mammograms, which several processes decode and the network scores in batches."""

import functools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from mammo.data.images.dicom import Pixels
from mammo.data.images.display import Display
from mammo.data.progress_bar import progress
from mammo.data.store.store_building import Settings
from mammo.data.store.white_points import ranges_of_run
from mammo.data.worker_pool import completed_results
from mammo.errors import ConfigError
from mammo.evaluation.prediction.heat_writers import DrawnHeat
from mammo.evaluation.prediction.image_inputs import OneImage, prepare_images
from mammo.evaluation.prediction.input_files import SECONDARY, Files, Row, prepare_files
from mammo.evaluation.prediction.prediction_log import PredictionLog
from mammo.runs import RunFolder
from mammo.runs.provenance import weights_digest

if TYPE_CHECKING:  # it imports PyTorch, which takes seconds, while the first images are decoded
    from mammo.evaluation.scoring import Scorer

T = TypeVar("T")


def preparation_of(run: RunFolder) -> Settings:
    """Return the settings with which new images are prepared for the network of a run.

    Raises:
        ConfigError: the run scores patches.
    """
    data = run.config()["data"]
    if data.get("sample_unit") == "patch":
        raise ConfigError(
            f"run={run.path}: scores patches of images, not whole images; train a run of images from its "
            f"weights, data.sample_unit=image model.weights={run.path}"
        )
    preparation = {key: data[key] for key in ("height", "width", "crop", "aspect")}
    display = {key: data[key] for key in ("white", "window", "for_processing")}
    shown = Display(**display, kinds=ranges_of_run(run))
    return Settings(**preparation, dtype="uint16", masks=False, display=shown)


def identity_of(run: RunFolder, files: Files) -> dict[str, str]:
    """Return what identifies a table of scores: SHA-256 of the weights and absolute path of the input folder.

    Raises:
        ConfigError: The run has no checkpoint of a best epoch, or it cannot be read.
    """
    return {"weights_sha256": weights_digest(run), "input": str(files.root.absolute())}


def kinds_included(run: RunFolder, include: Collection[str]) -> frozenset[str]:
    """Return the kinds of objects that a run scores: those wanted, and raw images if it converts them."""
    converts = preparation_of(run).display.for_processing == "convert"
    return frozenset([*include, *(["for_processing"] if converts else [])])


def pending_files(
    files: Files,
    log: PredictionLog,
    *,
    written: "Callable[[str], bool]" = lambda path: True,
    secondary: bool = False,
    include: Collection[str] = (),
) -> list[str]:
    """List the files to score: those without a row, and readable ones without a requested file of heat.

    Args:
        files: all files of the input.
        log: log of the rows scored so far.
        written: whether the requested files of the heat of a path exist.
        secondary: see `wanted_facts`.
        include: see `wanted_facts`.
    """

    def pending(path: str) -> bool:
        if path not in log:
            return True
        row = log.row(path)
        if row["error"] is None:
            return not written(path)
        return (secondary and row["error"] == SECONDARY) or row.get("kind") in include

    return [path for path in files.paths if pending(path)]


def score_files(
    files: Files,
    paths: Sequence[str],
    log: PredictionLog,
    *,
    network: "Callable[[], tuple[Scorer, DrawnHeat | None]]",
    settings: Settings,
    workers: int,
    batch_size: int,
    secondary: bool = False,
    include: Collection[str] = (),
) -> None:
    """Score files and append their rows to a log.

    Memory holds one batch for each process, and two more that wait for the network.

    Args:
        files: all files of the input.
        paths: paths of the files to score.
        log: log that receives the rows.
        network: function that returns the run's scorer and, where files of heat are requested, what writes
            them; called once, at the first readable image, while others are being decoded.
        settings: settings of the run's store.
        workers: number of processes that decode, 0 for decoding in this process.
        batch_size: number of files that a process decodes at a time and the network scores together.
        secondary: see `wanted_facts`.
        include: see `wanted_facts`.
    """
    calls = (
        partial(prepare_files, files.root, batch, settings=settings, secondary=secondary, include=include)
        for batch in _batches(paths, batch_size)
    )
    total = len(files.paths)
    with progress(total=total, done=total - len(paths), what="scoring") as advance:
        for rows in _scored(calls, network, workers=min(workers, math.ceil(len(paths) / batch_size))):
            log.append(rows)
            advance(len(rows))


def score_images(
    images: Sequence[OneImage],
    *,
    scorer: "Scorer",
    settings: Settings,
    workers: int,
    batch_size: int,
    secondary: bool = False,
    include: Collection[str] = (),
) -> list[Row]:
    """Score images in memory or in files, without writing files, in the same way as `score_files`.

    Args:
        images: paths of files, and pixels.
        scorer: scorer of the run.
        settings: settings of the run's store.
        workers: number of processes that decode, 0 for decoding in this process.
        batch_size: number of images that are scored together.
        secondary: see `wanted_facts`.
        include: see `wanted_facts`.

    Returns:
        The row of each image, in their order.
    """
    places = _batches(range(len(images)), batch_size)
    calls = (
        partial(
            _prepare_places,
            batch,
            [images[place] for place in batch],
            settings=settings,
            secondary=secondary,
            include=include,
        )
        for batch in places
    )
    rows: dict[int, Row] = {}
    with progress(total=len(images), done=0, what="scoring", after_seconds=2) as advance:
        for batch in _scored(
            calls, lambda: (scorer, None), workers=min(workers, math.ceil(len(images) / batch_size))
        ):
            rows |= {row.pop("place"): row for row in batch}
            advance(len(batch))
    return [rows[place] for place in range(len(images))]


def _prepare_places(
    places: Sequence[int],
    images: Sequence[OneImage],
    *,
    settings: Settings,
    secondary: bool,
    include: Collection[str],
    alone: bool = False,
) -> list[tuple[Row, Pixels | None]]:
    """Prepare images and note the place of each, because batches end in any order."""
    prepared = prepare_images(images, settings=settings, secondary=secondary, include=include, alone=alone)
    return [(row | {"place": place}, pixels) for place, (row, pixels) in zip(places, prepared, strict=True)]


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _scored(
    calls: Iterator[partial[list[tuple[Row, Pixels | None]]]],
    network: "Callable[[], tuple[Scorer, DrawnHeat | None]]",
    *,
    workers: int,
) -> Iterator[list[Row]]:
    """Yield the rows of each batch with their scores, in the order in which the batches are prepared."""
    network = functools.cache(network)
    for batch in completed_results(calls, workers=workers, retry=lambda call: call(alone=True)):
        readable = [(row, pixels) for row, pixels in batch if pixels is not None]
        if readable:
            scorer, drawn = network()
            from mammo.evaluation.scoring import as_images

            rows, images = zip(*readable, strict=True)
            tensor = as_images(np.stack(images))
            if drawn is None:
                probability, heats = scorer(tensor).probability, None
            else:
                scored = scorer.with_heat(tensor, drawn.heatmaps, classes=drawn.task.shown)
                probability, heats = scored.scores.probability, scored.heat
            for row, scores in zip(rows, probability.tolist(), strict=True):
                row["scores"] = scores
            if drawn is not None and heats is not None:
                drawn.draw(heats, images, rows)
        yield [row for row, _ in batch]
