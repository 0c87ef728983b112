"""VinDr-Mammo: 20,000 full-field digital mammograms of 5,000 exams with boxes of their findings.

Nguyen et al., VinDr-Mammo: a large-scale benchmark dataset for computer-aided diagnosis in full-field digital
mammography, Scientific Data 10:277 (2023).
"""

from pathlib import Path

import pandas as pd

from mammo.config.choices import Birads3
from mammo.data.catalog import Catalog, validate
from mammo.data.images.breast import BOX_COLUMNS
from mammo.data.sources.public.set_files import (
    find_table,
    index_images,
    lesion_table,
    pathology_of_birads,
    type_of,
    types_of_images,
    without_label,
)
from mammo.data.tables.text_table import TextTable
from mammo.data.tables.vocabulary import assessments, densities, places

_SPLITS = {"TRAINING": "train", "TRAIN": "train", "TEST": "test"}


def read_vindr_mammo(*, root: Path, birads_3: Birads3 = Birads3.benign) -> Catalog:
    """Read VinDr-Mammo: `breast-level_annotations.csv`, `finding_annotations.csv` and the images.

    There is no biopsy result: BI-RADS 4 and 5 of the breast is MALIGNANT, the others BENIGN. An exam is one
    woman's. A finding has the label of its own BI-RADS; its box is cut at the border of the image, which some
    exceed. The official split is the release's.

    Args:
        root: Folder of the release, or a folder above.
        birads_3: Breasts with BI-RADS 3: `benign`, `malignant` or `leave_out`.

    Raises:
        DataError: A table is missing or has an invalid cell.
    """
    sheet = TextTable.read(find_table(root, "breast-level_annotations.csv"))
    sheet.require("study_id", "image_id", "laterality", "view_position", "breast_birads", "split")
    laterality, view = places(sheet, laterality="laterality", view="view_position")
    assessment = assessments(sheet, "breast_birads")
    image_id = sheet.text("image_id", required=True)
    images = pd.DataFrame(
        {
            "image_id": image_id,
            "patient_id": sheet.text("study_id", required=True),
            "laterality": laterality,
            "view": view,
            "density": densities(sheet, "breast_density"),
            "assessment": assessment,
            "pathology": pathology_of_birads(assessment, birads_3=birads_3),
            "official_split": sheet.words("split", _SPLITS, required=True),
            "path": image_id.map(index_images(root)),
        }
    )
    findings = _findings(find_table(root, "finding_annotations.csv"), birads_3)
    images["abnormality_type"] = images["image_id"].map(types_of_images(findings))
    images, left_out = without_label(images)
    return validate(Catalog(images=images, lesions=lesion_table(findings, images), left_out=left_out))


def _findings(path: Path, birads_3: Birads3) -> pd.DataFrame:
    """Return the findings that have a box."""
    sheet = TextTable.read(path)
    sheet.require(
        "image_id", "finding_categories", "finding_birads", "xmin", "ymin", "xmax", "ymax", "height"
    )
    size = {"x": sheet.numbers("width"), "y": sheet.numbers("height")}
    boxes = {}
    for name in BOX_COLUMNS:
        side, border = sheet.numbers(name.replace("_", "")).clip(lower=0), size[name[0]]
        boxes[name] = side.mask((side > border).fillna(value=False), border)
    categories = sheet.text("finding_categories").fillna("")
    assessment = assessments(sheet, "finding_birads")
    findings = pd.DataFrame(
        {
            "image_id": sheet.text("image_id", required=True),
            "abnormality_type": type_of(
                categories.str.contains("Mass", regex=False),
                categories.str.contains("Calcification", regex=False),
            ),
            "assessment": assessment,
            "pathology": pathology_of_birads(assessment, birads_3=birads_3),
            **boxes,
        }
    )
    return findings.dropna(subset=BOX_COLUMNS)
