from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mammo.data.sources.cbis_ddsm import read_cbis_ddsm
from mammo.data.tasks import CLASSES, labels
from mammo.errors import DataError

TASK = "lesion_type_pathology"


def table(columns: list[str], *rows: tuple[str | None, ...]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=columns, dtype="string")


def images(*rows: tuple[str | None, ...]) -> pd.DataFrame:
    return table(["image_id", "abnormality_type", "pathology"], *rows)


def lesions(*rows: tuple[str | None, ...]) -> pd.DataFrame:
    return table(["image_id", "abnormality_type", "pathology"], *rows)


def names(*arguments: pd.DataFrame) -> list[str]:
    return [CLASSES[TASK][i] for i in labels(*arguments, task=TASK)]


def test_pathology() -> None:
    found = labels(images(("a", None, "MALIGNANT"), ("b", "mass", "BENIGN")), lesions(), task="pathology")
    assert found.tolist() == [1, 0]
    assert found.dtype == np.int64


def test_type_and_pathology() -> None:
    kinds = [(kind, word) for kind in ("calcification", "mass") for word in ("BENIGN", "MALIGNANT")]
    rows = images(*((str(i), *row) for i, row in enumerate(kinds)))
    assert labels(rows, lesions(), task=TASK).tolist() == [0, 1, 2, 3]
    assert names(rows, lesions()) == [f"{word}_{kind.upper()}" for kind, word in kinds]


@pytest.mark.parametrize(
    ("pathology", "found", "expected"),
    [
        ("MALIGNANT", [("mass", "BENIGN"), ("calcification", "MALIGNANT")], "MALIGNANT_CALCIFICATION"),
        ("MALIGNANT", [("mass", "MALIGNANT"), ("calcification", "BENIGN")], "MALIGNANT_MASS"),
        ("MALIGNANT", [("calcification", "MALIGNANT"), ("mass", "MALIGNANT")], "MALIGNANT_MASS"),
        ("BENIGN", [("calcification", "BENIGN"), ("mass", "BENIGN")], "BENIGN_MASS"),
        ("BENIGN", [("calcification", "BENIGN"), (None, None)], "BENIGN_CALCIFICATION"),
        ("BENIGN", [], "BENIGN_MASS"),
    ],
)
def test_both_types(pathology: str, found: list[tuple[str | None, str | None]], expected: str) -> None:
    rows = images(("other", "mass", "BENIGN"), ("a", "both", pathology))
    elsewhere = [("other", "mass", "BENIGN"), ("unknown", "calcification", pathology)]
    assert names(rows, lesions(*elsewhere, *(("a", *row) for row in found))) == ["BENIGN_MASS", expected]


def test_order_and_index_of_the_images_do_not_matter() -> None:
    rows = images(("a", "both", "BENIGN"), ("b", "both", "BENIGN"), ("c", "calcification", "MALIGNANT"))
    found = lesions(("b", "calcification", "BENIGN"), ("a", "mass", "BENIGN"))
    turned = rows.iloc[::-1].set_index("image_id", drop=False)
    assert names(rows, found) == names(turned, found)[::-1]
    assert labels(rows.iloc[:0], found, task=TASK).tolist() == []


def test_image_of_no_type_is_refused() -> None:
    rows = images(("a", "mass", "BENIGN"), ("b", None, "BENIGN"), ("c", None, "BENIGN"))
    with pytest.raises(
        DataError, match=r"2 of 3 images .* abnormality_type.* 'b'; .* task=pathology"
    ) as error:
        labels(rows, lesions(), task=TASK)
    assert "\n" not in str(error.value)


def test_official_case_files(cbis_ddsm_files: Path) -> None:
    catalog = read_cbis_ddsm(root=cbis_ddsm_files)
    found = labels(catalog.images, catalog.lesions, task=TASK)
    assert np.array_equal(found % 2, labels(catalog.images, catalog.lesions, task="pathology"))
    both = (catalog.images["abnormality_type"] == "both").to_numpy()
    assert np.bincount(found[both], minlength=4).tolist() == [0, 7, 17, 18]
