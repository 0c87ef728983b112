"""From the case files of CBIS-DDSM to one tidy table of images and one of lesions.

CBIS-DDSM: Lee et al., A curated mammography data set for use in computer-aided detection and diagnosis
research, Scientific Data 4:170177 (2017).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mammo.errors import DataError

IMAGE_COLUMNS = {
    "image_id": "string",
    "patient_id": "string",
    "laterality": "string",
    "view": "string",
    "pathology": "string",
    "abnormality_type": "string",
    "density": "Int64",
    "subtlety": "Int64",
    "assessment": "Int64",
    "official_split": "string",
    "path": "string",
}
LESION_COLUMNS = {
    "image_id": "string",
    "lesion_id": "string",
    "abnormality_type": "string",
    "pathology": "string",
    "mass_shape": "string",
    "mass_margins": "string",
    "calc_type": "string",
    "calc_distribution": "string",
    "assessment": "Int64",
    "subtlety": "Int64",
    "mask_paths": "string",
    "x_min": "Float64",
    "y_min": "Float64",
    "x_max": "Float64",
    "y_max": "Float64",
}
# Words of the files, in upper case, and what they mean in the tables.
PATHOLOGIES = {"BENIGN": "BENIGN", "BENIGN_WITHOUT_CALLBACK": "BENIGN", "MALIGNANT": "MALIGNANT"}
LATERALITIES = {"LEFT": "LEFT", "RIGHT": "RIGHT", "L": "LEFT", "R": "RIGHT"}
VIEWS = {"CC": "CC", "MLO": "MLO"}
ABNORMALITY_TYPES = {"MASS": "mass", "CALCIFICATION": "calcification", "CALC": "calcification"}
# What may stand in the tables.
_WORDS = {
    "laterality": ["LEFT", "RIGHT"],
    "view": ["CC", "MLO"],
    "pathology": ["BENIGN", "MALIGNANT"],
    "abnormality_type": ["mass", "calcification", "both"],
    "official_split": ["train", "test"],
}
_ABNORMALITY_OF = {"mass": "mass", "calc": "calcification"}
_FILE_COLUMNS = {"image": "image_file_path", "crop": "cropped_image_file_path", "mask": "roi_mask_file_path"}


@dataclass(frozen=True)
class Catalog:
    """What is known of a set of mammograms, before any pixel is read.

    Attributes:
        images: One row per image, as in `IMAGE_COLUMNS`; `path` is NA where the file is missing.
        lesions: One row per lesion, as in `LESION_COLUMNS`; boxes in pixels of the image file, x rightwards,
            y down, maxima exclusive; `mask_paths` holds the files among which the mask is, separated by
            `os.pathsep`.
    """

    images: pd.DataFrame
    lesions: pd.DataFrame


def validate(catalog: Catalog) -> Catalog:
    """Give both tables their columns, types and order; every reader ends with it.

    Raises:
        DataError: An id is missing or stands twice, a word is none of its column's, or a lesion has no image.
    """
    images = _typed(catalog.images, IMAGE_COLUMNS, required=["image_id", "patient_id", "pathology"])
    lesions = _typed(catalog.lesions, LESION_COLUMNS, required=["lesion_id", "image_id"])
    strays = lesions["image_id"][~lesions["image_id"].isin(images["image_id"])]
    if len(strays):
        raise DataError(f"a lesion belongs to '{strays.iloc[0]}', which is no image of the table; delete it")
    return Catalog(images=images, lesions=lesions)


def _typed(table: pd.DataFrame, columns: Mapping[str, str], *, required: list[str]) -> pd.DataFrame:
    """The table in its form, sorted by the first of the required columns, which must be unique."""
    table = table.reindex(columns=list(columns)).astype(dict(columns))
    for name in required:
        if table[name].isna().any():
            raise DataError(f"a row has no {name}; fill it in")
    key = table[required[0]]
    if key.duplicated().any():
        raise DataError(f"{required[0]} '{key[key.duplicated()].iloc[0]}' stands twice; make it unique")
    for name in _WORDS.keys() & table.columns:
        strays = table[name][table[name].notna() & ~table[name].isin(_WORDS[name])]
        if len(strays):
            raise DataError(f"{name} '{strays.iloc[0]}' is none of {', '.join(_WORDS[name])}; correct it")
    return table.sort_values(required[0], ignore_index=True)


def check_root(root: Path) -> None:
    """Raise DataError unless the folder is there and its name fits into `mask_paths`."""
    if not root.is_dir():
        raise DataError(f"data.root={root}: no such folder; name the folder of the images")
    if os.pathsep in str(root.absolute()):
        raise DataError(f"data.root={root}: a path with '{os.pathsep}' cannot be used; rename the folder")
