"""INbreast: 410 full-field digital mammograms of 115 women with the outlines of their lesions.

Moreira et al., INbreast: toward a full-field digital mammographic database, Academic Radiology 19:236-248
(2012).
"""

import plistlib
import re
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

import numpy as np
import pandas as pd

from mammo.config.choices import Birads3
from mammo.data.catalog import Catalog, validate
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
from mammo.errors import DataError

# Number, woman, side and view, as in 20586908_6c613a14b80a8591_MG_R_CC_ANON; ML stands for MLO.
_NAME = re.compile(r"(\d{8})_([0-9a-f]+)_MG_([LR])_(CC|ML)_ANON", re.I)
_FEWEST_POINTS = 3  # of an outline; single calcifications are marked by one point


def read_inbreast(*, root: Path, birads_3: Birads3 = Birads3.leave_out) -> Catalog:
    """Read INbreast: `INbreast.csv` (or `.xlsx`), `AllDICOMs` and the outlines in `AllXML`.

    There is no biopsy result: BI-RADS 4 to 6 is MALIGNANT, 1 and 2 BENIGN. The woman is the code in the name
    of the file, because the table has none. A lesion is an outline of at least three points, with the label
    of its image. Files in no row of the table, and images without a label, are left out.

    Args:
        root: Folder of the release, or a folder above.
        birads_3: Images with BI-RADS 3: `leave_out`, `benign` or `malignant`.

    Raises:
        DataError: The table or a file of outlines is missing or invalid.
    """
    sheet = TextTable.read(find_table(root, "INbreast.csv", "INbreast.xlsx", "INbreast.xls"))
    sheet.require("laterality", "view", "file_name", "bi_rads")
    # the last rows are totals
    sheet = TextTable(sheet.path, sheet.cells[sheet.cells["file_name"].str.fullmatch(r"\d{8}").fillna(False)])
    files: dict[str, str] = index_images(
        root, key=lambda name: m[1] if (m := _NAME.fullmatch(name)) else None
    )
    number = sheet.text("file_name")
    if number.duplicated().any():
        row = number.index[number.duplicated()][0]
        raise sheet.refuse(row, f"file name '{number[row]}' occurs twice; delete one of the rows")
    path = number.map(files)
    code = path.str.extract(_NAME)[1].astype("string")
    laterality, view = places(sheet, laterality="laterality", view="view")
    assessment = assessments(sheet, "bi_rads")
    images = pd.DataFrame(
        {
            "image_id": number,
            "patient_id": code.fillna("file" + number),  # without its file, an image is not used
            "laterality": laterality,
            "view": view,
            "density": densities(sheet, "acr"),
            "assessment": assessment,
            "pathology": pathology_of_birads(assessment, birads_3=birads_3),
            "study_date": sheet.text("acquisition_date"),
            "path": path,
        }
    )
    unlisted = len(files.keys() - set(number))
    images, left_out = without_label(images)
    if unlisted:
        left_out["not in the table"] = unlisted
    lesions = _lesions(root, sheet.path, images)
    lesions["pathology"] = lesions["image_id"].map(images.set_index("image_id")["pathology"])
    images["abnormality_type"] = images["image_id"].map(types_of_images(lesions))
    return validate(Catalog(images=images, lesions=lesion_table(lesions, images), left_out=left_out))


def _lesions(root: Path, table: Path, images: pd.DataFrame) -> pd.DataFrame:
    """Return the outlines of the images as boxes with their names."""
    known = set(images["image_id"])
    rows = []
    for file in sorted({*root.glob("AllXML/*.xml"), *table.parent.glob("AllXML/*.xml")}):
        if file.stem in known:
            rows += [{"image_id": file.stem, **outline} for outline in _outlines(file)]
    lesions = pd.DataFrame(rows, columns=["image_id", "name", "x_min", "y_min", "x_max", "y_max"])
    name = lesions["name"].astype("string").str.lower()
    mass = name.str.contains("mass|spiculated", na=False)
    return lesions.assign(
        abnormality_type=type_of(mass, name.str.contains("calcif|cluster", na=False) & ~mass)
    )


def _outlines(file: Path) -> list[dict[str, Any]]:
    """Return name and box of each outline in a file."""
    try:
        content = plistlib.loads(file.read_bytes().strip())
        regions = [region for image in content["Images"] for region in image["ROIs"]]
        found = []
        for region in regions:
            points = np.array([_coordinates(point) for point in region["Point_px"]])
            if len(points) >= _FEWEST_POINTS:
                low, high = np.floor(points.min(axis=0)), np.floor(points.max(axis=0)) + 1
                sides = dict(zip(("x_min", "y_min", "x_max", "y_max"), (*low, *high), strict=True))
                found.append({"name": region["Name"], **sides})
    except (
        plistlib.InvalidFileException,
        ExpatError,
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
    ) as error:
        raise DataError(
            f"{file}: is no file of outlines of INbreast ({error}); restore or delete it"
        ) from None
    return found


def _coordinates(point: str) -> tuple[float, float]:
    """Return x and y of a point such as `(1201.5, 830)`."""
    x, y = point.strip().strip("()").split(",")
    return float(x), float(y)
