"""Which lesions of an image are drawn, and which count as malignant."""

from typing import Any

import numpy as np
import pandas as pd

from mammo.evaluation.explain.drawn_lesions import DrawnLesions, drawn_lesions

BOX = {"x_min": 1.0, "y_min": 2.0, "x_max": 3.0, "y_max": 4.0}
COLUMNS = ["image_id", "pathology", *BOX, "mask_value"]
NUMBERS = {**dict.fromkeys(BOX, "Float64"), "mask_value": "Int64"}


def of_image(pathology: str, *lesions: dict[str, Any]) -> DrawnLesions:
    """Drawn lesions of image `a`; image `b` has one lesion too."""
    rows = [{"image_id": "a", **lesion} for lesion in lesions]
    table = pd.DataFrame([*rows, {"image_id": "b", **BOX}], columns=COLUMNS).astype(NUMBERS)
    images = pd.DataFrame({"image_id": ["b", "a"], "pathology": ["BENIGN", pathology]})
    return drawn_lesions(table, images)[1]


def test_a_benign_lesion_of_a_malignant_image_is_not_malignant() -> None:
    found = of_image("MALIGNANT", {**BOX, "pathology": "BENIGN"}, {**BOX, "pathology": "MALIGNANT"})
    assert found.group("malignant") is not None
    assert np.asarray(found.group("malignant")).tolist() == [False, True]
    assert np.asarray(found.group("all")).tolist() == [True, True]


def test_a_lesion_without_a_pathology_has_that_of_its_image_where_it_is_certain() -> None:
    assert np.asarray(of_image("MALIGNANT", BOX).group("malignant")).tolist() == [True]
    assert np.asarray(of_image("BENIGN", BOX, BOX).group("malignant")).tolist() == [False, False]
    unknown = of_image("MALIGNANT", BOX, {**BOX, "pathology": "MALIGNANT"})
    assert unknown.group("malignant") is None
    assert np.asarray(unknown.group("all")).tolist() == [True, True]


def test_an_image_is_left_out_unless_all_its_lesions_are_drawn() -> None:
    for undrawn in (of_image("MALIGNANT"), of_image("MALIGNANT", {}), of_image("BENIGN", BOX, {})):
        assert undrawn.group("all") is undrawn.group("malignant") is None
    assert of_image("BENIGN", {"mask_value": 1}, BOX).group("all") is not None


def test_regions_are_those_of_the_mask_or_of_the_box() -> None:
    mask = np.zeros((6, 6), np.uint8)
    mask[5, 1:4] = 2
    found = of_image("BENIGN", {**BOX, "mask_value": 2}, BOX, {"mask_value": 7})
    regions = found.regions((6, 6), mask)
    assert (regions[0] == (mask == 2)).all()
    assert np.argwhere(regions[1]).tolist() == [[2, 1], [2, 2], [3, 1], [3, 2]]
    assert not regions[2].any()
