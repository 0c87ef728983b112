"""The breast is found whatever surrounds it, and boxes are mapped back to their original place."""

import math
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mammo.data.images.breast import Box, Transform, breast_mask, plan
from mammo.data.images.dicom import read_mammogram

HEIGHT, WIDTH = 600, 400


def mammogram(
    *, right: bool = False, dtype: type = np.uint16
) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """A noisy dark film with a half ellipse at its left edge, and the mask of the ellipse."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    inside = ((y - 320) / 180) ** 2 + (x / 210) ** 2 < 1
    levels = np.where(inside, 0.35, 0.02) + rng.normal(0, 0.01, inside.shape)
    pixels = (np.clip(levels, 0, 1) * np.iinfo(dtype).max).astype(dtype)
    return (pixels[:, ::-1].copy(), inside[:, ::-1]) if right else (pixels, inside)


def overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


def spoil(pixels: NDArray[np.uint16], how: str) -> None:
    white = np.iinfo(pixels.dtype).max
    if how == "label":
        label = np.zeros(pixels.shape, np.uint8)
        cv2.putText(label, "R MLO", (250, 60), cv2.FONT_HERSHEY_SIMPLEX, 1.2, 1, 6)
        pixels[label > 0] = white
    elif how == "borders":
        pixels[:8] = pixels[-10:] = white
        pixels[:, :5] = pixels[:, -12:] = white
    elif how == "dark_edge":
        pixels[:, :6] = 0
    elif how == "strip":
        pixels[40:560, 340:352] = white
    elif how == "bright_corner":
        cv2.fillPoly(pixels, [np.array([[399, 0], [399, 60], [370, 0]])], white)


@pytest.mark.parametrize("how", ["", "label", "borders", "dark_edge", "strip", "bright_corner"])
@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_breast_is_found_among_artefacts(how: str, right: bool, dtype: type) -> None:
    pixels, inside = mammogram(dtype=dtype)
    spoil(pixels, how)
    if right:
        pixels, inside = pixels[:, ::-1].copy(), inside[:, ::-1]
    assert overlap(breast_mask(pixels), inside) > 0.93
    transform = plan(pixels, height=300, width=200, crop="breast", aspect="keep")
    assert transform.flip is right
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    x_min, y_min, x_max, y_max = transform.apply_box((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    assert min(x_min, y_min) >= 0
    assert x_max <= 200
    assert y_max <= 300
    cropped = (transform.right - transform.left) * (transform.bottom - transform.top)
    assert cropped < 0.6 * HEIGHT * WIDTH


def test_a_dim_breast_beside_a_white_bar_is_found() -> None:
    pixels, inside = mammogram()
    pixels //= 4
    pixels[:, 360:] = 65535
    pixels[:, 340:360] = 0
    mask = breast_mask(pixels)
    assert overlap(mask, inside) > 0.9


def test_where_no_breast_stands_out_all_is_kept() -> None:
    pixels = np.zeros((100, 80), np.uint16)
    pixels[50, 40] = 9
    transform = plan(pixels, height=50, width=40, crop="breast", aspect="keep")
    assert breast_mask(pixels).all()
    assert (transform.left, transform.top, transform.right, transform.bottom) == (0, 0, 80, 100)


def test_the_chest_wall_comes_to_the_left_edge_and_padding_is_black() -> None:
    pixels, _ = mammogram(right=True)
    transform = plan(pixels, height=300, width=300, crop="breast", aspect="keep")
    image = transform.apply_image(pixels)
    assert image.shape == (300, 300)
    assert image.dtype == np.uint16
    assert image[150, :100].mean() > 0.3 * 65535
    assert not image[:, -60:].any()
    height, width = 300 / transform.scale_y, 300 / transform.scale_x
    assert height == pytest.approx(width, rel=0.01)


def test_crop_none_and_stretch_fill_the_frame() -> None:
    pixels, _ = mammogram()
    transform = plan(pixels, height=150, width=50, crop="none", aspect="stretch")
    assert (transform.left, transform.top, transform.right, transform.bottom) == (0, 0, WIDTH, HEIGHT)
    blocks = pixels.reshape(150, 4, 50, 8).mean((1, 3))
    np.testing.assert_allclose(transform.apply_image(pixels), blocks, atol=1)


def transforms() -> st.SearchStrategy[Transform]:
    def build(
        file_height: int, file_width: int, cut: tuple[float, float, float, float], flip: bool, scale: float
    ) -> Transform:
        left, top = int(cut[0] * file_width / 2), int(cut[1] * file_height / 2)
        right, bottom = file_width - int(cut[2] * file_width / 3), file_height - int(cut[3] * file_height / 3)
        columns, rows = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
        scales = columns / (right - left), rows / (bottom - top)
        return Transform(
            file_height, file_width, flip, left, top, right, bottom, *scales, rows + 3, columns + 7
        )

    share = st.floats(0, 1)
    cuts = st.tuples(share, share, share, share)
    sides = st.integers(20, 400)
    return st.builds(build, sides, sides, cuts, st.booleans(), st.floats(0.1, 2.5))


@given(transforms(), st.lists(st.floats(-50, 6000), min_size=4, max_size=4))
def test_a_box_comes_back(transform: Transform, sides: list[float]) -> None:
    box: Box = (min(sides[:2]), min(sides[2:]), max(sides[:2]), max(sides[2:]))
    assert transform.invert_box(transform.apply_box(box)) == pytest.approx(box, abs=1e-6)


@given(transforms(), st.data())
def test_a_mask_and_its_box_agree(transform: Transform, data: st.DataObject) -> None:
    low, high = transform.left, transform.right
    if transform.flip:
        low, high = transform.file_width - high, transform.file_width - low
    x_min = data.draw(st.integers(low, high - 1))
    x_max = data.draw(st.integers(x_min + 1, high))
    y_min = data.draw(st.integers(transform.top, transform.bottom - 1))
    y_max = data.draw(st.integers(y_min + 1, transform.bottom))
    mask = np.zeros((transform.file_height, transform.file_width), bool)
    mask[y_min:y_max, x_min:x_max] = True
    prepared = transform.apply_mask(mask)
    assert prepared.shape == (transform.height, transform.width)
    rows, columns = np.flatnonzero(prepared.any(1)), np.flatnonzero(prepared.any(0))
    found = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    assert found == pytest.approx(transform.apply_box((x_min, y_min, x_max, y_max)), abs=1)


@given(transforms(), st.integers(0, 2**32 - 1), st.floats(0.001, 0.2))
def test_a_prepared_mask_is_true_where_any_part_was(transform: Transform, seed: int, share: float) -> None:
    shape = (transform.file_height, transform.file_width)
    mask = np.random.default_rng(seed).random(shape) < share
    assume(transform.scale_x <= 1 and transform.scale_y <= 1)
    content = mask[:, ::-1] if transform.flip else mask
    content = content[transform.top : transform.bottom, transform.left : transform.right]
    expected = np.zeros((transform.height, transform.width), bool)
    for y, x in zip(*np.nonzero(content), strict=True):
        # the output cells that a pixel overlaps, up to rounding
        rows = range(int(y * transform.scale_y + 1e-6), math.ceil((y + 1) * transform.scale_y - 1e-6))
        columns = range(int(x * transform.scale_x + 1e-6), math.ceil((x + 1) * transform.scale_x - 1e-6))
        expected[rows.start : rows.stop, columns.start : columns.stop] = True
    np.testing.assert_array_equal(transform.apply_mask(mask), expected)


def test_real_mammograms_hang_left_after_preparation(real_dicoms: Path) -> None:
    for path in sorted(real_dicoms.rglob("*.dcm"))[::3]:
        mammogram = read_mammogram(path)
        transform = plan(mammogram.pixels, height=288, width=224, crop="breast", aspect="keep")
        assert transform.flip is (mammogram.laterality == "RIGHT")
        image = transform.apply_image(mammogram.pixels)
        assert image[:, :20].mean() > 3 * image[:, 110:].mean()


@pytest.fixture(scope="session")
def lesions(cbis_ddsm_files: Path) -> pd.DataFrame:
    folder = cbis_ddsm_files / "mass800"
    if not folder.is_dir():
        pytest.skip(f"no mass800/ in {cbis_ddsm_files}")
    table = pd.read_csv(folder / "lesions.csv")
    table["path"] = [folder / path for path in table["image_path"]]
    return table


def test_no_lesion_of_real_mammograms_is_cut(lesions: pd.DataFrame) -> None:
    """None of all 1,318 lesions is cut; this test takes every tenth image."""
    areas = []
    for path, boxes in list(lesions.groupby("path"))[::10]:
        pixels = read_mammogram(Path(str(path))).pixels
        transform = plan(pixels, height=1152, width=896, crop="breast", aspect="stretch")
        image = transform.apply_image(pixels)
        assert image[:, :300].mean() > 1.2 * image[:, -300:].mean(), path
        areas.append((transform.right - transform.left) * (transform.bottom - transform.top) / pixels.size)
        for row in boxes.itertuples():
            x_min, y_min, x_max, y_max = transform.apply_box((row.x_min, row.y_min, row.x_max, row.y_max))
            assert min(x_min, y_min) >= 0, path
            assert x_max <= 896, path
            assert y_max <= 1152, path
    assert np.median(areas) < 0.72
