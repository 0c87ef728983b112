"""The boxes and classes of lesions, arranged by image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo.data.images.breast import BOX_COLUMNS


def with_boxes(lesions: pd.DataFrame, image_ids: Sequence[str]) -> pd.DataFrame:
    """Return the lesions of some images that have a box."""
    known = lesions.dropna(subset=BOX_COLUMNS)
    return known[known["image_id"].isin(image_ids)]


def largest_lesions(image_ids: "pd.Series[str]", lesions: pd.DataFrame, *, height: int) -> "pd.Series[float]":
    """Return the size of the largest lesion of each sample: the longer side of its box by the image's height.

    Args:
        image_ids: ids of the images of each sample, separated by semicolons.
        lesions: lesions with boxes in prepared pixels, see `with_boxes`.
        height: height of the prepared images in pixels.

    Returns:
        A share for each sample, rounded to four digits; NA where no lesion has a box.

    Example:
        >>> boxes = [["a", 0.0, 0.0, 20.0, 10.0], ["b", 0.0, 0.0, 8.0, 30.0]]
        >>> lesions = pd.DataFrame(boxes, columns=["image_id", *BOX_COLUMNS])
        >>> largest_lesions(pd.Series(["a", "a;b", "c"]), lesions, height=100).tolist()
        [0.2, 0.3, <NA>]
    """
    x_min, y_min, x_max, y_max = lesions[BOX_COLUMNS].to_numpy(dtype=np.float64).T
    longer = pd.Series(
        np.maximum(x_max - x_min, y_max - y_min) / height, index=lesions["image_id"].to_numpy()
    )
    of_image = image_ids.str.split(";").explode().map(longer.groupby(level=0).max())
    return of_image.groupby(level=0).max().round(4).astype("Float64")


@dataclass(frozen=True)
class LesionTable:
    """The lesions of N images, at most K of one, K at least 1.

    Attributes:
        boxes: N K 4, pixels; NaN where there are fewer than K.
        labels: N K, index of the class; -1 where there is none.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, lesions: pd.DataFrame, labels: NDArray[np.int64], image_ids: Sequence[str]) -> Self:
        """Arrange the lesions of images by image.

        Args:
            lesions: lesions of these images, each with a box in prepared pixels, see `with_boxes`.
            labels: index of the class of each lesion, see `mammo.data.tasks.lesion_labels`.
            image_ids: ids of the N images.
        """
        place = lesions.groupby("image_id").cumcount().to_numpy()
        image = pd.Series(np.arange(len(image_ids)), index=list(image_ids))[lesions["image_id"]].to_numpy()
        boxes = np.full((len(image_ids), 1 + max(place, default=0), 4), np.nan, np.float32)
        boxes[image, place] = lesions[BOX_COLUMNS].to_numpy(dtype=np.float32)
        classes = np.full(boxes.shape[:2], -1, np.int64)
        classes[image, place] = labels
        return cls(boxes, classes)
