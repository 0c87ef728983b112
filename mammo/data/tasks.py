"""Classification tasks: the classes of a task and the label of each image."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo.errors import DataError

CLASSES = {
    "pathology": ("BENIGN", "MALIGNANT"),
    "lesion_type_pathology": (
        "BENIGN_CALCIFICATION",
        "MALIGNANT_CALCIFICATION",
        "BENIGN_MASS",
        "MALIGNANT_MASS",
    ),
}


def malignant_classes(classes: Sequence[str]) -> list[int]:
    """The indices of the classes that count as malignant.

    Example:
        >>> malignant_classes(CLASSES["lesion_type_pathology"])
        [1, 3]
    """
    return [index for index, name in enumerate(classes) if name.startswith("MALIGNANT")]


def labels(images: pd.DataFrame, lesions: pd.DataFrame, *, task: str) -> NDArray[np.int64]:
    """Indices into `CLASSES[task]`, one for each of the N rows of the images table.

    For `lesion_type_pathology` an image with both types has the type of its deciding lesions: those with
    the same pathology as the image. If these have both types too, or are not in the table, the image is a
    mass. This concerns 42 of the 3061 images of CBIS-DDSM: the deciding lesions of 7 are
    calcifications, of 2 masses, of 33 both.

    Args:
        images: the images table.
        lesions: the lesions table; may contain lesions of other images too.
        task: a key of `CLASSES`.

    Raises:
        DataError: The task is `lesion_type_pathology` and an image has no abnormality type.
    """
    names = images["pathology"]
    if task == "lesion_type_pathology":
        names = names + "_" + _types(images, lesions).str.upper()
    index = {name: i for i, name in enumerate(CLASSES[task])}
    return np.array([index[name] for name in names], dtype=np.int64)


def _types(images: pd.DataFrame, lesions: pd.DataFrame) -> "pd.Series[str]":
    """The type of each of N images, mass or calcification."""
    types = images["abnormality_type"]
    unknown = images.loc[types.isna(), "image_id"]
    if len(unknown):
        raise DataError(
            f"task=lesion_type_pathology: {len(unknown)} of {len(images)} images have no abnormality_type, "
            f"the first is '{unknown.iloc[0]}'; fill in that column of the table or choose task=pathology"
        )
    pathology = lesions["image_id"].map(images.set_index("image_id")["pathology"])
    deciding = lesions[lesions["pathology"] == pathology]
    calcified, massed = (
        images["image_id"].isin(deciding.loc[deciding["abnormality_type"] == kind, "image_id"])
        for kind in ("calcification", "mass")
    )
    both = types == "both"
    return types.mask(both, "mass").mask(both & calcified & ~massed, "calcification")
