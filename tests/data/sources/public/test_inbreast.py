"""INbreast on a made tree."""

from pathlib import Path

import pytest
from helpers.public_sets import inbreast

from mammo.config.choices import Birads3
from mammo.data.sources.public.inbreast import read_inbreast
from mammo.errors import DataError


@pytest.mark.parametrize("below", ["", "AllDICOMs"])
def test_images(below: str, tmp_path: Path) -> None:
    inbreast(tmp_path)
    catalog = read_inbreast(root=tmp_path / below)
    images = catalog.images.set_index("image_id")
    assert images.index.tolist() == ["20586908", "20586934", "20586960", "20587054", "20587148"]
    assert images["patient_id"].tolist() == ["6c613a14b80a8591"] * 3 + [
        "8d0b9620c53c0268",
        "036aff49b8ac84f0",
    ]
    assert images["pathology"].tolist() == ["MALIGNANT", "MALIGNANT", "BENIGN", "BENIGN", "MALIGNANT"]
    assert images["laterality"].tolist() == ["RIGHT", "RIGHT", "LEFT", "LEFT", "RIGHT"]
    assert images["view"].tolist() == ["CC", "MLO", "CC", "FB", "CC"]
    assert images["density"].fillna(0).tolist() == [3, 3, 0, 1, 4]
    assert images["assessment"].tolist() == [4, 5, 1, 2, 6]
    assert images["study_date"].tolist() == ["200801"] * 3 + ["200901", "201001"]
    assert images["path"].notna().all()
    assert catalog.left_out == {"BI-RADS 3": 1, "not in the table": 1}


def test_outlines_are_boxes(tmp_path: Path) -> None:
    inbreast(tmp_path)
    catalog = read_inbreast(root=tmp_path)
    lesions = catalog.lesions.set_index("lesion_id")
    assert lesions.index.tolist() == ["20586908_1", "20586934_1", "20586934_2", "20587054_1"]
    assert lesions.loc["20586908_1", ["x_min", "y_min", "x_max", "y_max"]].tolist() == [10, 20, 31, 61]
    assert lesions["abnormality_type"].fillna("").tolist() == ["mass", "calcification", "mass", ""]
    assert lesions["pathology"].tolist() == ["MALIGNANT"] * 3 + ["BENIGN"]
    types = catalog.images.set_index("image_id")["abnormality_type"].fillna("")
    assert types.tolist() == ["mass", "both", "", "", ""]


@pytest.mark.parametrize(("choice", "label"), [("benign", "BENIGN"), ("malignant", "MALIGNANT")])
def test_category_3_as_chosen(choice: str, label: str, tmp_path: Path) -> None:
    inbreast(tmp_path)
    catalog = read_inbreast(root=tmp_path, birads_3=Birads3(choice))
    assert catalog.images.set_index("image_id").loc["20587080", "pathology"] == label
    assert catalog.left_out == {"not in the table": 1}


def test_a_damaged_file_of_outlines_is_told(tmp_path: Path) -> None:
    inbreast(tmp_path)
    for content in ("", "<plist><dict></dict></plist>", "<x/>"):
        (tmp_path / "AllXML" / "20586908.xml").write_text(content)
        with pytest.raises(
            DataError, match=r"20586908.xml: is no file of outlines of INbreast .*; restore or"
        ):
            read_inbreast(root=tmp_path)


def test_a_missing_file_has_no_path(tmp_path: Path) -> None:
    inbreast(tmp_path)
    next((tmp_path / "AllDICOMs").glob("20586960*")).unlink()
    images = read_inbreast(root=tmp_path).images.set_index("image_id")
    assert images["path"].isna().tolist() == [False, False, True, False, False]


def test_the_table_in_the_old_format_of_excel_is_refused_with_the_remedy(tmp_path: Path) -> None:
    inbreast(tmp_path)
    (tmp_path / "INbreast.csv").unlink()
    (tmp_path / "INbreast.xls").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(600))
    with pytest.raises(
        DataError, match=r"INbreast.xls: is an Excel file of the format before 2007.* as .xlsx or"
    ):
        read_inbreast(root=tmp_path)
