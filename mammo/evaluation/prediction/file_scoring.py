"""Scores and pictures of new mammograms, which several processes decode and the network scores in batches."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from mammo.data.images.dicom import Pixels
from mammo.data.images.display import Display
from mammo.data.progress_bar import progress
from mammo.data.store.store_building import Settings
from mammo.data.store.white_points import ranges_of_run
from mammo.data.tasks import Task
from mammo.data.worker_pool import completed_results
from mammo.errors import ConfigError
from mammo.evaluation.prediction.image_inputs import OneImage, prepare_images
from mammo.evaluation.prediction.input_files import SECONDARY, Files, Row, prepare_files
from mammo.evaluation.prediction.prediction_log import PredictionLog
from mammo.runs import RunFolder
from mammo.runs.provenance import weights_digest

if TYPE_CHECKING:  # these import PyTorch, which takes seconds, while the first images are decoded
    from mammo.evaluation.explain.heatmaps import Heatmaps
    from mammo.evaluation.scoring import Scorer

T = TypeVar("T")

_MIN_PICTURE_WIDTH = 480  # pixels


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


def pending_files(
    files: Files, log: PredictionLog, *, heatmaps: Path | None, secondary: bool = False
) -> list[str]:
    """List the files to score: those without a row, and readable ones without a requested picture.

    Args:
        files: all files of the input.
        log: log of the rows scored so far.
        heatmaps: folder of the pictures, None for no pictures.
        secondary: whether secondary files are scored, see `prepare_files`.
    """

    def lacks_picture(path: str) -> bool:
        if heatmaps is None or picture_of(heatmaps, path).exists():
            return False
        return log.row(path)["error"] is None

    def left_out(path: str) -> bool:
        return secondary and log.row(path)["error"] == SECONDARY

    return [path for path in files.paths if path not in log or lacks_picture(path) or left_out(path)]


def score_files(
    files: Files,
    paths: Sequence[str],
    log: PredictionLog,
    *,
    network: "Callable[[], tuple[Scorer, Pictures | None]]",
    settings: Settings,
    workers: int,
    batch_size: int,
    secondary: bool = False,
) -> None:
    """Score files and append their rows to a log.

    Memory holds one batch for each process, and two more that wait for the network.

    Args:
        files: all files of the input.
        paths: paths of the files to score.
        log: log that receives the rows.
        network: function that returns the run's scorer and, where pictures are requested, the object that
            draws them; called once, at the first readable image, while others are being decoded.
        settings: settings of the run's store.
        workers: number of processes that decode, 0 for decoding in this process.
        batch_size: number of files that a process decodes at a time and the network scores together.
        secondary: whether secondary files are scored, see `prepare_files`.
    """
    calls = (
        partial(prepare_files, files.root, batch, settings=settings, secondary=secondary)
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
) -> list[Row]:
    """Score images in memory or in files, without writing files, in the same way as `score_files`.

    Args:
        images: paths of files, and pixels.
        scorer: scorer of the run.
        settings: settings of the run's store.
        workers: number of processes that decode, 0 for decoding in this process.
        batch_size: number of images that are scored together.
        secondary: whether secondary files are scored, see `prepare_files`.

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
    alone: bool = False,
) -> list[tuple[Row, Pixels | None]]:
    """Prepare images and note the place of each, because batches end in any order."""
    prepared = prepare_images(images, settings=settings, secondary=secondary, alone=alone)
    return [(row | {"place": place}, pixels) for place, (row, pixels) in zip(places, prepared, strict=True)]


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _scored(
    calls: Iterator[partial[list[tuple[Row, Pixels | None]]]],
    network: "Callable[[], tuple[Scorer, Pictures | None]]",
    *,
    workers: int,
) -> Iterator[list[Row]]:
    """Yield the rows of each batch with their scores, in the order in which the batches are prepared."""
    network = functools.cache(network)
    for batch in completed_results(calls, workers=workers, retry=lambda call: call(alone=True)):
        readable = [(row, pixels) for row, pixels in batch if pixels is not None]
        if readable:
            scorer, pictures = network()
            from mammo.evaluation.scoring import as_images

            rows, images = zip(*readable, strict=True)
            tensor = as_images(np.stack(images))
            if pictures is None:
                probability, heats = scorer(tensor).probability, None
            else:
                scored = scorer.with_heat(tensor, pictures.heatmaps, classes=pictures.task.shown)
                probability, heats = scored.scores.probability, scored.heat
            for row, scores in zip(rows, probability.tolist(), strict=True):
                row["scores"] = scores
            if pictures is not None and heats is not None:
                pictures.draw(heats, images, rows)
        yield [row for row, _ in batch]


def picture_of(folder: Path, path: str) -> Path:
    """Return the file of an image's picture."""
    return folder / f"{path}.jpg"


class Pictures:
    """Writer of a JPEG of each image with the heat of its most probable class, see `Task.shown`.

    Args:
        folder: folder of the pictures, created where it does not exist.
        heatmaps: heatmaps of the run's network.
        task: task of the run.
        hanging: whether right breasts are drawn with the chest wall at the right, as mammograms hang.

    Raises:
        ConfigError: The folder cannot be created.
    """

    def __init__(self, folder: Path, *, heatmaps: "Heatmaps", task: Task, hanging: bool) -> None:
        self.folder = folder
        self.heatmaps = heatmaps
        self.task = task
        self.hanging = hanging
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"heatmaps={folder}: cannot be written: {error.strerror}") from error

    def draw(self, heats: NDArray[np.float32], pixels: Sequence[Pixels], rows: Sequence[Row]) -> None:
        """Draw images with their heat.

        Args:
            heats: B H W, heat of each image.
            pixels: B prepared images, H W each.
            rows: B rows with scores.

        Raises:
            ConfigError: A picture cannot be written.
        """
        from mammo.evaluation.explain.overlays import draw_overlay, save_picture, within_breast

        no_boxes = np.empty((0, 4))
        for row, image, heat in zip(rows, pixels, heats, strict=True):
            # without the path, because folders may be named after patients
            caption = " ".join(filter(None, [row["laterality"], row["view"], self._said(row["scores"])]))
            width = max(_MIN_PICTURE_WIDTH, image.shape[1])
            picture = draw_overlay(
                image,
                within_breast(heat, image),
                no_boxes,
                no_boxes,
                caption,
                width=width,
                mirror=self.hanging and row["laterality"] == "RIGHT",
            )
            file = picture_of(self.folder, row["path"])
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                save_picture(file, picture)
            except OSError as error:
                raise ConfigError(f"heatmaps={file}: cannot be written: {error.strerror}") from error

    def _said(self, scores: Sequence[float]) -> str:
        """Return the score that a picture shows, and the class of its heat where there are several."""
        drawn = max(self.task.shown, key=lambda index: scores[index])
        name = self.task.classes[drawn]
        if not self.task.positive:
            return f"heat and score of {name} {scores[drawn]:.3f}"
        score = sum(scores[index] for index in self.task.shown)
        return f"{self.task.words['positive']} {score:.3f}" + (
            f", heat of {name}" if len(self.task.shown) > 1 else ""
        )
