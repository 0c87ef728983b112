"""Lesions of an image as drawn by the radiologist: by the mask where there is one, by the box elsewhere."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo.data.images.breast import BOX_COLUMNS
from mammo.data.lesion_table import lesion_regions

# Groups of lesions with localisation scores of their own.
GROUPS = ("malignant", "all")


@dataclass(frozen=True)
class DrawnLesions:
    """The drawn lesions of one image.

    Attributes:
        boxes: K 4 in prepared pixels; a row of NaN for a lesion without a box.
        mask_values: K, value of the lesion in the mask of the image; 0 for a lesion without a mask.
        malignant: K, pathology of each lesion; None if that of any of them is unknown.
        complete: whether the image has lesions and all of them are drawn.
    """

    boxes: NDArray[np.float64]
    mask_values: NDArray[np.int64]
    malignant: NDArray[np.bool_] | None
    complete: bool

    def regions(self, shape: tuple[int, ...], mask: NDArray[np.uint8] | None = None) -> NDArray[np.bool_]:
        """Return the pixels of each lesion, K H W; see `lesion_regions`."""
        return lesion_regions(self.boxes, shape, mask, self.mask_values)

    def group(self, name: str) -> NDArray[np.bool_] | None:
        """Return which lesions belong to a group, K; None if the image is left out of the group's scores."""
        if not self.complete:
            return None
        return np.ones(len(self.boxes), bool) if name == "all" else self.malignant


def drawn_lesions(lesions: pd.DataFrame, images: pd.DataFrame) -> list[DrawnLesions]:
    """Return the drawn lesions of each of N images.

    A lesion without a pathology has that of its image if the image is benign or has no other lesion.

    Args:
        lesions: lesions table of a store.
        images: N rows of the images table.
    """
    by_image = dict(iter(lesions.groupby("image_id")))
    return [
        _of_image(by_image.get(image_id, lesions.iloc[:0]), None if pd.isna(pathology) else str(pathology))
        for image_id, pathology in zip(images["image_id"], images["pathology"], strict=True)
    ]


def _of_image(rows: pd.DataFrame, pathology: str | None) -> DrawnLesions:
    given = rows["pathology"]
    if pathology == "BENIGN" or (len(rows) == 1 and pathology is not None):
        given = given.fillna(pathology)
    values = rows["mask_value"].fillna(0).to_numpy(dtype=np.int64)
    boxes = rows[BOX_COLUMNS].to_numpy(dtype=np.float64, na_value=np.nan)
    drawn = (values > 0) | ~np.isnan(boxes).any(axis=1)
    return DrawnLesions(
        boxes=boxes[drawn],
        mask_values=values[drawn],
        malignant=None if given.isna().any() else (given == "MALIGNANT").to_numpy(dtype=bool)[drawn],
        complete=bool(len(rows) and drawn.all()),
    )
