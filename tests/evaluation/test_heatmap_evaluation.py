"""Pictures of an evaluation: how the views of a sample hang."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from mammo.data.loading.loader import StoreDataset
from mammo.evaluation.explain.overlays import drawn_views


@pytest.mark.parametrize(
    ("hanging", "markers", "mirrored"),
    [
        (True, ["R CC", "L CC", "R MLO", "L MLO"], [True, False, True, False]),
        (False, ["L CC", "L MLO", "R CC", "R MLO"], [False] * 4),
    ],
)
def test_the_views_of_an_exam_hang_with_the_chest_walls_together(
    hanging: bool, markers: list[str], mirrored: list[bool]
) -> None:
    facts = {"laterality": ["LEFT", "LEFT", "RIGHT", "RIGHT"], "view": ["CC", "MLO", "CC", "MLO"]}
    table = pd.DataFrame({"row": range(4), **facts})
    image = np.zeros((4, 40, 30), np.uint8)
    image[:, 5:35, :20] = 200
    exam: Any = SimpleNamespace(
        rows=np.arange(4)[None],
        boxes=lambda indices: np.full((1, 4, 1, 4), np.nan),
        store=SimpleNamespace(table=table),
        pixels=lambda index: image,
        sample_unit="exam",
    )
    heat = np.ones((4, 40, 30), np.float32)
    views = drawn_views(cast(StoreDataset, exam), 0, heat, hanging=hanging)
    assert [view.marker for view in views if view] == markers
    assert [view.mirror for view in views if view] == mirrored
    assert all(view.heat[20, 10] == 1 and view.heat[20, 29] == 0 for view in views if view)
