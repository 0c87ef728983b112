"""Series come whole or not at all, from a real server of the S3 protocol on this machine."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.idc_server import object_of, s3_server, write_collection
from helpers.trees import LESIONS

from mammo.download import series_download, series_transfer
from mammo.download.idc_series import Series, read_collection
from mammo.download.series_download import download_series, gigabytes, missing_series, require_room
from mammo.errors import DataError


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("server")
    with s3_server(folder) as address:
        yield address, folder


@pytest.fixture
def served(endpoint: tuple[str, Path], tmp_path: Path) -> tuple[str, Path, list[Series]]:
    """Address and folder of the server, and its nineteen series."""
    address, folder = endpoint
    for old in folder.iterdir():
        shutil.rmtree(old)
    series = read_collection("cbis_ddsm", index=write_collection(folder, LESIONS)).series
    return address, folder, list(series.values())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder whose name the shell would divide."""
    folder = tmp_path / "the 'new' $set"
    folder.mkdir()
    return folder


def test_series_come_into_their_folders_in_batches(
    served: tuple[str, Path, list[Series]], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder, series = served
    monkeypatch.setattr(series_download, "BATCH", 6)
    came: list[int] = []
    assert download_series(series, root, endpoint=address, advance=came.append) == {}
    assert sorted(came) == sorted(each.size for each in series)
    assert missing_series(series, root) == []
    for each in series:
        objects = {path.name: path.read_bytes() for path in object_of(folder, each.uid).iterdir()}
        assert {path.name: path.read_bytes() for path in (root / each.folder).iterdir()} == objects
    assert list(root.glob(".*")) == []


def test_what_is_not_whole_does_not_come_and_is_said(
    served: tuple[str, Path, list[Series]], root: Path
) -> None:
    """A truncated object, a series without one of its two files, and one that is not there."""
    address, folder, series = served
    pair = next(each for each in series if each.files == 2)
    short, gone = [each for each in series if each.files == 1][:2]
    (film,) = object_of(folder, short.uid).iterdir()
    whole = film.read_bytes()
    os.truncate(film, len(whole) - 10)
    next(object_of(folder, pair.uid).iterdir()).unlink()
    shutil.rmtree(object_of(folder, gone.uid))

    failed = download_series(series, root, endpoint=address, advance=lambda size: None)
    assert failed == {
        pair: "1 of 2 files came",
        short: f"its files have {len(whole) - 10:,} bytes, and {len(whole):,} in the index",
        gone: "no object found",
    }
    assert {each.uid for each in missing_series(series, root)} == {pair.uid, short.uid, gone.uid}
    assert not any((root / each.folder).exists() for each in failed)
    assert list(root.glob(".*")) == []

    film.write_bytes(whole)
    assert download_series([short], root, endpoint=address, advance=lambda size: None) == {}
    assert missing_series([short], root) == []


def test_a_damaged_copy_is_replaced(served: tuple[str, Path, list[Series]], root: Path) -> None:
    address, _, series = served
    part = root / series[0].folder
    part.mkdir(parents=True)
    (part / "old.dcm").write_bytes(b"part of a film")
    assert missing_series(series[:1], root) == series[:1]
    assert download_series(series[:1], root, endpoint=address, advance=lambda size: None) == {}
    assert missing_series(series[:1], root) == []
    assert not (part / "old.dcm").exists()


def test_a_request_that_fails_once_is_made_again(
    served: tuple[str, Path, list[Series]], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder, series = served
    chosen = next(each for each in series if each.files == 1)
    (film,) = object_of(folder, chosen.uid).iterdir()
    whole = film.read_bytes()
    os.truncate(film, 10)
    attempts: list[int] = []

    def transfer(part: list[Series], root: Path, *, endpoint: str) -> object:
        attempts.append(len(part))
        yield from series_transfer.transfer(part, root, endpoint=endpoint)
        film.write_bytes(whole)

    monkeypatch.setattr(series_download, "transfer", transfer)
    assert download_series(series, root, endpoint=address, advance=lambda size: None) == {}
    assert attempts == [len(series), 1]


def test_a_server_that_is_gone_ends_the_download_with_one_sentence(
    served: tuple[str, Path, list[Series]], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series_transfer, "_RETRIES", 1)
    series = served[2]
    with pytest.raises(DataError, match=r"endpoint=http://127.0.0.1:9: cannot be reached \(.*refused"):
        download_series(series, root, endpoint="http://127.0.0.1:9", advance=lambda size: None)
    assert list(root.iterdir()) == []


def test_a_full_disk_is_said_before_and_during(root: Path) -> None:
    with pytest.raises(DataError, match=r"1000000.0 GB are needed and .* GB are free; free some"):
        require_room(root, 10**15, remedy="free some")
    with pytest.raises(DataError, match="the disk is full"):
        series_transfer._refuse_full_disk("write a.dcm: no space left on device", root)
    assert gigabytes(99_000_000) == "99.0 MB"
