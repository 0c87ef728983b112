"""Pictures of new images with their heat."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mammo.data.tasks import Task
from mammo.evaluation.prediction.heat_writers import Pictures


@pytest.mark.parametrize(("hanging", "chest_wall"), [(True, {"R": -1, "L": 0}), (False, {"R": 0, "L": 0})])
def test_right_breasts_hang_with_the_chest_wall_at_the_right(
    hanging: bool, chest_wall: dict[str, int], tmp_path: Path
) -> None:
    image = np.zeros((96, 64), np.uint8)
    image[10:86, :40] = 180  # prepared: the chest wall is at the left
    pictures = Pictures(tmp_path, task=Task.shipped("pathology"), hanging=hanging)
    rows: Any = [
        {"path": side[0], "laterality": side, "view": "CC", "scores": [0.4, 0.6]}
        for side in ("RIGHT", "LEFT")
    ]
    pictures.draw(np.zeros((2, 96, 64), np.float32), [image, image], rows)
    for side, column in chest_wall.items():
        drawn = cv2.imread(str(pictures.file_of(side)))
        middle = drawn[drawn.shape[0] // 3]
        assert middle[column].max() > 200
        assert middle[-1 - column].max() < 20
