"""Heat of the prepared image is drawn at its place in the file."""

from typing import Any

import numpy as np
import pytest

from mammo.data.images.breast import Transform, plan
from mammo.evaluation.explain.file_pixels import to_file_pixels


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("aspect", ["keep", "stretch"])
def test_heat_goes_back_to_the_file(mirrored: bool, aspect: Any) -> None:
    rows, columns = np.mgrid[:120, :90]
    breast = ((rows - 60) / 50) ** 2 + (columns / 70) ** 2 < 1
    file = np.where(breast, 30000, 0).astype(np.uint16)
    spot = np.hypot(rows - 40, columns - 30) < 9
    if mirrored:
        file, spot = file[:, ::-1].copy(), spot[:, ::-1].copy()
    transform = plan(file, height=48, width=40, aspect=aspect)
    assert transform.flip == mirrored
    heat = transform.apply_mask(spot).astype(np.float32)
    back = to_file_pixels(heat, transform)
    assert back.shape == file.shape
    assert back.dtype == np.float32
    assert back.min() == 0
    assert back.max() == 1
    found = np.argwhere(back > 0.5)
    np.testing.assert_allclose(found.mean(axis=0), np.argwhere(spot).mean(axis=0), atol=1.5)
    assert (back[spot] > 0.5).all()


def test_heat_of_the_padding_is_dropped() -> None:
    transform = Transform(20, 10, False, 2, 4, 8, 16, 1.0, 1.0, height=16, width=16)
    heat = np.zeros((16, 16), np.float32)
    heat[:, 6:] = 1  # right of the six columns of content
    assert to_file_pixels(heat, transform).max() == 0
    heat[0, 0] = 1
    assert np.argwhere(to_file_pixels(heat, transform) > 0).tolist() == [[4, 2]]
