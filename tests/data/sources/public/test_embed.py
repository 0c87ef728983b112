"""EMBED on a made tree."""

from pathlib import Path

import pytest
from helpers.public_sets import embed

from mammo.data.catalog import Catalog
from mammo.data.sources.public.embed import read_embed


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    embed(tmp_path)
    return read_embed(root=tmp_path)


def test_labels_of_breasts(catalog: Catalog) -> None:
    images = catalog.images
    labels = images.groupby(["patient_id", "laterality"])["pathology"].agg(set).map(sorted).to_dict()
    assert labels == {
        ("1", "LEFT"): ["MALIGNANT"],  # the worst of its findings
        ("1", "RIGHT"): ["BENIGN"],
        ("2", "LEFT"): ["BENIGN"],  # a finding of both breasts
        ("2", "RIGHT"): ["BENIGN"],
        ("3", "LEFT"): ["BENIGN"],  # a finding without side
        ("3", "RIGHT"): ["BENIGN"],
        ("4", "RIGHT"): ["MALIGNANT"],
    }
    assert images["path"].notna().all()
    assert images.groupby("patient_id")["density"].first().to_dict() == {"1": 2, "2": 3, "3": 1, "4": 4}
    assert images.groupby(["patient_id", "laterality"])["assessment"].first().tolist() == [
        4,
        1,
        2,
        4,
        1,
        1,
        6,
    ]
    assert set(images["manufacturer"]) == {"HOLOGIC"}
    assert images["exam_id"].tolist() == [f"{woman}00" for woman in images["patient_id"]]


def test_what_is_left_out(catalog: Catalog) -> None:
    assert catalog.left_out == {
        "not a 2D image": 2,
        "spot or magnification view": 1,
        "male breast": 2,
        "no pathology, and BI-RADS 0 or 3 to 6": 2,
        "the breast is in no row of the clinical table": 2,
    }
    assert len(catalog.images) == 14


def test_rois(catalog: Catalog) -> None:
    lesions = catalog.lesions
    assert lesions["pathology"].tolist() == ["MALIGNANT", "MALIGNANT", "BENIGN"]
    boxes = lesions[["x_min", "y_min", "x_max", "y_max"]]
    assert boxes.iloc[0].tolist() == [20, 100, 80, 300]  # y comes first in the table
    assert boxes.iloc[1].isna().all()  # an uncertain match
    assert boxes.iloc[2].tolist() == [12, 11, 14, 13]
