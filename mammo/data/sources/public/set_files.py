"""What the readers of the public data sets share: their files, BI-RADS as a label, and what is left out."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from mammo.config.choices import Birads3
from mammo.data.catalog import LESION_COLUMNS, check_root
from mammo.data.images.breast import BOX_COLUMNS
from mammo.data.sources.image_files import is_image, walk
from mammo.errors import DataError


def find_table(root: Path, *names: str) -> Path:
    """Return a table of a data set: in its folder, up to two folders below, or in the folder above.

    Args:
        root: Folder of the data set.
        names: Names that the table may have, the preferred first.

    Raises:
        DataError: There is none.
    """
    check_root(root)
    for name in names:
        for pattern in (name, f"*/{name}", f"*/*/{name}"):
            found = sorted(root.glob(pattern))
            if found:
                return found[0]
        if (root.absolute().parent / name).is_file():
            return root.absolute().parent / name
    raise DataError(f"data.root={root}: contains no {' or '.join(names)}; give the folder that contains it")


def index_images(root: Path, *, key: Callable[[str], str | None] = str) -> dict[str, str]:
    """Return the path of each image below a folder by the name of its file without suffix.

    Args:
        root: Folder.
        key: Function from this name to the key of the file, None for no key.
    """
    index: dict[str, str] = {}
    for folder, names in walk(str(root.absolute())):
        for name in sorted(names):
            of_file = key(os.path.splitext(name)[0]) if is_image(name) else None
            if of_file is not None:
                index.setdefault(of_file, os.path.join(folder, name))
    return index


def without(
    table: pd.DataFrame, reasons: Mapping[str, "pd.Series[bool]"]
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Leave rows out of a table of images.

    Args:
        table: Table of images.
        reasons: Reason -> whether it holds for each row, NA for no; the first one is counted.

    Returns:
        The other rows, and the number of rows left out by reason.
    """
    counts: dict[str, int] = {}
    kept = pd.Series(data=True, index=table.index)
    for reason, given in reasons.items():
        holds = given.fillna(value=False).astype(bool) & kept
        kept &= ~holds
        if holds.any():
            counts[reason] = int(holds.sum())
    return table[kept], counts


def pathology_of_birads(assessment: "pd.Series[int]", *, birads_3: Birads3) -> "pd.Series[str]":
    """Return BI-RADS assessments as labels: 4 to 6 MALIGNANT, 1 and 2 BENIGN, 3 as chosen, others NA."""
    three = {"malignant": "MALIGNANT", "benign": "BENIGN"}.get(birads_3)
    label = {1: "BENIGN", 2: "BENIGN", 3: three, 4: "MALIGNANT", 5: "MALIGNANT", 6: "MALIGNANT"}
    return assessment.map(label).astype("string")


def without_label(
    images: pd.DataFrame,
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Leave out the images that have no label by their BI-RADS assessment, see `pathology_of_birads`.

    Args:
        images: Table of images with `assessment` and `pathology`.
    """
    reasons = {
        "BI-RADS 3": (images["assessment"] == 3) & images["pathology"].isna(),
        "no BI-RADS assessment, or 0": images["assessment"].isna(),
    }
    return without(images, reasons)


def lesion_table(lesions: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Return the lesions of the images that are in a table, with ids, and without boxes that have no area.

    Args:
        lesions: `image_id`, the sides of the boxes and further columns of a table of lesions.
        images: The table of images.
    """
    held = lesions[lesions["image_id"].isin(images["image_id"])].reset_index(drop=True)
    number = (held.groupby("image_id").cumcount() + 1).astype("string")
    held = held.assign(lesion_id=held["image_id"].astype("string") + "_" + number)
    boxes = held[BOX_COLUMNS].astype("Float64")
    flat = (boxes["x_min"] >= boxes["x_max"]) | (boxes["y_min"] >= boxes["y_max"])
    held[BOX_COLUMNS] = boxes.mask(flat.fillna(value=False))
    return held.filter(items=list(LESION_COLUMNS))


def type_of(mass: "pd.Series[bool]", calcification: "pd.Series[bool]") -> "pd.Series[str]":
    """Return the abnormality type of rows that have a mass, a calcification, both or neither (NA)."""
    kind = pd.Series(pd.NA, index=mass.index, dtype="string")
    return kind.mask(mass, "mass").mask(calcification, "calcification").mask(mass & calcification, "both")


def types_of_images(lesions: pd.DataFrame) -> "pd.Series[str]":
    """Return the abnormality type of each image by its lesions, as `type_of`.

    Args:
        lesions: `image_id` and `abnormality_type` of lesions.
    """
    mass, calcification = (
        lesions["abnormality_type"].isin([kind, "both"]).groupby(lesions["image_id"]).any()
        for kind in ("mass", "calcification")
    )
    return type_of(mass, calcification)
