"""VinDr-Mammo on a made tree."""

from pathlib import Path

from helpers.public_sets import vindr_mammo

from mammo.config.choices import Birads3
from mammo.data.sources.public.vindr_mammo import read_vindr_mammo


def test_images(tmp_path: Path) -> None:
    vindr_mammo(tmp_path / "1.0.0")
    catalog = read_vindr_mammo(root=tmp_path)
    images = catalog.images
    assert (len(images), images["patient_id"].nunique(), images["path"].notna().all()) == (17, 4, True)
    by_breast = images.groupby(["patient_id", "laterality"])["pathology"].agg(set).map(sorted)
    assert [labels for (labels,) in by_breast] == [
        *["BENIGN", "MALIGNANT", "BENIGN", "BENIGN"],
        *["MALIGNANT", "BENIGN", "BENIGN", "BENIGN"],
    ]
    assert images.groupby("patient_id")["official_split"].first().tolist() == [
        "train",
        "train",
        "test",
        "train",
    ]
    assert images.groupby("patient_id")["density"].first().tolist() == [2, 3, 2, 3]
    assert set(images["view"]) == {"CC", "MLO"}
    assert catalog.left_out == {}


def test_findings(tmp_path: Path) -> None:
    vindr_mammo(tmp_path)
    catalog = read_vindr_mammo(root=tmp_path)
    lesions, images = catalog.lesions, catalog.images.set_index("image_id")
    assert len(lesions) == 4
    assert lesions[["x_min", "y_min", "x_max", "y_max"]].values.tolist() == [
        *[[0, 100.25, 2800, 900.5], [10, 20, 30, 40]] * 2,  # cut at the border of the image
    ]
    assert lesions["abnormality_type"].tolist() == ["both", "mass"] * 2
    assert lesions["pathology"].tolist() == ["MALIGNANT", "BENIGN"] * 2
    assert images.loc[lesions["image_id"].unique(), "abnormality_type"].tolist() == ["both", "both"]
    # a malignant breast has a view without a finding
    assert (images["pathology"] == "MALIGNANT").sum() == 4


def test_category_3_left_out(tmp_path: Path) -> None:
    vindr_mammo(tmp_path)
    catalog = read_vindr_mammo(root=tmp_path, birads_3=Birads3.leave_out)
    assert (len(catalog.images), catalog.left_out) == (13, {"BI-RADS 3": 4})
    assert 3 not in set(catalog.images["assessment"])
