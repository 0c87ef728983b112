"""EMBED, the open part of the Emory Breast Imaging Dataset: digital mammograms with pathology and ROIs.

Jeong et al., The EMory BrEast imaging Dataset (EMBED), Radiology: Artificial Intelligence 5:e220047 (2023).
"""

import os
import re
from pathlib import Path

import pandas as pd

from mammo.data.catalog import Catalog, validate
from mammo.data.images.breast import BOX_COLUMNS
from mammo.data.sources.public.set_files import find_table, index_images, lesion_table, without
from mammo.data.tables.text_table import TextTable
from mammo.data.tables.vocabulary import lateralities, places

_METADATA = "EMBED_OpenData_metadata.csv"
_CLINICAL = "EMBED_OpenData_clinical.csv"
_CARRIED = {"cohort_num": "cohort", "manufacturer": "manufacturer"}
_NEEDED = (
    "empi_anon",
    "acc_anon",
    "anon_dicom_path",
    "finalimagetype",
    "imagelateralityfinal",
    "viewposition",
)
_OPTIONAL = ("study_date_anon", "spot_mag", "roi_coords", "match_level", *_CARRIED)
_ASSESSMENTS = dict(zip("ANBPSMK", range(7), strict=True))  # BI-RADS
_WORST_CANCER = 1  # path_severity: 0 invasive, 1 in situ; 2 to 6 no cancer of the breast
_UNCERTAIN = 2  # match_level of an ROI
_MALE = 5  # tissueden
_NUMBERS = re.compile(r"-?\d+(?:\.\d+)?")


def read_embed(*, root: Path) -> Catalog:
    """Read EMBED: `EMBED_OpenData_metadata.csv`, `EMBED_OpenData_clinical.csv` and the images.

    The label is of the breast in its exam, joined by exam and side (`B`, or none, is both): MALIGNANT with
    `path_severity` 0 or 1; BENIGN with another, or without pathology with BI-RADS 1 or 2 alone. Other breasts
    have no label; they are left out, as are images that are not 2D, spot and magnification views, and male
    breasts. An ROI has the label of its image, and no box if its match is uncertain (`match_level` 2).

    Args:
        root: Folder of the tables and the images, or a folder above.

    Raises:
        DataError: A table is missing or has an invalid cell.
    """
    metadata = find_table(root, _METADATA)
    sheet = TextTable.read(metadata, columns=[*_NEEDED, *_OPTIONAL])
    sheet.require(*_NEEDED)
    of_2d = (sheet.text("finalimagetype") == "2D").fillna(value=False)
    spot = sheet.text("spot_mag").notna() & ~sheet.text("spot_mag").isin(["0", "0.0"])
    kept, left_out = without(sheet.cells, {"not a 2D image": ~of_2d, "spot or magnification view": spot})
    sheet = TextTable(sheet.path, kept)
    laterality, view = places(sheet, laterality="imagelateralityfinal", view="viewposition")
    exam = sheet.text("acc_anon", required=True)
    path = sheet.text("anon_dicom_path", required=True)
    image_id = path.map(lambda given: os.path.splitext(os.path.basename(given))[0]).astype("string")
    images = pd.DataFrame(
        {
            "image_id": image_id,
            "patient_id": sheet.text("empi_anon", required=True),
            "exam_id": exam,
            "study_date": sheet.text("study_date_anon"),
            "laterality": laterality,
            "view": view,
            "path": image_id.map(index_images(root)),
            "roi": sheet.text("roi_coords"),
            "match": sheet.text("match_level"),
            **{ours: sheet.text(theirs) for theirs, ours in _CARRIED.items() if theirs in sheet.cells},
        }
    )
    breasts = _breasts(TextTable.read(find_table(root, _CLINICAL)))
    images = images.merge(breasts, on=["exam_id", "laterality"], how="left")
    images, unlabelled = without(
        images,
        {
            "the breast is in no row of the clinical table": images["found"].isna(),
            "male breast": images["male"],
            "no pathology, and BI-RADS 0 or 3 to 6": images["pathology"].isna(),
        },
    )
    lesions = _lesions(images)
    images = images.drop(columns=["roi", "match", "found", "male"])
    return validate(
        Catalog(images=images, lesions=lesion_table(lesions, images), left_out=left_out | unlabelled)
    )


def _breasts(sheet: TextTable) -> pd.DataFrame:
    """Return pathology, density and assessment of each breast of each exam, from the rows of its findings."""
    sheet.require("acc_anon", "side", "asses", "path_severity", "tissueden")
    grades = {letter: str(grade) for letter, grade in _ASSESSMENTS.items()}
    rows = pd.DataFrame(
        {
            "exam_id": sheet.text("acc_anon", required=True),
            "side": sheet.text("side").str.upper().mask(lambda side: side == "B"),
            "severity": sheet.numbers("path_severity"),
            "assessment": sheet.words("asses", grades).astype("Int64"),
            "density": sheet.numbers("tissueden"),
        }
    )
    named = lateralities(TextTable(sheet.path, rows[["side"]]), "side")
    rows = pd.concat(
        [rows.assign(laterality=named.fillna(side))[named.fillna(side) == side] for side in ("LEFT", "RIGHT")]
    )
    groups = rows.groupby(["exam_id", "laterality"])
    breasts = pd.DataFrame({"worst": groups["severity"].min(), "density": groups["density"].max()})
    highest, lowest = groups["assessment"].max(), groups["assessment"].min()
    proven = breasts["worst"].notna()
    negative = ~proven & (lowest >= 1).fillna(value=False) & (highest <= 2).fillna(value=False)
    breasts["pathology"] = pd.Series(pd.NA, index=breasts.index, dtype="string")
    breasts["pathology"] = breasts["pathology"].mask(negative | proven, "BENIGN")
    cancer = (breasts["worst"] <= _WORST_CANCER).fillna(value=False)
    breasts["pathology"] = breasts["pathology"].mask(cancer, "MALIGNANT")
    breasts["male"] = (breasts["density"] == _MALE).fillna(value=False)
    breasts["density"] = breasts["density"].mask(breasts["male"]).astype("Int64")
    breasts["assessment"] = highest.mask(highest == 0)
    return breasts.drop(columns="worst").assign(found=True).reset_index()


def _lesions(images: pd.DataFrame) -> pd.DataFrame:
    """Return the ROIs of images; each is four numbers of a cell: ymin, xmin, ymax, xmax."""
    lesions = []
    held = images[images["roi"].notna()]
    for image_id, label, roi, match in zip(
        *(held[n] for n in ("image_id", "pathology", "roi", "match")), strict=True
    ):
        numbers = [float(number) for number in _NUMBERS.findall(roi)]
        levels = [] if pd.isna(match) else [int(float(level)) for level in _NUMBERS.findall(match)]
        for index in range(len(numbers) // 4):
            y_min, x_min, y_max, x_max = numbers[4 * index : 4 * index + 4]
            level = levels[index] if index < len(levels) else (levels or [1])[0]
            box = (x_min, y_min, x_max, y_max) if level != _UNCERTAIN else (None,) * 4
            lesions.append(
                {"image_id": image_id, "pathology": label, **dict(zip(BOX_COLUMNS, box, strict=True))}
            )
    return pd.DataFrame(lesions, columns=["image_id", "pathology", *BOX_COLUMNS])
