"""The heat of new images: its method, and the files that show it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mammo.atomic_files import report_unwritable
from mammo.data.images.dicom import Pixels
from mammo.data.tasks import Task
from mammo.evaluation.prediction.input_files import Row

if TYPE_CHECKING:  # these import PyTorch, which takes seconds, while the first images are decoded
    from mammo.evaluation.explain.heatmaps import Heatmaps, Method
    from mammo.models.classifier import Classifier

Chosen: TypeAlias = 'Method | Literal["auto"]'

_MIN_PICTURE_WIDTH = 480  # pixels


class HeatWriter(Protocol):
    """Writer of a file for each image that shows its heat."""

    def file_of(self, path: str) -> Path:
        """Return the file of an image of this path."""

    def is_written(self, path: str) -> bool:
        """Return whether this file exists, or there can be none."""

    def draw(self, heats: NDArray[np.float32], pixels: Sequence[Pixels], rows: Sequence[Row]) -> None:
        """Write the files of images.

        Args:
            heats: B H W, heat of each image.
            pixels: B prepared images, H W each.
            rows: B rows with scores.

        Raises:
            ConfigError: A file cannot be written.
        """


@dataclass(frozen=True)
class DrawnHeat:
    """The heat that is computed with the scores, and what writes it.

    Attributes:
        heatmaps: heatmaps of the run's network.
        task: task of the run.
        writers: writers of the heat.
    """

    heatmaps: "Heatmaps"
    task: Task
    writers: Sequence[HeatWriter]

    def draw(self, heats: NDArray[np.float32], pixels: Sequence[Pixels], rows: Sequence[Row]) -> None:
        """Write the files of images, see `HeatWriter.draw`."""
        for writer in self.writers:
            writer.draw(heats, pixels, rows)


def heatmaps_of(
    classifier: "Classifier", *, size: tuple[int, int], method: Chosen = "auto", layer: str | None = None
) -> "Heatmaps":
    """Return the heatmaps of a run's network, by the method that an evaluation uses.

    Args:
        classifier: classifier of the run.
        size: H and W of the images.
        method: see `Heatmaps`; `auto` is `map` for a network that has one, else `gradcam`.
        layer: see `Heatmaps`.
    """
    from mammo.evaluation.explain.heatmaps import Heatmaps, default_method
    from mammo.models.example_input import example_input

    if method == "auto":
        images = example_input(classifier.network, size)[0]
        method = default_method(classifier, images.to(classifier.mean.device))
    return Heatmaps(classifier, method=method, layer=layer)


def shown_class(task: Task, scores: Sequence[float]) -> tuple[str, float]:
    """Return the class whose heat is shown, see `Task.shown`, and the score that is shown with it."""
    drawn = max(task.shown, key=lambda index: scores[index])
    score = sum(scores[index] for index in task.shown) if task.positive else scores[drawn]
    return task.classes[drawn], score


class Pictures:
    """Writer of a JPEG of each image with the heat of its most probable class, see `Task.shown`.

    Args:
        folder: folder of the pictures, created where it does not exist.
        task: task of the run.
        hanging: whether right breasts are drawn with the chest wall at the right, as mammograms hang.

    Raises:
        ConfigError: The folder cannot be created.
    """

    def __init__(self, folder: Path, *, task: Task, hanging: bool) -> None:
        self.folder = folder
        self.task = task
        self.hanging = hanging
        with report_unwritable("heatmaps", folder):
            folder.mkdir(parents=True, exist_ok=True)

    def is_written(self, path: str) -> bool:
        """Return whether the picture of an image exists."""
        return self.file_of(path).exists()

    def file_of(self, path: str) -> Path:
        """Return the file of the picture of an image."""
        return self.folder / f"{path}.jpg"

    def draw(self, heats: NDArray[np.float32], pixels: Sequence[Pixels], rows: Sequence[Row]) -> None:
        """Draw images with their heat, see `HeatWriter.draw`."""
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
            file = self.file_of(row["path"])
            with report_unwritable("heatmaps", file):
                file.parent.mkdir(parents=True, exist_ok=True)
                save_picture(file, picture)

    def _said(self, scores: Sequence[float]) -> str:
        """Return the score that a picture shows, and the class of its heat where there are several."""
        name, score = shown_class(self.task, scores)
        if not self.task.positive:
            return f"heat and score of {name} {score:.3f}"
        return f"{self.task.words['positive']} {score:.3f}" + (
            f", heat of {name}" if len(self.task.shown) > 1 else ""
        )
