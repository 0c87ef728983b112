"""The catalog of the chosen data source."""

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
    """Read the tables of a source; a phantom is made first if it does not exist.

    Args:
        source: name of the reader.
        root: folder of the images; for `phantom`, folder of all phantoms.
        cases: folder of the CBIS-DDSM case files, if it is not below `root`.
        abnormality: lesion type of the CBIS-DDSM case files.
        table: table of images for `csv`.
        lesions: table of lesions for `csv`.
        patients: number of patients of the phantom.
        height: height of a prepared image, pixels.
        width: width of a prepared image, pixels.
        film_scale: size of a phantom film, relative to a prepared image.
        difficulty: difficulty of the phantom, 0 to 1.
        seed: seed of the phantom.
        workers: number of processes that make the phantom.
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
