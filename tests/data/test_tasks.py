from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mammo.data.sources.cbis_ddsm import read_cbis_ddsm
from mammo.data.tasks import Task, labels, patch_labels, unlabelled_sentence
from mammo.errors import DataError

PATHOLOGY, TASK = Task.shipped("pathology"), Task.shipped("lesion_type_pathology")
GRADE = Task("grade", "Tumour grade", {"LOW": ("1", "2"), "HIGH": ("3",)}, unlabelled="leave_out")


def table(columns: list[str], *rows: tuple[str | None, ...]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=columns, dtype="string")


def images(*rows: tuple[str | None, ...]) -> pd.DataFrame:
    return table(["image_id", "abnormality_type", "pathology"], *rows)


def lesions(*rows: tuple[str | None, ...]) -> pd.DataFrame:
    return table(["image_id", "abnormality_type", "pathology"], *rows)


def names(*arguments: pd.DataFrame) -> list[str]:
    return [TASK.classes[i] for i in labels(*arguments, task=TASK)]


def test_pathology() -> None:
    found = labels(images(("a", None, "MALIGNANT"), ("b", "mass", "BENIGN")), lesions(), task=PATHOLOGY)
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


def test_an_image_of_no_class_is_refused_by_a_task_that_says_so() -> None:
    rows = images(("a", "mass", "BENIGN"), ("b", None, "BENIGN"), ("c", None, "BENIGN"))
    with pytest.raises(
        DataError,
        match=r"2 of 3 images are in no class \(2 without lesion_type_pathology\), the first is 'b'",
    ) as error:
        labels(rows, lesions(), task=TASK)
    assert "\n" not in str(error.value)


def test_images_of_no_class_are_counted_with_their_values() -> None:
    rows = table(
        ["image_id", "tumour_grade"], *zip("abcdefg", ["1", "3", None, "2", "4", "4", "x"], strict=True)
    )
    found = labels(rows, lesions(), task=GRADE)
    assert found.tolist() == [0, 1, -1, 0, -1, -1, -1]
    assert unlabelled_sentence(rows, lesions(), found, task=GRADE) == (
        "task=grade: 4 of 7 images are in no class (1 without Tumour grade, 2 with Tumour grade '4', 1 with "
        "Tumour grade 'x')"
    )
    assert unlabelled_sentence(rows[found >= 0], lesions(), found[found >= 0], task=GRADE) == ""


def test_a_column_that_the_data_lack_is_refused() -> None:
    rows = images(("a", "mass", "BENIGN"))
    with pytest.raises(DataError, match=r"column=Tumour grade: the data have no such column; choose from"):
        labels(rows, lesions(), task=GRADE)
    with pytest.raises(DataError, match=r"column=Tumour grade: is missing for all 1 images"):
        labels(rows.assign(tumour_grade=pd.NA), lesions(), task=GRADE)


def test_the_node_of_an_older_run_has_only_a_name() -> None:
    assert Task.of({"name": "lesion_type_pathology"}) == TASK
    assert TASK.classes == (
        "BENIGN_CALCIFICATION",
        "MALIGNANT_CALCIFICATION",
        "BENIGN_MASS",
        "MALIGNANT_MASS",
    )
    assert [Task.shipped(name).positives for name in ("pathology", "density")] == [[1], []]


def test_patches_have_the_class_of_their_lesion() -> None:
    two, five = Task.shipped("patch_pathology"), Task.shipped("patch_lesion_type_pathology")
    assert (two.background, two.positives) == ("BACKGROUND", [2])
    assert (five.background, five.positives, len(five.classes)) == ("BACKGROUND", [2, 4], 5)
    kinds = [(kind, word) for kind in ("calcification", "mass") for word in ("BENIGN", "MALIGNANT")]
    found = lesions(*(("a", *row) for row in kinds))
    assert patch_labels(found, task=two).tolist() == [1, 2, 1, 2]
    assert patch_labels(found, task=five).tolist() == [1, 2, 3, 4]
    both = Task("lesion", "pathology", {"NONE": ("none",), "LESION": ("BENIGN", "MALIGNANT")})
    assert patch_labels(found, task=both).tolist() == [1, 1, 1, 1]
    assert Task.shipped("pathology").background is None


def test_a_column_that_only_the_lesions_have_is_for_patches() -> None:
    values = {"NONE": ("no",), "SMOOTH": ("1", "2"), "ROUGH": ("3",)}
    task = Task("margins", "Margin grade", values, unlabelled="leave_out", background="NONE")
    rows = images(("a", None, None), ("b", None, None), ("c", None, None), ("d", None, None))
    found = table(["image_id", "margin_grade"], ("a", "3"), ("c", "9"), ("c", "2"), ("c", "3"), ("d", "9"))
    assert patch_labels(found, task=task).tolist() == [2, -1, 1, 2, -1]
    assert labels(rows, found, task=task).tolist() == [2, 0, 1, -1]
    with pytest.raises(DataError, match=r"task.column=Margin grade: the data have no such column"):
        labels(rows, found, task=replace(task, background=None))


def test_a_lesion_of_no_class_is_refused_by_a_task_that_says_so() -> None:
    task = Task.shipped("patch_pathology")
    found = lesions(("a", "mass", "BENIGN"), ("b", "mass", None)).assign(lesion_id=["a1", "b1"])
    with pytest.raises(
        DataError, match=r"1 of 2 lesions are in no class by their pathology, the first is 'b1'"
    ) as error:
        patch_labels(found, task=task)
    assert "\n" not in str(error.value)
    assert patch_labels(found, task=replace(task, unlabelled="leave_out")).tolist() == [1, -1]
    with pytest.raises(DataError, match=r"task.column=density: the lesions have no such column; choose from"):
        patch_labels(found, task=Task.shipped("density"))


@pytest.mark.parametrize(
    ("task", "train", "test", "outside"),
    [
        ("pathology", [1323, 1097], [379, 262], ""),
        ("lesion_type_pathology", [699, 495, 624, 602], [165, 117, 214, 145], ""),
        ("density", [354, 932, 734, 400], [65, 260, 201, 113], "2 of 3061 images are in no class (2 without"),
        ("abnormality_type", [1193, 1189], [357, 280], "42 of 3061 images are in no class (42 with"),
        (
            "birads",
            [287, 319, 1195, 429],
            [62, 95, 333, 105],
            "236 of 3061 images are in no class (236 without",
        ),
    ],
)
def test_official_case_files(
    cbis_ddsm_files: Path, task: str, train: list[int], test: list[int], outside: str
) -> None:
    catalog, shipped = read_cbis_ddsm(root=cbis_ddsm_files), Task.shipped(task)
    found = labels(catalog.images, catalog.lesions, task=shipped)
    for side, counts in (("train", train), ("test", test)):
        held = found[(catalog.images["official_split"] == side).to_numpy()]
        assert np.bincount(held[held >= 0], minlength=len(shipped.classes)).tolist() == counts
    assert outside in unlabelled_sentence(catalog.images, catalog.lesions, found, task=shipped)


def test_both_types_of_the_official_case_files(cbis_ddsm_files: Path) -> None:
    catalog = read_cbis_ddsm(root=cbis_ddsm_files)
    found = labels(catalog.images, catalog.lesions, task=TASK)
    assert np.array_equal(found % 2, labels(catalog.images, catalog.lesions, task=PATHOLOGY))
    both = (catalog.images["abnormality_type"] == "both").to_numpy()
    assert np.bincount(found[both], minlength=4).tolist() == [0, 7, 17, 18]
