"""The boxes, masks and classes of lesions, arranged by image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

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
        mask_values: N K, value of the lesion in the masks of the store; 0 where it has no mask.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    mask_values: NDArray[np.int64]

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
        values = np.zeros_like(classes)
        values[image, place] = lesions["mask_value"].fillna(0)
        return cls(boxes, classes, values)


def lesion_regions(
    boxes: NDArray[np.floating[Any]],
    shape: tuple[int, ...],
    mask: NDArray[np.uint8] | None = None,
    mask_values: NDArray[np.int64] | None = None,
) -> NDArray[np.bool_]:
    """Return the pixels of each lesion, K H W: those of its mask, or of its box if the mask has none.

    A pixel of two overlapping masks belongs to the smaller lesion, as in the store. See `box_pixels`.

    Args:
        boxes: K 4 in pixels; a row of NaN for a lesion without a box.
        shape: H and W.
        mask: H W, 0 outside lesions; None if there are no masks.
        mask_values: K, value of each lesion in the mask, 0 for none; None if there are no masks.
    """
    regions = np.zeros((len(boxes), *shape), bool)
    for index, (region, box) in enumerate(zip(regions, boxes, strict=True)):
        if mask is not None and mask_values is not None and mask_values[index] > 0:
            np.equal(mask, mask_values[index], out=region)
        if not region.any() and not np.isnan(box).any():
            region[box_pixels(box)] = True
    return regions


def box_pixels(box: NDArray[np.floating[Any]]) -> tuple[slice, slice]:
    """Return the rows and columns of the pixels that a box touches, at least one of each.

    Args:
        box: x_min, y_min, x_max, y_max in pixels; may exceed the image.
    """
    left, top = np.floor(box[:2]).astype(int).tolist()
    right, bottom = np.ceil(box[2:]).astype(int).tolist()
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    return slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0))
