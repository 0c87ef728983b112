"""Reads the user's own tables, one of images and one of lesions, into a catalog."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mammo.config.data.label_words import label_words
from mammo.data.catalog import ABNORMALITY_TYPES, IMAGE_COLUMNS, Catalog, check_root, validate
from mammo.data.images.breast import BOX_COLUMNS
from mammo.data.tables.existing_files import existing
from mammo.data.tables.table_files import shown
from mammo.data.tables.text_table import TextTable, column_name
from mammo.data.tables.vocabulary import assessments, densities, diagnoses, pathologies, places
from mammo.errors import ConfigError, DataError

_LABEL_COLUMNS = ("pathology", "label", "cancer")
_SPLITS = {"TRAIN": "train", "TRAINING": "train", "TEST": "test"}
_REMEDY = "delete the row, or give the words of the table by data.labels.MALIGNANT=[...] and BENIGN=[...]"


def read_csv(
    *,
    table: Path,
    root: Path,
    sheet: str | None = None,
    lesions: Path | None = None,
    lesions_sheet: str | None = None,
    columns: Mapping[str, str | None] | None = None,
    labels: Mapping[str, Any] | None = None,
) -> Catalog:
    """Read a table with one row per image and, optionally, a table with one row per lesion.

    The table of images needs the columns `image_path` and `patient_id`. Optional columns are `pathology`
    (benign, malignant, normal, and other words, see `mammo.data.tables.vocabulary`), in whose place `label`
    or `cancer` (0, 1) can be, `image_id` (default: the path below root without its suffix), `laterality`,
    `view` (which may name the side too, as LCC), `density` (1-4 or A-D), `subtlety` (1-5), `assessment`
    (1-6), `abnormality_type` and `official_split` (train, test). Without `official_split`, a
    column `split` is used in its place, if it has no words but these. All other columns are kept as text;
    they can be the classes of a task, and subgroups. If a diagnosis is neither BENIGN nor MALIGNANT, such as
    NORMAL, the column `diagnosis` has it.
    The table of lesions needs `image_path` or `image_id`, and the box `x_min`, `y_min`, `x_max`, `y_max` in
    pixels of the image. Optional columns are `pathology`, `abnormality_type`, `subtlety`, `assessment` and
    `mask_path`. All other columns that are not columns of the table of images are kept as text; they can be
    the classes of a task of patches.

    Args:
        table: File of the table of images, see `mammo.data.tables.table_files.read_rows`.
        root: Folder that paths are relative to; it contains all files.
        sheet: Sheet of an Excel file; None for the only one with content.
        lesions: File of the table of lesions.
        lesions_sheet: Sheet of this file.
        columns: Name of a column above -> its name in the tables, None for the same.
        labels: Diagnosis (MALIGNANT, BENIGN, NORMAL) -> its word or list of words in the tables; if any is
            given, no other words are understood.

    Raises:
        ConfigError: No table has a column of `columns`, or two diagnoses have the same word.
        DataError: A column is missing, a cell is invalid (the message names its spreadsheet row), or no image
            file exists.
    """
    check_root(root)
    own = label_words(labels or {})
    read = [TextTable.read(table, sheet=sheet, key="data.sheet")]
    read += [TextTable.read(lesions, sheet=lesions_sheet, key="data.lesions_sheet")] if lesions else []
    read = _renamed(read, {name: old for name, old in (columns or {}).items() if old is not None})
    if read[0].cells.empty:
        raise DataError(f"{table}: has names of columns, but no rows; add one for each image")
    chosen = (columns or {}).get("pathology") is not None
    images = _read_images(read[0], root, own, chosen=chosen)
    if images["path"].isna().all():
        wanted = shown(images["file"].iloc[0], most=200)
        raise DataError(
            f"data.root={root}: contains no image of the table (first: {wanted}); correct data.root"
        )
    found = _read_lesions(read[1], root, images, own) if lesions else pd.DataFrame()
    return validate(Catalog(images=images.drop(columns="file"), lesions=found))


def _renamed(tables: list[TextTable], names: Mapping[str, str]) -> list[TextTable]:
    """Return the tables with the user's columns under their names here; a column is in one table or both."""
    for name, old in names.items():
        if not any(column_name(old) in table.cells for table in tables):
            known = [str(each) for table in tables for each in table.cells]
            near = difflib.get_close_matches(column_name(old), known, n=1)
            choose = f"did you mean '{near[0]}'?" if near else f"choose from {tables[0].names}"
            raise ConfigError(f"data.columns.{name}={old}: {tables[0].path} has no such column; {choose}")
    return [
        table.renamed({name: old for name, old in names.items() if column_name(old) in table.cells})
        for table in tables
    ]


def _read_images(sheet: TextTable, root: Path, own: Mapping[str, list[str]], *, chosen: bool) -> pd.DataFrame:
    sheet.require("image_path", "patient_id", key="data.columns")
    labelled = next((name for name in _LABEL_COLUMNS if name in sheet.cells), _LABEL_COLUMNS[0])
    required = labelled in sheet.cells
    if own and not required:
        names = ", ".join(_LABEL_COLUMNS)
        raise ConfigError(f"data.labels: {sheet.path} has none of {names}; give data.columns.pathology=NAME")
    diagnosis = diagnoses(sheet, labelled, own=own, required=required, remedy=_REMEDY)
    if not chosen:
        _refuse_other_label(sheet, labelled, diagnosis, own)
    paths = _paths(sheet, "image_path", root, required=True)
    laterality, view = places(sheet, laterality="laterality", view="view")
    images = pd.DataFrame(
        {
            "image_id": _image_ids(sheet, paths, root),
            "patient_id": sheet.text("patient_id", required=True),
            "laterality": laterality,
            "view": view,
            "pathology": pathologies(diagnosis),
            "abnormality_type": sheet.words("abnormality_type", {**ABNORMALITY_TYPES, "BOTH": "both"}),
            "density": densities(sheet, "density"),
            "subtlety": sheet.grades("subtlety", highest=5),
            "assessment": assessments(sheet, "assessment"),
            "official_split": _official_split(sheet),
            "file": paths,
            "path": existing(paths),
        }
    )
    used = {*images, "image_path", labelled}
    further = [name for name in map(str, sheet.cells) if name not in used]
    if "diagnosis" not in further and not diagnosis.dropna().isin(["BENIGN", "MALIGNANT"]).all():
        images["diagnosis"] = diagnosis
    images = images.assign(**{name: sheet.text(name) for name in further})
    _refuse_repeated(sheet, images)
    return images


def _refuse_other_label(
    sheet: TextTable, labelled: str, diagnosis: "pd.Series[str]", own: Mapping[str, list[str]]
) -> None:
    """Raise DataError if a further column of labels contradicts the one that is used."""
    for name in _LABEL_COLUMNS:
        if name == labelled or name not in sheet.cells:
            continue
        try:
            other = pathologies(diagnoses(sheet, name, own=own))
        except DataError:  # its words are no diagnoses
            continue
        differ = (pathologies(diagnosis) != other).fillna(value=False)
        if differ.any():
            row = differ.index[differ][0]
            cells = [f"{each} '{shown(sheet.cells[each][row])}'" for each in (labelled, name)]
            problem = f"{' and '.join(cells)} are different labels"
            raise sheet.refuse(
                row, f"{problem}; delete one of the columns, or give data.columns.pathology=NAME"
            )


def _image_ids(sheet: TextTable, paths: "pd.Series[str]", root: Path) -> "pd.Series[str]":
    if "image_id" in sheet.cells:
        return sheet.text("image_id", required=True)
    begin = len(os.path.join(os.path.abspath(root), ""))
    return paths.map(lambda path: os.path.splitext(path[begin:])[0]).astype("string")


def _refuse_repeated(sheet: TextTable, images: pd.DataFrame) -> None:
    for name in ("file", "image_id"):
        column = images[name]
        if column.duplicated().any():
            row = column.index[column.duplicated()][0]
            first = column.index[column == column[row]][0]
            of_file = name == "file"
            what = (
                f"image_path '{shown(sheet.cells['image_path'][row])}'"
                if of_file
                else f"image_id '{shown(column[row])}'"
            )
            remedy = (
                "keep one row per image" if name == "file" else "add a column 'image_id' without duplicates"
            )
            one, other = images["patient_id"][first], images["patient_id"][row]
            whose = "" if one == other else f", of patient '{shown(one)}' there and of '{shown(other)}' here"
            raise sheet.refuse(row, f"{what} is already in row {first}{whose}; {remedy}")


def _official_split(sheet: TextTable) -> "pd.Series[str]":
    if "official_split" in sheet.cells:
        return sheet.words("official_split", _SPLITS)
    split = sheet.text("split")
    # a split with validation rows is the user's own; data.split_file reads such splits
    own = not split.dropna().str.upper().isin(list(_SPLITS)).all()
    return sheet.text("official_split") if own else sheet.words("split", _SPLITS)


def _paths(sheet: TextTable, name: str, root: Path, *, required: bool) -> "pd.Series[str]":
    """Return a column of absolute paths, NA for empty cells; raise DataError for a path outside root."""
    base = os.path.abspath(root)
    paths = sheet.text(name, required=required).str.replace("\\", "/", regex=False)
    paths = paths.map(lambda path: os.path.normpath(os.path.join(base, path)), na_action="ignore").astype(
        "string"
    )
    outside = paths[paths.notna() & ~paths.str.startswith(os.path.join(base, ""))]
    if len(outside):
        row = outside.index[0]
        problem = f"{name} '{shown(sheet.cells[name][row])}' is outside data.root={root}"
        raise sheet.refuse(row, f"{problem}; move the file or set data.root to a folder above it")
    return paths


def _read_lesions(
    sheet: TextTable, root: Path, images: pd.DataFrame, own: Mapping[str, list[str]]
) -> pd.DataFrame:
    sheet.require(*BOX_COLUMNS, key="data.columns")
    by_path = "image_id" not in sheet.cells
    if by_path:
        sheet.require("image_path", key="data.columns")
        ids = _paths(sheet, "image_path", root, required=True)
        ids = ids.map(images.set_index("file")["image_id"]).astype("string")
    else:
        ids = sheet.text("image_id", required=True)
    unknown = ids.index[~ids.isin(images["image_id"])]
    if len(unknown):
        name = "image_path" if by_path else "image_id"
        which = shown(sheet.cells[name][unknown[0]])
        problem = f"{name} '{which}' is not in the table of images; add or correct it"
        raise sheet.refuse(unknown[0], problem)
    types = sheet.words("abnormality_type", ABNORMALITY_TYPES)
    types = types.fillna(ids.map(images.set_index("image_id")["abnormality_type"]).replace("both", pd.NA))
    kinds = types.map({"mass": "mass", "calcification": "calc"}).fillna("lesion")
    found = pd.DataFrame(
        {
            "image_id": ids,
            "lesion_id": ids + "_" + kinds + "_" + (ids.groupby(ids).cumcount() + 1).astype("string"),
            "abnormality_type": types,
            "pathology": pathologies(diagnoses(sheet, "pathology", own=own, remedy="leave it empty")),
            "assessment": assessments(sheet, "assessment"),
            "subtlety": sheet.grades("subtlety", highest=5),
            "mask_paths": existing(_paths(sheet, "mask_path", root, required=False)),
            **_boxes(sheet),
        }
    )
    used = {*found, *IMAGE_COLUMNS, "image_path", "mask_path"}
    return found.assign(**{name: sheet.text(name) for name in map(str, sheet.cells) if name not in used})


def _boxes(sheet: TextTable) -> dict[str, "pd.Series[float]"]:
    boxes = {name: sheet.numbers(name, required=True) for name in BOX_COLUMNS}
    flat = (boxes["x_min"] >= boxes["x_max"]) | (boxes["y_min"] >= boxes["y_max"])
    wrong = flat | (boxes["x_min"] < 0) | (boxes["y_min"] < 0)
    if wrong.any():
        row = wrong.index[wrong][0]
        box = ", ".join(f"{name} {column[row]:g}" for name, column in boxes.items())
        raise sheet.refuse(row, f"{box} is not a box; 0 <= x_min < x_max and 0 <= y_min < y_max must hold")
    return boxes
