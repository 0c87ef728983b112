"""RSNA Screening Mammography Breast Cancer Detection (2023): 54,706 digital mammograms of 11,913 women."""

from pathlib import Path

import pandas as pd

from mammo.data.catalog import Catalog, validate
from mammo.data.sources.public.set_files import find_table, index_images
from mammo.data.tables.text_table import TextTable
from mammo.data.tables.vocabulary import densities, diagnoses, pathologies, places

_CARRIED = ("site_id", "machine_id", "age", "implant", "biopsy", "invasive", "difficult_negative_case")


def read_rsna(*, root: Path) -> Catalog:
    """Read the training part, the only one with labels: `train.csv` and `train_images`.

    `cancer` is of the breast, by biopsy; 2 % are positive. Site, machine, age, implant and the outcomes
    `biopsy`, `invasive` and `difficult_negative_case` are carried. `BIRADS` is not read, because it is 0
    wherever a cancer's is known; density is missing for one site, so that it betrays the site.

    Args:
        root: Folder of `train.csv` and the images, or a folder above.

    Raises:
        DataError: The table is missing or has an invalid cell.
    """
    sheet = TextTable.read(find_table(root, "train.csv"))
    sheet.require("patient_id", "image_id", "laterality", "view", "cancer")
    laterality, view = places(sheet, laterality="laterality", view="view")
    image_id = sheet.text("image_id", required=True)
    # copies converted to PNG are named PATIENT_IMAGE
    files = index_images(root, key=lambda name: name.rpartition("_")[2])
    images = pd.DataFrame(
        {
            "image_id": image_id,
            "patient_id": sheet.text("patient_id", required=True),
            "laterality": laterality,
            "view": view,
            "density": densities(sheet, "density"),
            "pathology": pathologies(diagnoses(sheet, "cancer", required=True)),
            "path": image_id.map(files),
            **{name: sheet.text(name) for name in _CARRIED if name in sheet.cells},
        }
    )
    return validate(Catalog(images=images, lesions=pd.DataFrame()))
