"""Scores and pictures of new mammograms, which several processes decode and the network scores in batches."""

import functools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mammo.data.images.dicom import Pixels
from mammo.data.store.store_building import Settings
from mammo.data.tasks import malignant_classes
from mammo.data.worker_pool import completed_results, progress
from mammo.errors import ConfigError
from mammo.evaluation.prediction.input_files import Files, Row, prepare_files
from mammo.evaluation.prediction.prediction_log import PredictionLog
from mammo.runs import RunFolder
from mammo.runs.provenance import weights_digest

if TYPE_CHECKING:  # these import PyTorch, which takes seconds, while the first images are decoded
    from mammo.evaluation.explain.heatmaps import Heatmaps
    from mammo.evaluation.scoring import Scorer

_MIN_PICTURE_WIDTH = 480  # pixels


def identity_of(run: RunFolder, files: Files) -> dict[str, str]:
    """Return what identifies a table of scores: SHA-256 of the weights and absolute path of the input folder.

    Raises:
        ConfigError: The run has no checkpoint of a best epoch, or it cannot be read.
    """
    return {"weights_sha256": weights_digest(run), "input": str(files.root.absolute())}


def pending_files(files: Files, log: PredictionLog, *, heatmaps: Path | None) -> list[str]:
    """List the files to score: those without a row, and readable ones without a requested picture.

    Args:
        files: all files of the input.
        log: log of the rows scored so far.
        heatmaps: folder of the pictures, None for no pictures.
    """

    def lacks_picture(path: str) -> bool:
        if heatmaps is None or picture_of(heatmaps, path).exists():
            return False
        return log.row(path)["error"] is None

    return [path for path in files.paths if path not in log or lacks_picture(path)]


def score_files(
    files: Files,
    paths: Sequence[str],
    log: PredictionLog,
    *,
    network: "Callable[[], tuple[Scorer, Pictures | None]]",
    settings: Settings,
    workers: int,
    batch_size: int,
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
    """
    starts = range(0, len(paths), batch_size)
    calls = (
        partial(prepare_files, files.root, paths[start : start + batch_size], settings=settings)
        for start in starts
    )
    batches = completed_results(calls, workers=min(workers, len(starts)), retry=lambda call: call(alone=True))
    total = len(files.paths)
    network = functools.cache(network)
    with progress(total=total, done=total - len(paths), what="scoring") as advance:
        for batch in batches:
            readable = [(row, pixels) for row, pixels in batch if pixels is not None]
            if readable:
                scorer, pictures = network()
                from mammo.evaluation.scoring import as_images

                rows, images = zip(*readable, strict=True)
                tensor = as_images(np.stack(images))
                if pictures is None:
                    probability, heats = scorer(tensor), None
                else:
                    scored = scorer.with_heat(tensor, pictures.heatmaps, classes=pictures.malignant)
                    probability, heats = scored.probability, scored.heat
                for row, scores in zip(rows, probability.tolist(), strict=True):
                    row["scores"] = scores
                if pictures is not None and heats is not None:
                    pictures.draw(heats, images, rows)
            log.append([row for row, _ in batch])
            advance(len(batch))


def picture_of(folder: Path, path: str) -> Path:
    """Return the file of an image's picture."""
    return folder / f"{path}.jpg"


class Pictures:
    """Writer of a JPEG of each image with the heat of its most probable malignant class.

    Args:
        folder: folder of the pictures, created where it does not exist.
        heatmaps: heatmaps of the run's network.
        classes: names of the classes of the task.

    Raises:
        ConfigError: The folder cannot be created.
    """

    def __init__(self, folder: Path, *, heatmaps: "Heatmaps", classes: Sequence[str]) -> None:
        self.folder = folder
        self.heatmaps = heatmaps
        self.malignant = malignant_classes(classes)
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
        from mammo.evaluation.explain.overlays import draw_overlay, save_picture

        no_boxes = np.empty((0, 4))
        for row, image, heat in zip(rows, pixels, heats, strict=True):
            score = sum(row["scores"][index] for index in self.malignant)
            # without the path, because folders may be named after patients
            caption = " ".join(filter(None, [row["laterality"], row["view"], f"malignant {score:.3f}"]))
            width = max(_MIN_PICTURE_WIDTH, image.shape[1])
            picture = draw_overlay(image, heat, no_boxes, no_boxes, caption, width=width)
            file = picture_of(self.folder, row["path"])
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                save_picture(file, picture)
            except OSError as error:
                raise ConfigError(f"heatmaps={file}: cannot be written: {error.strerror}") from error
