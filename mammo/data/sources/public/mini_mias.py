"""mini-MIAS: 322 films in MLO, digitised at 200 micrometres and padded to 1024 x 1024 pixels.

Suckling et al., The Mammographic Image Analysis Society digital mammogram database, Exerpta Medica
International Congress Series 1069:375-378 (1994).
"""

import re
from pathlib import Path

import pandas as pd

from mammo.data.catalog import Catalog, validate
from mammo.data.sources.public.set_files import (
    find_table,
    index_images,
    lesion_table,
    type_of,
    types_of_images,
)
from mammo.data.tables.vocabulary import DIAGNOSES
from mammo.errors import DataError

_SIZE = 1024  # height of every image; y counts from its bottom
_ROW = re.compile(
    r"(?P<image_id>mdb\d{3})[^\S\n]+(?P<tissue>[FGD])[^\S\n]+(?P<abnormality>[A-Z]{4})"
    r"(?:[^\S\n]+(?P<severity>[BM]))?(?:[^\S\n]+(?P<x>\d+)[^\S\n]+(?P<y>\d+)[^\S\n]+(?P<radius>\d+))?",
)
_MASSES, _CALCIFICATION = ("CIRC", "SPIC", "MISC"), "CALC"
_DIAGNOSIS = {"B": "BENIGN", "M": "MALIGNANT"}


def read_mini_mias(*, root: Path) -> Catalog:
    """Read mini-MIAS: `Info.txt` and the images `mdb001.pgm` to `mdb322.pgm`.

    An image is malignant if one of its abnormalities is; an image of class NORM is BENIGN, with NORMAL in
    `diagnosis`. Films 2n - 1 (right) and 2n (left) are of one woman. A lesion has the square around its
    circle; those without a place have no box. Rows that stand twice in the file count once. `tissue` is F
    (fatty), G (fatty-glandular) or D (dense-glandular), and `abnormality` lists the classes of an image.

    Args:
        root: Folder of `Info.txt` and the images, or a folder above.

    Raises:
        DataError: There is no `Info.txt`, or it has no rows.
    """
    listing = find_table(root, "Info.txt", "info.txt")
    text = listing.read_text(encoding="latin-1")
    rows = pd.DataFrame([match.groupdict() for match in _ROW.finditer(text)], dtype="string")
    if rows.empty:
        raise DataError(f"{listing}: has no row such as 'mdb001 G CIRC B 535 425 197'; give mini-MIAS's own")
    rows = rows.drop_duplicates(ignore_index=True)
    rows["diagnosis"] = rows["severity"].map(_DIAGNOSIS).fillna("NORMAL")
    rows["pathology"] = rows["diagnosis"].map(DIAGNOSES)
    kind = type_of(rows["abnormality"].isin(_MASSES), rows["abnormality"] == _CALCIFICATION)
    rows["abnormality_type"] = kind
    images = _images(rows, index_images(root, key=str.lower))
    found = rows[rows["severity"].notna()]
    x, y, radius = (found[name].astype("Float64") for name in ("x", "y", "radius"))
    boxes = {
        "x_min": x - radius,
        "x_max": x + radius,
        "y_min": _SIZE - y - radius,
        "y_max": _SIZE - y + radius,
    }
    boxes = {name: side.clip(0, _SIZE) for name, side in boxes.items()}
    return validate(Catalog(images=images, lesions=lesion_table(found.assign(**boxes), images)))


def _images(rows: pd.DataFrame, files: dict[str, str]) -> pd.DataFrame:
    """Return one row per image."""
    groups = rows.groupby("image_id", sort=True)
    images = groups[["tissue"]].first()
    rank = rows["diagnosis"].map({"NORMAL": 0, "BENIGN": 1, "MALIGNANT": 2}).groupby(rows["image_id"]).max()
    images["diagnosis"] = rank.map(dict(enumerate(("NORMAL", "BENIGN", "MALIGNANT"))))
    images["abnormality"] = groups["abnormality"].agg(lambda classes: "+".join(sorted(set(classes))))
    images["abnormality_type"] = types_of_images(rows)
    images = images.reset_index()
    number = images["image_id"].str[3:].astype(int)
    return images.assign(
        pathology=images["diagnosis"].map(DIAGNOSES),
        patient_id=((number + 1) // 2).map("woman{:03d}".format),
        laterality=(number % 2 == 0).map({True: "LEFT", False: "RIGHT"}),
        view="MLO",
        path=images["image_id"].map(files),
    )
