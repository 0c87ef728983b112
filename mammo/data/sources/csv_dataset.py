"""Reads the user's own CSV tables, one of images and one of lesions, into a catalog."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from mammo.data.catalog import (
    ABNORMALITY_TYPES,
    LATERALITIES,
    PATHOLOGIES,
    VIEWS,
    Catalog,
    check_root,
    validate,
)
from mammo.data.images.breast import BOX_COLUMNS
from mammo.data.sources.csv_table import CsvTable
from mammo.errors import DataError

_LABELS = {"0": "BENIGN", "1": "MALIGNANT", "0.0": "BENIGN", "1.0": "MALIGNANT"}
_SPLITS = {"TRAIN": "train", "TRAINING": "train", "TEST": "test"}


def read_csv(*, table: Path, root: Path, lesions: Path | None = None) -> Catalog:
    """Read a table with one row per image and, optionally, a table with one row per lesion.

    The table of images needs the columns `image_path` and `patient_id`. Optional columns are `pathology`
    (benign, benign_without_callback, malignant), in whose place `label` (0, 1) can be, `image_id` (default:
    the path below root without its suffix), `laterality`, `view`, `density` (1-4 or A-D), `subtlety` (1-5),
    `assessment` (1-6), `abnormality_type` and `official_split` (train, test). Without `official_split`, a
    column `split` is used in its place, if it has no words but these. All other columns are kept as text;
    they can be the classes of a task.
    The table of lesions needs `image_path` or `image_id`, and the box `x_min`, `y_min`, `x_max`, `y_max` in
    pixels of the image. Optional columns are `pathology`, `abnormality_type`, `subtlety`, `assessment` and
    `mask_path`.

    Args:
        table: CSV file of the images.
        root: Folder that paths are relative to; it contains all files.
        lesions: CSV file of the lesions.

    Raises:
        DataError: A column is missing, a cell is invalid (the message names its spreadsheet row), or no image
            file exists.
    """
    check_root(root)
    sheet = CsvTable.read(table)
    images = _read_images(sheet, root)
    if images["path"].isna().all():
        wanted = images["file"].iloc[0] if len(images) else f"none, as {table} has no rows"
        raise DataError(
            f"data.root={root}: contains no image of the table (first: {wanted}); correct data.root"
        )
    found = _read_lesions(CsvTable.read(lesions), root, images) if lesions else pd.DataFrame()
    return validate(Catalog(images=images.drop(columns="file"), lesions=found))


def _read_images(sheet: CsvTable, root: Path) -> pd.DataFrame:
    sheet.require("image_path", "patient_id")
    if "pathology" in sheet.cells or "label" not in sheet.cells:
        required = "pathology" in sheet.cells
        pathology = sheet.words("pathology", PATHOLOGIES, required=required, remedy="delete the row")
    else:
        pathology = sheet.words("label", _LABELS, required=True, remedy="delete the row")
    paths = _paths(sheet, "image_path", root, required=True)
    images = pd.DataFrame(
        {
            "image_id": _image_ids(sheet, paths, root),
            "patient_id": sheet.text("patient_id", required=True),
            "laterality": sheet.words("laterality", LATERALITIES),
            "view": sheet.words("view", VIEWS),
            "pathology": pathology,
            "abnormality_type": sheet.words("abnormality_type", {**ABNORMALITY_TYPES, "BOTH": "both"}),
            "density": sheet.grades("density", highest=4, letters="ABCD"),
            "subtlety": sheet.grades("subtlety", highest=5),
            "assessment": sheet.grades("assessment", highest=6),
            "official_split": _official_split(sheet),
            "file": paths,
            "path": _existing(paths),
        }
    )
    own = [name for name in map(str, sheet.cells) if name and name not in (*images, "image_path")]
    images = images.assign(**{name: sheet.text(name) for name in own})
    _refuse_repeated(sheet, images)
    return images


def _image_ids(sheet: CsvTable, paths: "pd.Series[str]", root: Path) -> "pd.Series[str]":
    if "image_id" in sheet.cells:
        return sheet.text("image_id", required=True)
    return paths.map(lambda path: os.path.splitext(os.path.relpath(path, root))[0]).astype("string")


def _refuse_repeated(sheet: CsvTable, images: pd.DataFrame) -> None:
    for name in ("file", "image_id"):
        column = images[name]
        if column.duplicated().any():
            row = column.index[column.duplicated()][0]
            first = column.index[column == column[row]][0]
            what = (
                f"image_path '{sheet.cells['image_path'][row]}'"
                if name == "file"
                else f"image_id '{column[row]}'"
            )
            remedy = (
                "keep one row per image" if name == "file" else "add a column 'image_id' without duplicates"
            )
            one, other = images["patient_id"][first], images["patient_id"][row]
            whose = "" if one == other else f", of patient '{one}' there and of '{other}' here"
            raise sheet.refuse(row, f"{what} is already in row {first}{whose}; {remedy}")


def _official_split(sheet: CsvTable) -> "pd.Series[str]":
    if "official_split" in sheet.cells:
        return sheet.words("official_split", _SPLITS)
    split = sheet.text("split")
    # a split with validation rows is the user's own; data.split_file reads such splits
    own = not split.dropna().str.upper().isin(list(_SPLITS)).all()
    return sheet.text("official_split") if own else sheet.words("split", _SPLITS)


def _paths(sheet: CsvTable, name: str, root: Path, *, required: bool) -> "pd.Series[str]":
    """Return a column of absolute paths, NA for empty cells; raise DataError for a path outside root."""
    base = os.path.abspath(root)
    paths = sheet.text(name, required=required).str.replace("\\", "/", regex=False)
    paths = paths.map(lambda path: os.path.normpath(os.path.join(base, path)), na_action="ignore").astype(
        "string"
    )
    outside = paths[paths.notna() & ~paths.str.startswith(os.path.join(base, ""))]
    if len(outside):
        row = outside.index[0]
        problem = f"{name} '{sheet.cells[name][row]}' is outside data.root={root}"
        raise sheet.refuse(row, f"{problem}; move the file or set data.root to a folder above it")
    return paths


def _existing(paths: "pd.Series[str]") -> "pd.Series[str]":
    """Return the paths, NA where no such file exists."""
    with ThreadPoolExecutor(16) as pool:  # a network disk answers many parallel requests as fast as one
        is_file = list(pool.map(lambda path: isinstance(path, str) and os.path.isfile(path), paths))
    return paths.where(pd.Series(is_file, index=paths.index, dtype=bool))


def _read_lesions(sheet: CsvTable, root: Path, images: pd.DataFrame) -> pd.DataFrame:
    sheet.require(*BOX_COLUMNS)
    by_path = "image_id" not in sheet.cells
    if by_path:
        sheet.require("image_path")
        ids = _paths(sheet, "image_path", root, required=True)
        ids = ids.map(images.set_index("file")["image_id"]).astype("string")
    else:
        ids = sheet.text("image_id", required=True)
    unknown = ids.index[~ids.isin(images["image_id"])]
    if len(unknown):
        name = "image_path" if by_path else "image_id"
        problem = f"{name} '{sheet.cells[name][unknown[0]]}' is not in the table of images; add or correct it"
        raise sheet.refuse(unknown[0], problem)
    types = sheet.words("abnormality_type", ABNORMALITY_TYPES)
    types = types.fillna(ids.map(images.set_index("image_id")["abnormality_type"]).replace("both", pd.NA))
    kinds = types.map({"mass": "mass", "calcification": "calc"}).fillna("lesion")
    return pd.DataFrame(
        {
            "image_id": ids,
            "lesion_id": ids + "_" + kinds + "_" + (ids.groupby(ids).cumcount() + 1).astype("string"),
            "abnormality_type": types,
            "pathology": sheet.words("pathology", PATHOLOGIES),
            "assessment": sheet.grades("assessment", highest=6),
            "subtlety": sheet.grades("subtlety", highest=5),
            "mask_paths": _existing(_paths(sheet, "mask_path", root, required=False)),
            **_boxes(sheet),
        }
    )


def _boxes(sheet: CsvTable) -> dict[str, "pd.Series[float]"]:
    boxes = {name: sheet.numbers(name, required=True) for name in BOX_COLUMNS}
    flat = (boxes["x_min"] >= boxes["x_max"]) | (boxes["y_min"] >= boxes["y_max"])
    wrong = flat | (boxes["x_min"] < 0) | (boxes["y_min"] < 0)
    if wrong.any():
        row = wrong.index[wrong][0]
        box = ", ".join(f"{name} {column[row]:g}" for name, column in boxes.items())
        raise sheet.refuse(row, f"{box} is not a box; 0 <= x_min < x_max and 0 <= y_min < y_max must hold")
    return boxes
