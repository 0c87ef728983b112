"""Overlays: boxes are in the right place, heat is visible, files are small."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mammo.evaluation.explain.overlays import (
    BOX_HEAD_COLOUR,
    CROP_COLOUR,
    PREDICTED_COLOUR,
    TRUE_COLOUR,
    DrawnView,
    draw_overlay,
    draw_views,
    save_picture,
    within_breast,
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


def test_a_right_breast_is_drawn_mirrored_with_its_boxes_and_its_marker() -> None:
    heat = np.zeros((96, 64), np.float32)
    heat[40:60, 10:30] = 1
    box, hot = np.array([[10, 20, 30, 50.0]]), np.array([[4, 60, 24, 80.0]])
    prepared = DrawnView(mammogram(), heat, box, hot)
    hung = draw_views([prepared._replace(mirror=True)], "", width=64)
    np.testing.assert_array_equal(
        places(hung, TRUE_COLOUR)[:, 1].min(), 64 - 30
    )  # the right edge of the box is the left one now
    turned = draw_views([prepared._replace(true_boxes=NONE, predicted_boxes=NONE)], "", width=64)[:, ::-1]
    plain = prepared._replace(mirror=True, true_boxes=NONE, predicted_boxes=NONE)
    np.testing.assert_array_equal(draw_views([plain], "", width=64), turned)
    marked = draw_views([plain._replace(marker="R CC")], "", width=64)
    changed = np.argwhere((marked != turned).any(axis=2))
    assert changed[:, 0].max() < 20
    assert changed[:, 1].max() < 40  # away from the chest wall, which is at the right
    other = draw_views([plain._replace(marker="L CC", mirror=False)], "", width=64)
    assert np.argwhere((other != turned[:, ::-1]).any(axis=2))[:, 1].min() > 24


def test_no_box_crosses_the_marker() -> None:
    hot = np.array([[6, 4, 60, 90.0], [12, 2, 14, 8.0]])
    view = DrawnView(mammogram(), np.zeros((96, 64), np.float32), NONE, hot, marker="R CC", mirror=True)
    marked = draw_views([view], "", width=640)
    written = draw_views([view._replace(predicted_boxes=NONE)], "", width=640)
    letters = np.argwhere(
        (written != draw_views([view._replace(predicted_boxes=NONE, marker="")], "", width=640)).any(2)
    )
    (top, left), (bottom, right) = letters.min(axis=0), letters.max(axis=0)
    np.testing.assert_array_equal(
        marked[top : bottom + 1, left : right + 1], written[top : bottom + 1, left : right + 1]
    )
    assert (marked != written).any()  # elsewhere the boxes are drawn


def test_heat_outside_the_breast_is_not_drawn() -> None:
    heat = np.ones((96, 64), np.float32)
    kept = within_breast(heat, mammogram())
    assert kept[48, 20] == 1
    assert kept[2, 60] == 0
    assert (heat == 1).all()


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
