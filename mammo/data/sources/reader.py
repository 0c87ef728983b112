"""The catalog of whichever source the user chose."""

from pathlib import Path
from typing import Literal

from mammo.data.catalog import Catalog
from mammo.data.phantom.generator import generate
from mammo.data.sources.cbis_ddsm import read_cbis_ddsm
from mammo.data.sources.csv_dataset import read_table
from mammo.errors import ConfigError


def read_catalog(
    *,
    source: Literal["phantom", "cbis_ddsm", "csv"],
    root: Path,
    cases: Path | None = None,
    abnormality: Literal["mass", "calc", "all"] = "all",
    table: Path | None = None,
    lesions: Path | None = None,
    patients: int = 0,
    height: int = 0,
    width: int = 0,
    film_scale: int = 1,
    difficulty: float = 0.0,
    seed: int = 0,
    workers: int = 1,
) -> Catalog:
    """Reads the tables of a source; a phantom is made first where it is not there yet.

    Args:
        source: which of the readers.
        root: folder of the images, of the phantoms for `phantom`.
        cases: folder of the CBIS-DDSM case files, where it is not below `root`.
        abnormality: which case files of CBIS-DDSM.
        table: the table of `csv`.
        lesions: its lesions.
        patients: of the phantom.
        height: of a prepared image, pixels.
        width: of a prepared image, pixels.
        film_scale: the phantom's film is so many times as high and wide.
        difficulty: of the phantom.
        seed: of the phantom.
        workers: processes that make the phantom.
    """
    if source == "phantom":
        folder = generate(
            root=root,
            patients=patients,
            height=height * film_scale,
            width=width * film_scale,
            difficulty=difficulty,
            seed=seed,
            workers=workers,
        )
        return read_cbis_ddsm(root=folder)
    if source == "cbis_ddsm":
        return read_cbis_ddsm(root=root, cases=cases, abnormality=abnormality)
    if table is None:
        raise ConfigError("data.table has no value: give data.table=FILE")
    return read_table(table=table, root=root, lesions=lesions)
