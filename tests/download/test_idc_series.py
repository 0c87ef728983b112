"""The index of the Imaging Data Commons: the installed one, and one in a file."""

from pathlib import Path

import pandas as pd
import pytest

from mammo.download.idc_series import read_collection
from mammo.errors import DataError

ROW = {
    "collection_id": "cmmd",
    "PatientID": "D1-0001",
    "StudyInstanceUID": "1.2.3",
    "SeriesInstanceUID": "1.2.4",
    "Modality": "MG",
    "instanceCount": 2,
    "series_size_MB": 0.000007,
    "series_aws_url": "s3://bucket/a/*",
    "license_short_name": "CC BY 4.0",
    "source_DOI": "10.7937/tcia.eqde-4b16",
}


@pytest.mark.slow
def test_installed_index_has_both_data_sets() -> None:
    cbis = read_collection("cbis_ddsm")
    assert len(cbis.series) == 6775
    assert sum(series.size for series in cbis.series.values()) == pytest.approx(163.5e9, abs=0.1e9)
    cmmd = read_collection("cmmd")
    assert (len(cmmd.series), cmmd.licence) == (1775, "CC BY 4.0")
    assert {series.folder.split("/")[1][:2] for series in cmmd.series.values()} == {"D1", "D2"}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_series_of_an_index_in_a_file(tmp_path: Path, suffix: str) -> None:
    table = pd.DataFrame([ROW, ROW | {"collection_id": "ea1141", "SeriesInstanceUID": "1.2.5"}])
    index = tmp_path / f"index.{suffix}"
    table.to_csv(index, index=False) if suffix == "csv" else table.to_parquet(index, index=False)
    (series,) = read_collection("cmmd", index=index).series.values()
    assert series.folder == "cmmd/D1-0001/1.2.3/MG_1.2.4"
    assert (series.files, series.size, series.source) == (2, 7, "s3://bucket/a/*")

    folder = tmp_path / series.folder
    assert series.problem(folder) == "0 of 2 files came"
    folder.mkdir(parents=True)
    (folder / "a.dcm").write_bytes(b"1234")
    assert series.problem(folder) == "1 of 2 files came"
    (folder / "b.dcm").write_bytes(b"12")
    assert series.problem(folder) == "its files have 6 bytes, and 7 in the index"
    (folder / "b.dcm").write_bytes(b"123")
    (folder / ".DS_Store").write_bytes(b"what macOS leaves")
    assert series.problem(folder) is None


@pytest.mark.parametrize("name", ["index.parquet", "index.csv", "missing.parquet"])
def test_a_file_that_is_no_index_is_refused(tmp_path: Path, name: str) -> None:
    if "missing" not in name:
        (tmp_path / name).write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"index=.* is no index of the Imaging Data Commons"):
        read_collection("cmmd", index=tmp_path / name)


def test_an_index_without_the_collection_is_refused(tmp_path: Path) -> None:
    pd.DataFrame([ROW]).to_csv(tmp_path / "index.csv", index=False)
    with pytest.raises(DataError, match="has no series of the collection cbis_ddsm"):
        read_collection("cbis_ddsm", index=tmp_path / "index.csv")
