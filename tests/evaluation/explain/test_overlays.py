"""Overlays: boxes are in the right place, heat is visible, files are small; and the gallery."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo.evaluation.explain.overlays import (
    BOX_HEAD_COLOUR,
    CROP_COLOUR,
    PREDICTED_COLOUR,
    TRUE_COLOUR,
    DrawnView,
    choose_gallery,
    draw_overlay,
    draw_views,
    save_picture,
)

NONE = np.full((1, 4), np.nan)


def mammogram(dtype: type = np.uint8) -> np.ndarray:
    rows, columns = np.mgrid[:96, :64]
    breast = ((rows - 48) / 40) ** 2 + (columns / 50) ** 2 < 1
    return np.where(breast, np.iinfo(dtype).max // 2, 0).astype(dtype)


def places(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.argwhere((picture == colour).all(axis=2))


def test_red_stands_where_the_box_is() -> None:
    cold = np.zeros((96, 64), np.float32)
    picture = draw_overlay(mammogram(), cold, np.array([[10, 20, 30, 50.0], *NONE]), NONE, "")
    red = places(picture, TRUE_COLOUR)
    assert red.min(axis=0).tolist() == [20, 10]
    assert red.max(axis=0).tolist() == [49, 29]
    assert len(red) == 2 * 30 + 2 * 20 - 4
    assert not places(picture, PREDICTED_COLOUR).size


def test_predicted_boxes_are_dashed() -> None:
    cold = np.zeros((96, 64), np.float32)
    picture = draw_overlay(mammogram(), cold, NONE, np.array([[10, 20, 50, 80.0]]), "")
    blue = places(picture, PREDICTED_COLOUR)
    assert blue.min(axis=0).tolist() == [20, 10]
    assert 0.3 < len(blue) / (2 * 60 + 2 * 40 - 4) < 0.7
    assert not places(picture, TRUE_COLOUR).size


def test_the_box_head_has_a_colour_of_its_own() -> None:
    cold = np.zeros((96, 64), np.float32)
    told = np.array([10, 20, 50, 80.0])
    picture = draw_overlay(mammogram(), cold, NONE, np.zeros((0, 4)), "", box_head=told)
    assert places(picture, BOX_HEAD_COLOUR).min(axis=0).tolist() == [20, 10]
    assert not places(picture, PREDICTED_COLOUR).size
    assert not places(draw_overlay(mammogram(), cold, NONE, told[None], ""), BOX_HEAD_COLOUR).size


def test_boxes_grow_with_the_picture() -> None:
    cold = np.zeros((96, 64), np.float32)
    picture = draw_overlay(mammogram(), cold, np.array([[10, 20, 30, 50.0]]), NONE, "", width=256)
    assert picture.shape == (384, 256, 3)
    red = places(picture, TRUE_COLOUR)
    np.testing.assert_allclose(red.min(axis=0), [80, 40], atol=2)
    np.testing.assert_allclose(red.max(axis=0), [199, 119], atol=2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_without_heat_it_is_grey_and_hot_it_is_coloured(dtype: type) -> None:
    image, heat = mammogram(dtype), np.zeros((96, 64), np.float32)
    grey = draw_overlay(image, heat, NONE, NONE, "")
    assert (grey == grey[..., :1]).all()
    assert grey[48, 20, 0] == 255
    assert grey[0, 60, 0] == 0
    heat[40:60, 10:30] = 1
    warm = draw_overlay(image, heat, NONE, NONE, "")
    differing = (warm != grey).any(axis=2)
    np.testing.assert_array_equal(differing, heat > 0)
    red, green, blue = warm[50, 20].astype(int)
    assert min(red, green) > blue + 50  # yellow


def test_the_image_is_left_as_it_was() -> None:
    image, heat = mammogram(), np.ones((96, 64), np.float32)
    draw_overlay(image, heat, np.array([[1, 1, 9, 9.0]]), NONE, "x")
    np.testing.assert_array_equal(image, mammogram())
    assert (heat == 1).all()


def test_an_image_of_nothing_is_black() -> None:
    picture = draw_overlay(np.zeros((40, 30), np.uint16), np.zeros((40, 30), np.float32), NONE, NONE, "")
    assert picture.max() == 0


def test_the_caption_stands_below_and_wraps() -> None:
    heat = np.zeros((96, 64), np.float32)
    plain, short, long = (
        draw_overlay(mammogram(), heat, NONE, NONE, text, width=300)
        for text in ("", "P_00016 malignant", "p ≥ 0.5, " * 20)
    )
    assert len(plain) == 450
    assert len(plain) < len(short) < len(long)
    below = long[450:]
    assert below.max() == 255
    assert (below[:, :3] == 255).all()  # the margin
    assert (below[:, -3:] == 255).all()
    assert (below < 100).any()
    two = draw_overlay(mammogram(), heat, NONE, NONE, "a\nb", width=300)
    assert len(short) < len(two)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_picture_keeps_to_its_bytes(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 500, 3)).astype(np.uint8)
    path = tmp_path / f"noise{suffix}"
    save_picture(path, noise)
    assert path.stat().st_size <= 60_000
    easy = np.full((600, 500, 3), (200, 30, 40), np.uint8)
    save_picture(path, easy, width=250)
    back = cv2.imread(str(path))[..., ::-1]
    assert back.shape == (300, 250, 3)
    np.testing.assert_allclose(back[150, 100], (200, 30, 40), atol=4)
    save_picture(path, easy, width=900)
    assert cv2.imread(str(path)).shape == (600, 500, 3)


def test_the_gallery_by_hand() -> None:
    labels = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    scores = np.array([0.9, 0.8, 0.2, 0.45, 0.95, 0.55, 0.1, 0.3])
    assert choose_gallery(labels, scores, 0.5, 5) == [
        (0, "surest true positive"),
        (6, "surest true negative"),
        (4, "surest false positive"),
        (2, "surest false negative"),
        (3, "nearest to the threshold"),
    ]
    assert [index for index, _ in choose_gallery(labels, scores, 0.5, 2)] == [0, 6]
    assert [index for index, _ in choose_gallery(labels, scores, 0.5, 7)] == [0, 1, 6, 7, 4, 2, 3]


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), max_size=20), st.integers(0, 25))
@settings(max_examples=60)
def test_the_gallery_shows_no_image_twice(images: list[tuple[int, float]], count: int) -> None:
    labels = np.array([label for label, _ in images], np.int64)
    scores = np.array([score for _, score in images], np.float64)
    chosen = choose_gallery(labels, scores, 0.5, count)
    assert len({index for index, _ in chosen}) == len(chosen) == min(count, len(images))
    for index, reason in chosen:
        if "true" in reason or "false" in reason:
            assert ("true" in reason) == (labels[index] == (scores[index] >= 0.5))
            assert ("positive" in reason) == (scores[index] >= 0.5)


def test_crops_have_their_box_and_their_weight_in_the_corner() -> None:
    cold = np.zeros((96, 64), np.float32)
    crops = np.array([[8, 16, 40, 48.0], [np.nan] * 4])
    drawn = DrawnView(mammogram(), cold, NONE, NONE, crops=crops, crop_attention=np.array([0.75, 0]))
    without = draw_views([drawn._replace(crops=None)], "", width=64)
    picture = draw_views([drawn], "", width=64)
    assert not places(without, CROP_COLOUR).size
    orange = places(picture, CROP_COLOUR)
    assert orange.min(axis=0).tolist() == [16, 8]
    assert orange.max(axis=0).tolist() == [47, 39]
    changed = np.argwhere((picture != without).any(axis=2))
    inner = changed[(changed[:, 0] > 17) & (changed[:, 0] < 30) & (changed[:, 1] > 9) & (changed[:, 1] < 38)]
    assert len(inner) > 10  # the number
