"""mini-MIAS on a made tree."""

from pathlib import Path

import pandas as pd
import pytest
from helpers.public_sets import mini_mias

from mammo.data.sources.public.mini_mias import read_mini_mias
from mammo.errors import DataError


def test_images(tmp_path: Path) -> None:
    mini_mias(tmp_path / "all-mias")
    images = read_mini_mias(root=tmp_path).images.set_index("image_id")
    assert len(images) == 7  # mdb008 is in no row
    assert images["patient_id"].tolist() == [f"woman{number:03d}" for number in (1, 1, 2, 2, 3, 3, 4)]
    assert images["laterality"].tolist() == ["RIGHT", "LEFT"] * 3 + ["RIGHT"]
    assert set(images["view"]) == {"MLO"}
    diagnoses = ["BENIGN", "MALIGNANT", "NORMAL", "NORMAL", "MALIGNANT", "MALIGNANT", "BENIGN"]
    assert images["diagnosis"].tolist() == diagnoses
    assert (images["pathology"] == "MALIGNANT").tolist() == [name == "MALIGNANT" for name in diagnoses]
    types = ["mass", "mass", None, None, "both", "calcification", None]
    assert (
        images["abnormality_type"].astype(object).where(images["abnormality_type"].notna(), None).tolist()
        == types
    )
    assert images["tissue"].tolist() == list("GGDDFFG")
    assert images.loc["mdb005", "abnormality"] == "CALC+CIRC"
    assert images["path"].map(lambda path: Path(path).name).tolist() == [
        f"{name}.pgm" for name in images.index
    ]


def test_a_circle_counts_from_the_bottom(tmp_path: Path) -> None:
    mini_mias(tmp_path)
    lesions = read_mini_mias(root=tmp_path).lesions
    assert len(lesions) == 6  # the row that stands twice counts once
    boxes = lesions.set_index("lesion_id")[["x_min", "y_min", "x_max", "y_max"]]
    assert boxes.loc["mdb001_1"].tolist() == [535 - 197, 1024 - 425 - 197, 535 + 197, 1024 - 425 + 197]
    assert boxes.loc["mdb006_1"].isna().all()
    assert boxes.loc["mdb007_1"].tolist() == [0, 0, 60, 64]  # cut at the border
    assert lesions["pathology"].tolist() == [
        "BENIGN",
        "MALIGNANT",
        "BENIGN",
        "MALIGNANT",
        "MALIGNANT",
        "BENIGN",
    ]
    assert pd.isna(lesions["abnormality_type"].iloc[-1])


def test_a_wrong_folder_or_listing_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"data.root=.*: contains no Info.txt or info.txt; give the folder that"
    ):
        read_mini_mias(root=tmp_path)
    (tmp_path / "Info.txt").write_text("nothing\n")
    with pytest.raises(DataError, match=r"Info.txt: has no row such as 'mdb001 G CIRC B 535 425 197'"):
        read_mini_mias(root=tmp_path)
