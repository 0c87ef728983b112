"""`python -m mammo.download` from the user's side: it resumes after a kill and says what did not come."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pandas as pd
import pytest
from helpers.commands import command, start
from helpers.idc_server import object_of, publish, s3_server, write_collection, write_index
from helpers.public_sets import cmmd
from helpers.trees import LESIONS, write_cases

from mammo.data.sources.cbis_ddsm import case_files, read_cbis_ddsm
from mammo.data.sources.public.cmmd import read_cmmd
from mammo.download.download_plan import plan_download
from mammo.download.idc_series import read_collection
from mammo.download.series_download import download_series
from mammo.download.source_tables import fetch_case_files, write_cases_of
from mammo.runs.run_lock import RunLock


@pytest.fixture
def release(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[list[str], Path]]:
    """Arguments of a download into `root` from a server on this machine, and the server's folder."""
    folder = tmp_path / "server"
    index = write_collection(folder, LESIONS, padding=getattr(request, "param", 0))
    write_cases(tmp_path / "cases", LESIONS)
    with s3_server(folder) as address:
        yield (
            [
                *("data=cbis_ddsm", "data.root=root", "data.cases=cases", "data.workers=1"),
                *(f"index={index}", f"endpoint={address}"),
            ],
            folder,
        )


def whole_files(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.glob("cbis_ddsm/*/*/*/*.dcm")}


def parts(root: Path) -> list[Path]:
    return [path for path in root.glob(".download-*/*/*") if path.stat().st_size]


def wait_for(ready: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    while not ready():
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.parametrize("release", [10_000_000], indirect=True)
def test_a_killed_download_goes_on_and_ends_with_the_audit(
    release: tuple[list[str], Path], tmp_path: Path
) -> None:
    given, _ = release
    given = [*given, "masks=true"]
    root = tmp_path / "root"
    with start("download", *given, folder=tmp_path, stdout=subprocess.PIPE) as process:
        wait_for(lambda: whole_files(root) and parts(root), process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    before, index = whole_files(root), tmp_path / "server_index.parquet"
    series = list(read_collection("cbis_ddsm", index=index).series.values())
    assert 0 < len(before) < sum(each.files for each in series)
    # what has a folder is whole, and a part is no file of a series
    found = {Path(path) for path in read_cbis_ddsm(root=root).images["path"].dropna()}
    assert found <= set(before)
    for path in before:
        (of_folder,) = [each for each in series if root / each.folder == path.parent]
        assert of_folder.problem(path.parent) is None

    again = command("download", *given, folder=tmp_path)
    assert again.returncode == 0, again.stderr
    after = whole_files(root)
    assert before.items() <= after.items()  # nothing came twice
    assert len({path.parent for path in after}) == 17
    assert list(root.glob(".download-*")) == []
    assert "17 series of 5 patients, 240.1 MB, under CC BY 3.0, doi 10.7937/k9" in again.stdout
    assert f"to download: {17 - len({path.parent for path in before})} series" in again.stdout
    assert "downloading: 240 of 240 megabytes, 0 s left" in again.stderr
    assert "lesions with usable mask                        9" in again.stdout  # of the audit
    assert "mammo.train experiment=patches data=cbis_ddsm data.root=root" in again.stdout


@pytest.mark.slow
def test_what_did_not_come_is_listed_and_comes_with_the_next_call(
    release: tuple[list[str], Path], tmp_path: Path
) -> None:
    given, folder = release
    lesion = LESIONS[0]
    (film,) = object_of(folder, lesion.image.series).iterdir()
    size = film.stat().st_size
    os.truncate(film, size - 1)
    result = command("download", *given, folder=tmp_path)
    place = f"cbis_ddsm/{lesion.case}/{lesion.image.study}/MG_{lesion.image.series}"
    reason = f"its files have {size - 1:,} bytes, and {size:,} in the index"
    assert result.returncode == 1
    assert f"did not come: {place}: {reason}\n" in result.stderr
    assert result.stderr.endswith(
        "error: data.root=root: 1 series did not come, see root/not_downloaded.csv; start the same command "
        "again, which keeps what has come\n"
    )
    assert place in (tmp_path / "root" / "not_downloaded.csv").read_text()
    assert "mammo.prepare" not in result.stdout
    os.truncate(film, size)
    result = command("download", *given, folder=tmp_path)
    assert "to download: 1 series" in result.stdout
    assert (result.returncode, "files missing                                   0" in result.stdout) == (
        0,
        True,
    )
    assert not (tmp_path / "root" / "not_downloaded.csv").exists()


@pytest.mark.slow
def test_some_patients_are_a_data_set_of_their_own_that_can_grow(
    release: tuple[list[str], Path], tmp_path: Path
) -> None:
    given, _ = release
    index, endpoint = (each.partition("=")[2] for each in given[-2:])
    root = tmp_path / "root"
    root.mkdir()
    options = {"masks": False, "crops": False, "index": Path(index), "tables": "http://127.0.0.1:9"}
    data = {"root": str(root), "abnormality": "all", "cases": str(tmp_path / "cases"), "seed": 0}

    two = plan_download("cbis_ddsm", data, patients=2, **options)
    download_series(two.missing(), root, endpoint=endpoint, advance=lambda size: None)
    images = read_cbis_ddsm(root=root).images
    assert images["patient_id"].nunique() == 2
    assert set(images["pathology"]) == {"BENIGN", "MALIGNANT"}
    assert images["path"].notna().all()

    # without data.cases and without a network: the whole case files are in the folder
    whole = plan_download("cbis_ddsm", data | {"cases": None}, patients=None, **options)
    assert len(whole.missing()) == 8 - len(two.series)
    download_series(whole.missing(), root, endpoint=endpoint, advance=lambda size: None)
    grown = read_cbis_ddsm(root=root).images
    assert set(images["image_id"]) < set(grown["image_id"])
    assert grown["path"].notna().all()

    # what is there needs no network
    result = command("download", *given[:-1], "endpoint=http://127.0.0.1:9", folder=tmp_path)
    assert (result.returncode, "to download: 0 series" in result.stdout) == (0, True)


@pytest.mark.slow
def test_case_files_come_from_the_source_of_the_collection(
    release: tuple[list[str], Path], tmp_path: Path
) -> None:
    given, _ = release
    rest = [each for each in given if not each.startswith("data.cases")]

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(tmp_path / "served"))

        def log_message(self, *arguments: Any) -> None:
            pass

    shutil.copytree(tmp_path / "cases", tmp_path / "served")
    (tmp_path / "served" / "calc_case_description_test_set.csv").write_text("<html>Log in</html>\n")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        source = f"http://127.0.0.1:{server.server_port}/"
        result = command("download", *rest, f"tables={source}", folder=tmp_path)
        name = "calc_case_description_test_set.csv"
        remedy = "give data.cases=DIR with the case files"
        assert (result.returncode, result.stderr) == (
            1,
            f"error: {source}{name}: is not the table of the data set; {remedy}\n",
        )
        assert not list((tmp_path / "root").glob(f"**/{name}"))
        (tmp_path / "served" / name).unlink()
        result = command("download", *rest, f"tables={source}", folder=tmp_path)
        assert result.stderr.startswith(f"error: {source}{name}: the server answers 404 ")
        shutil.copy(tmp_path / "cases" / name, tmp_path / "served")
        assert command("download", *rest, f"tables={source}", folder=tmp_path).returncode == 0
        server.shutdown()


@pytest.mark.slow
def test_cmmd_comes_with_its_table(tmp_path: Path) -> None:
    """Two of three women, one of each class; sides and views are in the headers."""
    cmmd(tmp_path / "tree", folder="{woman}/{number}.dcm")
    rows = []
    for woman in ("D1-0001", "D1-0002", "D2-0001"):
        objects = {file.stem: file.read_bytes() for file in (tmp_path / "tree" / woman).iterdir()}
        uid = f"1.2.826.0.1.{int(woman[1])}.{int(woman[-1])}"
        rows.append(publish(tmp_path / "server", "cmmd", woman, f"{uid}.7", uid, objects))
    index = write_index(tmp_path / "server", rows)
    root = tmp_path / "root"
    root.mkdir()
    shutil.move(tmp_path / "tree" / "CMMD_clinicaldata_revision.xlsx", root)
    with s3_server(tmp_path / "server") as address:
        given = ["data=cmmd", "data.root=root", f"index={index}", f"endpoint={address}", "data.workers=1"]
        result = command("download", *given, "patients=2", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    images = read_cmmd(root=root).images
    assert images["patient_id"].nunique() == 2
    assert "D1-0001" in set(images["patient_id"])  # the only woman without a malignant breast
    assert images["path"].str.startswith(str(root / "cmmd" / "D")).all()
    assert re.search(r"files missing +0\n", result.stdout)
    assert "mammo.prepare data=cmmd data.root=root" in result.stdout


def test_two_downloads_into_one_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with RunLock(tmp_path / "root") as lock:
        lock.acquire()
        result = command("download", "data.root=root", folder=tmp_path)
    sentence = "data.root=root: another download writes to it; wait for its end"
    assert (result.returncode, result.stderr) == (1, f"error: {sentence}\n")


def test_whole_case_files_are_kept_though_those_in_the_folder_are_cut(tmp_path: Path) -> None:
    write_cases(tmp_path, LESIONS)
    names = [name for kind in ("mass", "calc") for name in case_files(kind)]
    whole = {name: (tmp_path / name).read_bytes() for name in names}
    root = tmp_path / "root"
    root.mkdir()
    for cases in (None, root, root):  # the first are found in the folder above
        folder = fetch_case_files(root, ["mass", "calc"], cases=cases, url="http://127.0.0.1:9")
        assert {name: (folder / name).read_bytes() for name in names} == whole
        write_cases_of(root, ["mass", "calc"], ["P_00001", "P_00004"])
        assert set(read_cbis_ddsm(root=root).images["patient_id"]) == {"P_00001", "P_00004"}
    write_cases_of(root, ["mass", "calc"], None)
    assert {name: (root / name).read_bytes() for name in names} == whole


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            ["data=phantom"],
            "data=phantom: is not downloaded by this command; give data=cbis_ddsm or data=cmmd",
        ),
        (["data=csv"], "data=csv: is not downloaded by this command; give data=cbis_ddsm or data=cmmd"),
        (
            ["data=cmmd", "data.root=r", "prepare=true"],
            "prepare=true: only the headers of cmmd name its images, so they are prepared together; leave it "
            "out, and give python -m mammo.prepare afterwards",
        ),
        (["data=cmmd", "data.root=r", "masks=true"], "masks=true: cmmd has none; leave it out"),
        (["data.root=cmmd.csv/r"], "data.root=cmmd.csv/r: cannot be written: Not a directory"),
        (
            ["data=cmmd", "data.root=r", "tables=http://127.0.0.1:9", "index=cmmd.csv"],
            "http://127.0.0.1:9/CMMD_clinicaldata_revision.xlsx: cannot be reached ([Errno 111] Connection "
            "refused); connect to the network, or put CMMD_clinicaldata_revision.xlsx into data.root",
        ),
        (["data.root=r", "patients=1"], "patients=1: must be at least 2"),
        ([], "data.root has no value: give data.root=..."),
        (["data.root=r", "data.cases=nowhere"], "data.cases=nowhere: no such file or folder"),
        (
            ["data.root=r", "tables=http://127.0.0.1:9"],
            "http://127.0.0.1:9/mass_case_description_train_set.csv: cannot be reached ([Errno 111] "
            "Connection refused); connect to the network, or give data.cases=DIR with the case files",
        ),
        (
            ["data.root=r", "data.cases=cases", "endpoint=http://127.0.0.1:9"],
            "endpoint=http://127.0.0.1:9: cannot be reached ([Errno 111] Connection refused); connect to the "
            "network and start the same command again, which keeps what has come",
        ),
    ],
)
def test_errors_are_one_sentence(tmp_path: Path, given: list[str], sentence: str) -> None:
    write_cases(tmp_path / "cases", LESIONS)
    index = write_collection(tmp_path / "server", LESIONS)
    pd.read_parquet(index).assign(collection_id="cmmd").to_csv(tmp_path / "cmmd.csv")
    result = command("download", f"index={index}", *given, folder=tmp_path)
    assert (result.returncode, result.stderr) == (1, f"error: {sentence}\n")
    assert result.stdout.count("\n") == (2 if "endpoint" in sentence else 0)
