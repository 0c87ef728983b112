"""CMMD, the Chinese Mammography Database: 5,202 digital mammograms of 1,775 women with biopsy.

Cui et al., The Chinese Mammography Database (CMMD), The Cancer Imaging Archive (2021).
"""

import os
import re
from pathlib import Path

import pandas as pd

from mammo.data.catalog import ABNORMALITY_TYPES, Catalog, validate
from mammo.data.sources.image_files import is_image, walk
from mammo.data.sources.public.missing_places import places_in_headers
from mammo.data.sources.public.set_files import find_table, without
from mammo.data.tables.text_table import TextTable
from mammo.data.tables.vocabulary import diagnoses, lateralities, pathologies
from mammo.errors import DataError

_WOMAN = re.compile(r"D[12]-\d{4}")
TABLES = ("CMMD_clinicaldata_revision.xlsx", "CMMD_clinicaldata_revision.csv")


def read_cmmd(*, root: Path) -> Catalog:
    """Read CMMD: the table `CMMD_clinicaldata_revision.xlsx` and the images in any layout by woman.

    A row of the table is one breast, with the result of its biopsy; side and view of an image are in its
    header only. Images of a breast without a row are left out: nothing says that it is normal. All women of
    the cohort D2 have cancer, and 55 % of D1; `cohort` is a subgroup. `age` and `subtype` are carried.

    Args:
        root: Folder of the folders `D1-0001`, ..., or a folder above.

    Raises:
        DataError: The table or the images are missing, or a cell is invalid.
    """
    table = find_table(root, *TABLES)
    breasts = read_breasts(table)
    files = [
        (woman, os.path.join(folder, name))
        for folder, names in walk(str(root.absolute()))
        if (woman := next((part for part in reversed(folder.split(os.sep)) if _WOMAN.fullmatch(part)), None))
        for name in sorted(names)
        if is_image(name)
    ]
    if not files:
        raise DataError(
            f"data.root={root}: contains no folder such as D1-0001; give the folder of CMMD's images"
        )
    images = pd.DataFrame(files, columns=["patient_id", "path"], dtype="string")
    images = images.join(places_in_headers(images["path"], root=root))
    name = images["patient_id"] + "_" + images["laterality"].fillna("") + "_" + images["view"].fillna("")
    number = images.groupby(name).cumcount() + 1
    images["image_id"] = name.where(number == 1, name + "_" + number.astype("string"))
    images["cohort"] = images["patient_id"].str[:2]
    images = images.merge(breasts, on=["patient_id", "laterality"], how="left")
    images, left_out = without(
        images,
        {
            "no side in the header": images["laterality"].isna(),
            "the breast has no row in the table": images["pathology"].isna(),
        },
    )
    return validate(Catalog(images=images, lesions=pd.DataFrame(), left_out=left_out))


def read_breasts(table: Path) -> pd.DataFrame:
    """Return one row for each breast that has a result; raises DataError for an invalid table."""
    sheet = TextTable.read(table)
    sheet.require("id1", "leftright", "classification")
    types = sheet.words("abnormality", {**ABNORMALITY_TYPES, "BOTH": "both"})
    breasts = pd.DataFrame(
        {
            "patient_id": sheet.text("id1", required=True),
            "laterality": lateralities(sheet, "leftright", required=True),
            "pathology": pathologies(diagnoses(sheet, "classification", required=True)),
            "abnormality_type": types,
            "age": sheet.text("age"),
            "subtype": sheet.text("subtype"),
        }
    )
    twice = breasts.duplicated(["patient_id", "laterality"])
    if twice.any():
        row = twice.index[twice][0]
        woman, side = breasts.loc[row, ["patient_id", "laterality"]]
        raise sheet.refuse(row, f"the {side} breast of '{woman}' has a row above; keep one of them")
    return breasts
