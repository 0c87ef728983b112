"""CBIS-DDSM: reads its official case files into the tables of images and lesions.

Lee et al., A curated mammography data set for use in computer-aided detection and diagnosis research,
Scientific Data 4:170177 (2017).
"""

import os
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from mammo.data.catalog import LESION_COLUMNS, Catalog, check_root, validate
from mammo.data.sources.cbis_layouts import FileIndex, index_files
from mammo.data.tables.text_table import TextTable
from mammo.data.tables.vocabulary import assessments, densities, diagnoses, lateralities, pathologies
from mammo.errors import DataError

_SPLITS = ("train", "test")
_ABNORMALITY_OF = {"mass": "mass", "calc": "calcification"}
# files of a lesion, with their columns in the case files
FILE_COLUMNS = {"image": "image_file_path", "crop": "cropped_image_file_path", "mask": "roi_mask_file_path"}


def read_cbis_ddsm(
    *, root: Path, cases: Path | None = None, abnormality: Literal["mass", "calc", "all"] = "all"
) -> Catalog:
    """Read the official case files of CBIS-DDSM and find the image files in any layout of the release.

    Calcification and mass rows with the same patient, side, view and official split become one image.
    The image is malignant if any of its lesions is; its subtlety is the lowest and its assessment the highest
    of its lesions. If a view is in both official splits of the case files read, the id of the test image ends
    with `_TEST`.

    Args:
        root: Folder of the images, or a folder above or below it; without images, every path is NA.
        cases: Folder of the case files; by default `root`, its parent folder, or the folder `csv` in either.
        abnormality: Lesion type of the case files to read.

    Raises:
        DataError: A folder or case file is missing, or a cell of a case file is invalid.
    """
    check_root(root)
    if cases is not None and not cases.is_dir():
        raise DataError(f"data.cases={cases}: no such folder; name the folder of the case files")
    rows = read_case_rows([cases] if cases else [root, root.absolute().parent], abnormality)
    index = index_files(root)
    return validate(Catalog(images=_images(rows, index), lesions=_lesions(rows, index)))


def read_case_rows(folders: list[Path], abnormality: Literal["mass", "calc", "all"]) -> pd.DataFrame:
    """Read the rows of the case files, one per lesion, with the columns of the tables, `image_id` and `kind`.

    The columns `image`, `crop` and `mask` hold the paths as the case files name them.

    Args:
        folders: Folders that may contain the case files, or a folder `csv` with them.
        abnormality: Lesion type of the case files to read.

    Raises:
        DataError: A case file is missing, or one of its cells is invalid.
    """
    rows = pd.concat(
        [
            _read_cases(_case_file(folders, name, abnormality), kind, split)
            for kind in kinds_of(abnormality)
            for split, name in zip(_SPLITS, case_files(kind), strict=True)
        ],
        ignore_index=True,
    )
    rows["image_id"] = _image_ids(rows)
    return rows


def kinds_of(abnormality: Literal["mass", "calc", "all"]) -> list[str]:
    """Return the lesion types of a choice of case files, as in the names of the files."""
    return list(_ABNORMALITY_OF) if abnormality == "all" else [abnormality]


def case_files(kind: str) -> list[str]:
    """Return the names of the case files of a lesion type, `mass` or `calc`."""
    return [f"{kind}_case_description_{split}_set.csv" for split in _SPLITS]


def _case_file(folders: list[Path], name: str, abnormality: str) -> Path:
    found = [path for folder in folders for path in (folder / name, folder / "csv" / name) if path.is_file()]
    if found:
        return found[0]
    other = "calc" if name.startswith("mass") else "mass"
    remedy = f" or set data.abnormality={other}" if abnormality == "all" else ""
    raise DataError(f"{folders[0]}: no case file {name}; set data.cases=DIR to its folder{remedy}")


def _read_cases(path: Path, kind: str, split: str) -> pd.DataFrame:
    """Read the rows of one case file, one per lesion, with the column names and values of the tables."""
    sheet = TextTable.read(path)
    # TextTable reads `breast density` of calcification files as `breast_density`, the name in mass files
    sheet.require("patient_id", "breast_density", "left_or_right_breast", "image_view", "abnormality_id")
    sheet.require("assessment", "pathology", "subtlety", *FILE_COLUMNS.values())
    rows = pd.DataFrame(
        {
            "patient_id": sheet.text("patient_id", required=True),
            "laterality": lateralities(sheet, "left_or_right_breast", required=True),
            "view": sheet.words("image_view", {"CC": "CC", "MLO": "MLO"}, required=True),
            "pathology": pathologies(diagnoses(sheet, "pathology", required=True)),
            "abnormality_id": sheet.text("abnormality_id", required=True),
            "density": densities(sheet, "breast_density"),
            "subtlety": sheet.grades("subtlety", highest=5),
            "assessment": assessments(sheet, "assessment"),
            **{name: sheet.text(column, required=True) for name, column in FILE_COLUMNS.items()},
            **{n: sheet.text(n) for n in ("mass_shape", "mass_margins", "calc_type", "calc_distribution")},
        }
    )
    return rows.assign(kind=kind, abnormality_type=_ABNORMALITY_OF[kind], official_split=split)


def _image_ids(rows: pd.DataFrame) -> "pd.Series[str]":
    view = rows["patient_id"] + "_" + rows["laterality"] + "_" + rows["view"]
    in_both = rows.groupby(view)["official_split"].transform("nunique") == 2
    return view.mask(in_both & (rows["official_split"] == "test"), view + "_TEST")


def _images(rows: pd.DataFrame, index: FileIndex) -> pd.DataFrame:
    """Return one row per image; a view scanned separately for masses and calcifications has two files."""
    by_image = rows.assign(malignant=rows["pathology"] == "MALIGNANT").groupby("image_id", sort=True)
    images = by_image[["patient_id", "laterality", "view", "density", "official_split"]].first()
    images["subtlety"] = by_image["subtlety"].min()
    images["assessment"] = by_image["assessment"].max()
    images["pathology"] = by_image["malignant"].any().map({True: "MALIGNANT", False: "BENIGN"})
    several = by_image["abnormality_type"].nunique() > 1
    images["abnormality_type"] = by_image["abnormality_type"].first().mask(several, "both")
    images["path"] = [
        next((file for named in paths for file in index.files(named)), pd.NA)
        for paths in by_image["image"].unique()
    ]
    return images.reset_index()


def _lesions(rows: pd.DataFrame, index: FileIndex) -> pd.DataFrame:
    """Return one row per lesion; crop and mask often share a series, so any of its files may be the mask."""
    candidates: list[Any] = [
        os.pathsep.join(dict.fromkeys([*index.files(mask), *index.files(crop)])) or pd.NA
        for mask, crop in zip(rows["mask"], rows["crop"], strict=True)
    ]
    lesion_ids = rows["image_id"] + "_" + rows["kind"] + "_" + rows["abnormality_id"]
    lesions = rows.assign(lesion_id=lesion_ids, mask_paths=candidates)
    return lesions.filter(items=list(LESION_COLUMNS))
