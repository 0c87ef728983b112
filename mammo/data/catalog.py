"""The tables of images and lesions that every data source is read into, and their validation."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mammo.config.choices import View
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
VIEWS = {view.value: view.value for view in View}
ABNORMALITY_TYPES = {"MASS": "mass", "CALCIFICATION": "calcification", "CALC": "calcification"}
# Valid values of the tables.
_WORDS = {
    "laterality": ["LEFT", "RIGHT"],
    "view": list(VIEWS),
    "pathology": ["BENIGN", "MALIGNANT"],
    "abnormality_type": ["mass", "calcification", "both"],
    "official_split": ["train", "test"],
}


@dataclass(frozen=True)
class Catalog:
    """Tables of the images and lesions of a data set, before any pixel is read.

    Attributes:
        images: One row per image, as in `IMAGE_COLUMNS`; `path` is NA where the file is missing. Further
            columns, as text, are the user's own; they can be the classes of a task.
        left_out: Number of images of the data set that are not in the table, by reason.
        lesions: One row per lesion, as in `LESION_COLUMNS`; boxes in pixels of the image file, x rightwards,
            y downwards, maxima exclusive; `mask_paths` holds the files of which one may be the mask,
            separated by `os.pathsep`. Further columns, as text, are the user's own; they can be the classes
            of a task of patches.
    """

    images: pd.DataFrame
    lesions: pd.DataFrame
    left_out: Mapping[str, int] = field(default_factory=dict)


def validate(catalog: Catalog) -> Catalog:
    """Check both tables and set their columns, types and order; every reader calls it last.

    Raises:
        DataError: An id is missing or repeated, a value is not valid in its column, two patients have the
            same file, the image of a lesion is not in the table, or a box has no area.
    """
    own = {str(name): "string" for name in catalog.images if name not in IMAGE_COLUMNS}
    images = _typed(catalog.images, IMAGE_COLUMNS | own, required=["image_id", "patient_id"])
    _refuse_shared_files(images)
    own = {str(name): "string" for name in catalog.lesions if name not in LESION_COLUMNS}
    lesions = _typed(catalog.lesions, LESION_COLUMNS | own, required=["lesion_id", "image_id"])
    strays = lesions["image_id"][~lesions["image_id"].isin(images["image_id"])]
    if len(strays):
        raise DataError(
            f"a lesion belongs to image '{strays.iloc[0]}', which is not in the images table; delete it"
        )
    flat = (lesions["x_min"] >= lesions["x_max"]) | (lesions["y_min"] >= lesions["y_max"])
    if flat.any():
        first = lesions.loc[flat.fillna(value=False)].iloc[0]
        box = ", ".join(f"{side} {first[side]:g}" for side in ("x_min", "y_min", "x_max", "y_max"))
        raise DataError(f"lesion '{first['lesion_id']}': its box has no area ({box}); correct or delete it")
    return Catalog(images=images, lesions=lesions, left_out=catalog.left_out)


def _typed(table: pd.DataFrame, columns: Mapping[str, str], *, required: list[str]) -> pd.DataFrame:
    """The table with its columns and types, sorted by the first required column, which must be unique."""
    table = table.reindex(columns=list(columns)).astype(dict(columns))
    for name in required:
        if table[name].isna().any():
            raise DataError(f"a row has no {name}; fill it in")
    key = table[required[0]]
    if key.duplicated().any():
        twice = table[key == key[key.duplicated()].iloc[0]].iloc[:2]
        whose = f" ({_patients(twice)})" if "patient_id" in table else ""
        raise DataError(f"{required[0]} '{twice[required[0]].iloc[0]}' occurs twice{whose}; make it unique")
    for name in _WORDS.keys() & table.columns:
        strays = table[name][table[name].notna() & ~table[name].isin(_WORDS[name])]
        if len(strays):
            raise DataError(f"{name} '{strays.iloc[0]}' is not one of {', '.join(_WORDS[name])}; correct it")
    return table.sort_values(required[0], ignore_index=True)


def _refuse_shared_files(images: pd.DataFrame) -> None:
    """Raise DataError if a file is an image of two patients, who could then be on two sides of a split."""
    shared = images[images["path"].notna() & images["path"].duplicated(keep=False)]
    patients = shared.groupby("path")["patient_id"].transform("nunique")
    if (patients > 1).any():
        path = shared["path"][patients > 1].iloc[0]
        rows = shared[shared["path"] == path].drop_duplicates("patient_id").iloc[:2]
        images_of = "' and '".join(rows["image_id"])
        raise DataError(
            f"{path}: is the file of '{images_of}' ({_patients(rows)}); correct or delete one of them"
        )


def _patients(rows: pd.DataFrame) -> str:
    return " and ".join(f"patient '{name}'" for name in rows["patient_id"].unique())


def check_root(root: Path) -> None:
    """Raise DataError unless the folder exists and its path lacks the separator of `mask_paths`."""
    if not root.is_dir():
        raise DataError(f"data.root={root}: no such folder; name the folder of the images")
    if os.pathsep in str(root.absolute()):
        raise DataError(f"data.root={root}: a path with '{os.pathsep}' cannot be used; rename the folder")
