"""`prepare=true`: the same store as from whole files, with a few image files on the disk at a time."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest
from helpers.commands import command
from helpers.idc_server import object_of, s3_server, write_collection
from helpers.trees import LESIONS, write_cases

from mammo.data.sources.cbis_ddsm import read_cbis_ddsm
from mammo.data.store import gradual_store
from mammo.data.store.store import prepare
from mammo.download import batched_preparation
from mammo.download.batched_preparation import is_stripped, prepare_in_batches
from mammo.download.download_plan import DownloadPlan, plan_download
from mammo.download.series_download import download_series
from mammo.errors import DataError

pytestmark = pytest.mark.slow

DATA = {
    "_target_": "mammo.data.sources.cbis_ddsm.read_cbis_ddsm",
    "abnormality": "all",
    "seed": 0,
    "cases": None,
}
SIZE: dict[str, Any] = {
    **{"height": 48, "width": 32, "crop": "breast", "aspect": "keep", "white": "auto", "window": None},
    **{"for_processing": "reject", "masks": True, "max_rejected": 0.05, "workers": 0},
}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address and folder of a server of a release; its case files are in `whole` and `root`."""
    write_collection(tmp_path / "server", LESIONS)
    for name in ("whole", "root"):
        write_cases(tmp_path / name, LESIONS)
    with s3_server(tmp_path / "server") as address:
        yield address, tmp_path / "server"


def plan_of(root: Path, **options: bool) -> DownloadPlan:
    index = root.parent / "server_index.parquet"
    given = {"masks": True, "crops": False} | options
    data = DATA | {"root": str(root)}
    return plan_download("cbis_ddsm", data, patients=None, index=index, tables="", **given)


def prepared(root: Path, address: str, **options: Any) -> Any:
    return prepare_in_batches(
        plan_of(root),
        DATA | {"root": root},
        SIZE | {"store": root.parent / "store"},
        endpoint=address,
        announce=lambda series: None,
        **{"batch_bytes": 1} | options,
    )


def test_store_is_that_of_the_whole_files_and_is_found_again(
    served: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, _ = served
    plan = plan_of(tmp_path / "whole")
    download_series(plan.series, plan.root, endpoint=address, advance=lambda size: None)
    wanted = prepare(read_cbis_ddsm(root=tmp_path / "whole"), store=tmp_path / "stores", **SIZE)

    present: list[int] = []  # whole image files on the disk, after each batch has come

    def download(series: Any, root: Path, **options: Any) -> Any:
        came = download_series(series, root, **options)
        present.append(sum("PixelData" in pydicom.dcmread(file) for file in root.rglob("*.dcm")))
        return came

    monkeypatch.setattr(batched_preparation, "download_series", download)
    store, failed = prepared(tmp_path / "root", address)
    assert failed == {}
    assert len(present) == 2  # seven images in chunks of four
    assert max(present) < len(list((tmp_path / "whole").rglob("*.dcm"))) == 24
    assert np.array_equal(store.images, wanted.images)
    assert np.array_equal(store.masks, wanted.masks)
    pd.testing.assert_frame_equal(store.table.drop(columns="path"), wanted.table.drop(columns="path"))
    pd.testing.assert_frame_equal(
        store.lesions.drop(columns="mask_paths"), wanted.lesions.drop(columns="mask_paths")
    )
    left_out = ("fingerprint",)
    assert {k: v for k, v in store.manifest.items() if k not in left_out} == {
        k: v for k, v in wanted.manifest.items() if k not in left_out
    }
    assert sorted(path.name for path in store.directory.iterdir()) == sorted(
        path.name for path in wanted.directory.iterdir()
    )

    # the other commands find the store by the headers that are left
    catalog = read_cbis_ddsm(root=tmp_path / "root")
    assert all(is_stripped(Path(path).parent) for path in catalog.images["path"])
    again = prepare(catalog, store=tmp_path / "store", **SIZE)
    assert again.directory == store.directory
    # and so does the same download, without a network
    assert prepared(tmp_path / "root", "http://127.0.0.1:9")[0].directory == store.directory
    # a store of another size needs the pixels
    with pytest.raises(DataError, match=r"images cannot be used, .* has no pixel data"):
        prepare(catalog, store=tmp_path / "store", **SIZE | {"height": 40})


@pytest.mark.parametrize("place", ["strip", "hand_over", "prepare"])
def test_it_goes_on_after_an_end_at_any_place(
    served: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    address, _ = served
    with monkeypatch.context() as patch:

        def end(*arguments: Any, **options: Any) -> Any:
            raise KeyboardInterrupt

        owner = gradual_store.GradualStore if place == "hand_over" else batched_preparation
        patch.setattr(owner, place, end)
        with pytest.raises(KeyboardInterrupt):
            prepared(tmp_path / "root", address)
    came: list[int] = []

    def download(series: Any, root: Path, **options: Any) -> Any:
        came.extend(each.size for each in series)
        return download_series(series, root, **options)

    monkeypatch.setattr(batched_preparation, "download_series", download)
    store, failed = prepared(tmp_path / "root", address)
    assert failed == {}
    assert store.manifest["counts"] == {"images": 7, "rejected": 0, "lesions": 9, "lesions_with_mask": 9}
    assert (len(came) > 0) == (place == "strip")
    assert all(is_stripped(tmp_path / "root" / each.folder) for each in plan_of(tmp_path / "root").series)


def test_a_series_that_fails_keeps_its_images_open(
    served: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder = served
    (film,) = object_of(folder, LESIONS[0].image.series).iterdir()
    film.rename(tmp_path / "film")
    store, failed = prepared(tmp_path / "root", address)
    assert store is None
    assert list(failed.values()) == ["no object found"]
    assert not list((tmp_path / "store").glob("*[0-9a-f]/manifest.json"))
    (tmp_path / "film").rename(film)
    store, failed = prepared(tmp_path / "root", address)
    assert (store.manifest["counts"]["images"], failed) == (7, {})


def test_a_later_image_with_more_bits_is_refused(
    served: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The white point of a kind of file cannot change once images are prepared and gone."""
    address, folder = served
    for row in LESIONS:
        (film,) = object_of(folder, row.image.series).iterdir()
        header = pydicom.dcmread(film)
        shift = 2 if row.patient == "P_00005" else 6  # the last image has 14 bits, the others 10
        header.PixelData = (header.pixel_array >> shift).astype(np.uint16).tobytes()
        header.save_as(film)
    with pytest.raises(DataError, match=r"data\.white=auto: .* need 14 bits, .* give data\.white=14"):
        prepared(tmp_path / "root", address)


def test_command_prepares_and_names_the_store(served: tuple[str, Path], tmp_path: Path) -> None:
    address, _ = served
    shutil.rmtree(tmp_path / "root")
    given = ["data.root=root", "data.height=48", "data.width=32", "data.workers=1"]
    result = command(
        "download",
        *given,
        *("prepare=true", "data.cases=whole", f"endpoint={address}", "index=server_index.parquet"),
        folder=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert "7 images prepared, 0 rejected" in result.stdout
    assert "files found                                     7" in result.stdout  # of the audit
    assert result.stdout.count("warning") == 0
    assert "to download: 8 series" in result.stdout
    again = command("prepare", "data=cbis_ddsm", *given, folder=tmp_path)
    assert again.returncode == 0, again.stderr
    (store,) = (tmp_path / "cache" / "store").iterdir()
    assert str(store) in result.stdout
    assert str(store) in again.stdout


def test_batches_are_of_some_bytes(tmp_path: Path) -> None:
    write_cases(tmp_path / "root", LESIONS)
    write_collection(tmp_path / "server", LESIONS)
    by_image = plan_of(tmp_path / "root").series_by_image()
    images = sorted(by_image)
    sizes = [sum(each.size for each in by_image[image]) for image in images]
    chunks = [range(0, 2), range(2, 4), range(4, 6), range(6, 7)]
    batches = batched_preparation._batches(chunks, images, by_image, sum(sizes[:4]))
    assert batches[0] == chunks[:2]
    assert [chunk for batch in batches for chunk in batch] == chunks
    assert batched_preparation._batches(chunks, images, by_image, 1) == [[chunk] for chunk in chunks]
