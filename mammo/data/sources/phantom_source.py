"""The synthetic mammograms as a data source: made on first use, and read as CBIS-DDSM."""

from pathlib import Path

from mammo.data.catalog import Catalog
from mammo.data.phantom.generator import generate
from mammo.data.sources.cbis_ddsm import read_cbis_ddsm


def read_phantom(
    *,
    root: Path,
    patients: int,
    height: int,
    width: int,
    film_scale: int = 1,
    difficulty: float = 0.0,
    obscured: float = 0.0,
    seed: int = 0,
    workers: int = 1,
) -> Catalog:
    """Read the tables of a set of synthetic mammograms, which is made first if it does not exist.

    Args:
        root: folder of all sets.
        patients: number of patients.
        height: height of a prepared image, pixels.
        width: width of a prepared image, pixels.
        film_scale: ratio of the size of a film to that of a prepared image.
        difficulty: difficulty, from 0 (large, clear lesions) to 1 (small, subtle lesions).
        obscured: share of the views in which dense tissue hides the lesions.
        seed: seed of the set.
        workers: number of processes that make the set.

    Raises:
        ConfigError: a value is out of range.
        DataError: the folder cannot be written.
    """
    folder = generate(
        root=root,
        patients=patients,
        height=height * film_scale,
        width=width * film_scale,
        difficulty=difficulty,
        obscured=obscured,
        seed=seed,
        workers=workers,
    )
    return read_cbis_ddsm(root=folder)
