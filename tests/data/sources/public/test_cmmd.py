"""CMMD on a made tree."""

from pathlib import Path

import pytest
from helpers.public_sets import NBIA, cmmd

from mammo.data.sources.public import missing_places
from mammo.data.sources.public.cmmd import read_cmmd
from mammo.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("folder", [NBIA, "cmmd/{woman}/1.3.6.1.4.1.9.1/MG_1.3.6.1.4.1.9.2/{number}a-b.dcm"])
def test_images(folder: str, tmp_path: Path) -> None:
    cmmd(tmp_path / "set", folder=folder)
    catalog = read_cmmd(root=tmp_path / "set")
    images = catalog.images.set_index("image_id")
    assert images.index.tolist() == [
        *("D1-0001_RIGHT_CC", "D1-0001_RIGHT_MLO", "D1-0002_LEFT_CC", "D1-0002_LEFT_MLO"),
        *("D1-0002_RIGHT_CC", "D1-0002_RIGHT_MLO", "D2-0001_LEFT_CC", "D2-0001_LEFT_MLO"),
    ]
    assert images["pathology"].tolist() == ["BENIGN"] * 4 + ["MALIGNANT"] * 4
    assert images["cohort"].tolist() == ["D1"] * 6 + ["D2"] * 2
    assert images["abnormality_type"].tolist()[::2] == ["calcification", "mass", "both", "mass"]
    assert images["age"].tolist()[::2] == ["44", "40", "40", "61"]
    assert images["subtype"].fillna("").tolist()[-1] == "Luminal A"
    assert images["view"].tolist() == ["CC", "MLO"] * 4
    # the other breast of a woman with cancer is not called normal
    assert catalog.left_out == {"the breast has no row in the table": 2}


def test_headers_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cmmd(tmp_path / "set")
    first = read_cmmd(root=tmp_path / "set").images
    monkeypatch.setattr(missing_places, "_read", lambda file: pytest.fail(file))
    assert read_cmmd(root=tmp_path / "set").images.equals(first)


def test_an_unreadable_file_and_a_repeated_view(tmp_path: Path) -> None:
    cmmd(tmp_path / "set")
    files = sorted((tmp_path / "set").glob("CMMD/D1-0002/*/*/*.dcm"))
    files[1].write_bytes(files[0].read_bytes())
    files[2].write_bytes(b"nothing")
    catalog = read_cmmd(root=tmp_path / "set")
    names = [name for name in catalog.images["image_id"] if name.startswith("D1-0002")]
    assert names == ["D1-0002_LEFT_CC", "D1-0002_LEFT_CC_2", "D1-0002_RIGHT_MLO"]
    assert catalog.left_out["no side in the header"] == 1


def test_a_folder_without_images_is_told(tmp_path: Path) -> None:
    cmmd(tmp_path / "set", folder="x/{woman}a/{number}.dcm")
    with pytest.raises(
        DataError, match=r"data.root=.*: contains no folder such as D1-0001; give the folder of"
    ):
        read_cmmd(root=tmp_path / "set")
