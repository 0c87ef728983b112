"""Scores and pictures of mammograms without labels: decoded by several processes, scored in batches."""

import functools
import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mammo.data.images.dicom import Pixels
from mammo.data.store.store_building import Settings
from mammo.data.tasks import malignant_classes
from mammo.data.worker_pool import progress, results
from mammo.errors import ConfigError
from mammo.evaluation.prediction.input_files import Files, Row, prepare_files
from mammo.evaluation.prediction.prediction_log import Journal
from mammo.runs import RunFolder

if TYPE_CHECKING:  # they import PyTorch, which is slow: the first images are decoded meanwhile
    from mammo.evaluation.explain.heatmaps import Heatmaps
    from mammo.evaluation.scoring import Scorer

_LEAST_WIDTH = 480  # of a picture


def checkpoint_of(run: RunFolder) -> Path:
    """The file of the best epoch; raises ConfigError where there is none."""
    file = run.checkpoints / "best.ckpt"
    if not file.is_file():
        raise ConfigError(f"run={run.path}: {file} is not there; python train.py resume={run.path} writes it")
    return file


def identity_of(run: RunFolder, files: Files) -> dict[str, str]:
    """What tells one table of scores from another: the weights and the folder of the input.

    Raises:
        ConfigError: the run has no checkpoint of a best epoch, or it cannot be read.
    """
    checkpoint = checkpoint_of(run)
    try:
        with checkpoint.open("rb") as file:
            weights = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"run={run.path}: {checkpoint} cannot be read ({error.strerror})") from error
    return {"weights_sha256": weights, "input": str(files.root.absolute())}


def not_yet(files: Files, journal: Journal, *, heatmaps: Path | None) -> list[str]:
    """The files without a row or, where pictures are asked for and can be drawn, without a picture."""

    def lacks_picture(path: str) -> bool:
        if heatmaps is None or picture_of(heatmaps, path).exists():
            return False
        return journal.row(path)["error"] is None

    return [path for path in files.paths if path not in journal or lacks_picture(path)]


def score_files(
    files: Files,
    paths: Sequence[str],
    journal: Journal,
    *,
    network: "Callable[[], tuple[Scorer, Pictures | None]]",
    settings: Settings,
    workers: int,
    batch_size: int,
) -> None:
    """Score files, a batch in memory for each process and two waiting.

    Args:
        files: all of them.
        paths: those that are to be scored.
        journal: gets the rows.
        network: gives the run's scorer, and what draws pictures where they are wanted; it is asked once there
            is an image to score, while others are being decoded.
        settings: of the run's store.
        workers: processes that decode; 0 decodes in this one.
        batch_size: files that a process decodes at a time and that go through the network together.
    """
    starts = range(0, len(paths), batch_size)
    calls = (
        partial(prepare_files, files.root, paths[start : start + batch_size], settings=settings)
        for start in starts
    )
    batches = results(calls, workers=min(workers, len(starts)), again=lambda call: call(alone=True))
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
                    seen = scorer.with_heat(tensor, pictures.heatmaps, classes=pictures.malignant)
                    probability, heats = seen.probability, seen.heat
                for row, scores in zip(rows, probability.tolist(), strict=True):
                    row["scores"] = scores
                if pictures is not None and heats is not None:
                    pictures.draw(heats, images, rows)
            journal.append([row for row, _ in batch])
            advance(len(batch))


def picture_of(folder: Path, path: str) -> Path:
    """The file for the picture of an image."""
    return folder / f"{path}.jpg"


class Pictures:
    """A JPEG of each image with the heat of its likeliest malignant class.

    Args:
        folder: of the pictures, see `picture_of`; made here.
        heatmaps: of the run.
        classes: of the task.

    Raises:
        ConfigError: the folder cannot be made.
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
        """Draw images, B times H W as they were prepared, with their heat, B H W.

        Raises:
            ConfigError: a picture cannot be written.
        """
        from mammo.evaluation.explain.overlays import draw_overlay, save_picture

        no_boxes = np.empty((0, 4))
        for row, image, heat in zip(rows, pixels, heats, strict=True):
            score = sum(row["scores"][index] for index in self.malignant)
            # not the path, whose folders may be named after patients
            caption = " ".join(filter(None, [row["laterality"], row["view"], f"malignant {score:.3f}"]))
            width = max(_LEAST_WIDTH, image.shape[1])
            picture = draw_overlay(image, heat, no_boxes, no_boxes, caption, width=width)
            file = picture_of(self.folder, row["path"])
            draft = file.with_name(f"{file.stem}.partial.jpg")
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                save_picture(draft, picture)
                draft.replace(file)
            except OSError as error:
                raise ConfigError(f"heatmaps={file}: cannot be written: {error.strerror}") from error
