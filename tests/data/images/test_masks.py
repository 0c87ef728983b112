"""Masks are distinguished from crops by their pixels, whatever their names, order, depth and size."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mammo.data.images.masks import find_mask, read_mask
from mammo.errors import DataError

SHAPE = (120, 80)
LESION = np.zeros(SHAPE, bool)
LESION[30:50, 20:35] = True


@pytest.fixture
def crop(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 65536, (25, 20), dtype=np.uint16)
    return write(tmp_path / "crop.png", pixels)


def write(path: Path, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> Path:
    cv2.imwrite(str(path), pixels)
    return path


def scaled(shape: tuple[int, int], value: int = 255) -> NDArray[np.uint8]:
    return cv2.resize(LESION.astype(np.uint8) * value, shape[::-1], interpolation=cv2.INTER_NEAREST)


@pytest.mark.parametrize(
    "pixels", [LESION.astype(np.uint8) * 255, LESION.astype(np.uint16) * 65535, LESION * np.uint8(1)]
)
@pytest.mark.parametrize("mask_first", [True, False])
def test_mask_is_found_in_any_order_and_depth(
    tmp_path: Path, crop: Path, pixels: NDArray[np.uint8], mask_first: bool
) -> None:
    path = write(tmp_path / "roi.png", pixels)
    mask = find_mask([path, crop] if mask_first else [crop, path], image_shape=SHAPE)
    assert (mask.path, mask.status) == (path, "as_is")
    np.testing.assert_array_equal(mask.pixels, LESION)
    np.testing.assert_array_equal(read_mask(path), LESION)


def test_jpeg_mask_is_a_mask(tmp_path: Path, crop: Path) -> None:
    path = tmp_path / "mask.jpg"
    large = cv2.resize(LESION.astype(np.uint8) * 255, (800, 1200), interpolation=cv2.INTER_NEAREST)
    write(path, large)
    assert len(np.unique(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))) > 2
    mask = find_mask([crop, path], image_shape=(1200, 800))
    assert mask.status == "as_is"
    np.testing.assert_array_equal(mask.pixels, large > 0)


@pytest.mark.parametrize("shape", [(60, 40), (240, 160), (119, 80)])
def test_other_size_of_same_aspect_is_rescaled(tmp_path: Path, crop: Path, shape: tuple[int, int]) -> None:
    mask = find_mask([crop, write(tmp_path / "m.png", scaled(shape))], image_shape=SHAPE)
    assert mask.status == "rescaled"
    assert mask.pixels is not None
    assert mask.pixels.shape == SHAPE
    assert np.logical_xor(mask.pixels, LESION).sum() <= 2 * 40  # about one row or column at the outline


def test_other_aspect_goes_without_mask(tmp_path: Path, crop: Path) -> None:
    path = write(tmp_path / "m.png", scaled((120, 82)))
    mask = find_mask([crop, path], image_shape=SHAPE)
    assert (mask.path, mask.pixels, mask.status) == (path, None, "aspect_differs")


def test_a_fitting_mask_is_preferred(tmp_path: Path) -> None:
    small = write(tmp_path / "a.png", scaled((60, 40)))
    exact = write(tmp_path / "b.png", scaled(SHAPE))
    assert find_mask([small, exact], image_shape=SHAPE).path == exact


def test_mask_without_any_pixel_is_empty(tmp_path: Path, crop: Path) -> None:
    path = write(tmp_path / "m.png", np.zeros(SHAPE, np.uint8))
    assert find_mask([crop, path], image_shape=SHAPE).status == "empty"


def test_what_else_can_go_wrong(tmp_path: Path, crop: Path) -> None:
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(b"DICM")
    full_size_crop = write(tmp_path / "full.png", np.arange(9600, dtype=np.uint16).reshape(SHAPE))
    assert find_mask([], image_shape=SHAPE).status == "missing"
    assert find_mask([tmp_path / "gone.dcm"], image_shape=SHAPE).status == "missing"
    assert find_mask([crop, broken], image_shape=SHAPE).status == "unreadable"
    assert find_mask([crop, full_size_crop], image_shape=SHAPE).status == "no_mask_among_files"
    with pytest.raises(DataError, match="more than two values"):
        read_mask(crop)
