"""A background that is brighter than the breast is found, in drawn, synthetic and real mammograms."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mammo.data.images.dicom import read_mammogram
from mammo.data.inspection.polarity import background_is_brighter


def drawn(*, right: bool = False) -> NDArray[np.uint16]:
    y, x = np.mgrid[:320, :240]
    inside = ((y - 160) / 130) ** 2 + (x / 170) ** 2 < 1
    noise = np.random.default_rng(0).random(x.shape) * 0.02
    pixels = np.rint((np.where(inside, 0.6 - 0.001 * x, 0.02) + noise) * 65535).astype(np.uint16)
    return pixels[:, ::-1] if right else pixels


@pytest.mark.parametrize("right", [False, True])
def test_the_polarity_of_a_drawn_breast(right: bool) -> None:
    pixels = drawn(right=right)
    assert not background_is_brighter(pixels)
    assert background_is_brighter(65535 - pixels)
    assert background_is_brighter((255 - (pixels >> 8)).astype(np.uint8))


def test_no_background_no_warning() -> None:
    noise = np.random.default_rng(0).integers(0, 65536, (100, 80), dtype=np.uint16)
    assert not background_is_brighter(noise)
    assert not background_is_brighter(np.full((100, 80), 7, np.uint16))
    assert not background_is_brighter(np.eye(3, 2, dtype=np.uint16))


def test_the_polarity_of_real_mammograms(real_dicoms: Path) -> None:
    for path in sorted(real_dicoms.rglob("*.dcm")):
        pixels = read_mammogram(path).pixels
        assert not background_is_brighter(pixels), path
        assert background_is_brighter(65535 - pixels), path
