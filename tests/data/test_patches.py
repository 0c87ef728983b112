"""The patches of an epoch: their number, classes and order, and where the breast is."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mammo.data.lesion_table import LesionTable
from mammo.data.patches import (
    BACKGROUND,
    HARD_NEGATIVE,
    LESION,
    PatchPlaces,
    PatchSettings,
    breast_maps,
    patch_table,
)
from mammo.data.store.store import Store
from mammo.data.windows import Windows, overlaps

IMAGE = (120, 90)
SETTINGS = PatchSettings(size=(16, 16), per_lesion=3, per_image=4, overlap=0.9)
ROWS = np.arange(10, 10 + 8)
# the third and fourth image have no lesion, the fifth two, of which one is in no class
BOXES = np.full((8, 2, 4), np.nan, np.float32)
BOXES[:, 0] = [[20 + 2 * i, 30, 32 + 2 * i, 50] for i in range(8)]
BOXES[2:4] = np.nan
BOXES[4, 1] = [40, 80, 70, 90]
LABELS = np.where(np.isnan(BOXES[..., 0]), -1, 1 + np.arange(8)[:, None] % 2)
LABELS[4, 1] = -1
BREASTS = np.zeros((8, 60, 45), np.bool_)
BREASTS[:, 5:55, :35] = True
BREASTS[7] = False  # no place for a background window


def places(
    chosen: NDArray[np.int64], settings: PatchSettings = SETTINGS, *, hard: bool = False
) -> PatchPlaces:
    given: list[Windows] = [np.array([[60, 5 + row], [60, 40]])[: row % 3] for row in range(8)]
    return PatchPlaces.of(
        rows=ROWS[chosen],
        image=IMAGE,
        lesions=LesionTable(BOXES[chosen], LABELS[chosen], np.zeros_like(LABELS[chosen])),
        breasts=BREASTS[chosen],
        settings=settings,
        hard=[given[position] for position in chosen] if hard else (),
    )


def table(
    chosen: NDArray[np.int64] | None = None, *, seed: int = 0, epoch: int = 0, hard: bool = False
) -> pd.DataFrame:
    of = places(np.arange(8) if chosen is None else chosen, hard=hard)
    return patch_table(of, settings=SETTINGS, background=0, seed=seed, epoch=epoch)


def test_numbers_and_classes() -> None:
    found = table()
    counts = found.groupby(["position", "kind"]).size().unstack(fill_value=0)
    assert counts[LESION].tolist() == [3, 3, 0, 0, 3, 3, 3, 3]
    assert counts[BACKGROUND].tolist() == [4] * 7 + [0]
    assert found["position"].is_monotonic_increasing
    of_lesions = found["kind"] == LESION
    assert (found.loc[of_lesions, "label"] == LABELS[found.loc[of_lesions, "position"], 0]).all()
    assert (found.loc[~of_lesions, "label"] == 0).all()


@pytest.mark.parametrize("hard", [False, True])
def test_windows_of_no_lesion_overlap_none_also_none_without_a_class(hard: bool) -> None:
    found = table(hard=hard)
    for position, windows in found[found["kind"] == BACKGROUND].groupby("position"):
        corners = windows[["x", "y"]].to_numpy()
        assert not overlaps(corners, BOXES[position], size=SETTINGS.size).any()


def test_hard_negatives_replace_at_most_half_of_the_background() -> None:
    found = table(hard=True)
    counts = found.groupby(["position", "kind"]).size().unstack(fill_value=0)
    assert counts[HARD_NEGATIVE].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert (counts[HARD_NEGATIVE] + counts[BACKGROUND]).tolist() == [4] * 7 + [1]
    first = found[(found["position"] == 2) & (found["kind"] == HARD_NEGATIVE)]
    assert first[["x", "y", "label"]].to_numpy().tolist() == [[60, 7, 0], [60, 40, 0]]
    # the other windows are those without hard negatives
    kept = found[found["kind"] != HARD_NEGATIVE].merge(table().drop_duplicates())
    assert len(kept) == (found["kind"] != HARD_NEGATIVE).sum()


@settings(max_examples=30, deadline=None)
@given(
    chosen=st.lists(st.integers(0, 7), min_size=1, unique=True).filter(lambda held: held != [7]),
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 1000),
    hard=st.booleans(),
)
def test_the_windows_of_an_image_do_not_depend_on_the_others(
    chosen: list[int], seed: int, epoch: int, hard: bool
) -> None:
    whole = table(seed=seed, epoch=epoch, hard=hard)
    part = table(np.array(chosen), seed=seed, epoch=epoch, hard=hard)
    for position, image in enumerate(chosen):
        alone = part[part["position"] == position].drop(columns="position").to_numpy()
        assert (
            alone.tolist() == whole[whole["position"] == image].drop(columns="position").to_numpy().tolist()
        )


def test_windows_change_with_seed_and_epoch() -> None:
    def corners(seed: int, epoch: int) -> list[list[int]]:
        return table(seed=seed, epoch=epoch)[["x", "y"]].to_numpy().tolist()  # type: ignore[no-any-return]

    assert corners(0, 1) == corners(0, 1)
    assert corners(0, 1) != corners(0, 2)
    assert corners(0, 1) != corners(1, 1)


def test_an_image_of_no_window_gives_an_empty_table() -> None:
    nothing = LesionTable(
        np.full((1, 1, 4), np.nan, np.float32), np.full((1, 1), -1), np.zeros((1, 1), np.int64)
    )
    of = PatchPlaces.of(
        rows=ROWS[:1], image=IMAGE, lesions=nothing, breasts=~BREASTS[:1] & False, settings=SETTINGS
    )
    assert patch_table(of, settings=SETTINGS, background=0, seed=0, epoch=0).empty


def test_no_image_gives_an_empty_table() -> None:
    assert table(np.arange(0)).empty


def test_lesions_are_arranged_by_image() -> None:
    lesions = pd.DataFrame(
        {
            "image_id": ["b", "a", "b"],
            "x_min": [1.0, 2, 3],
            "y_min": [1.0, 2, 3],
            "x_max": [5.0, 6, 7],
            "y_max": [5.0, 6, 7],
            "mask_value": pd.array([1, None, 2], dtype="Int64"),
        }
    ).astype(dict.fromkeys(["x_min", "y_min", "x_max", "y_max"], "Float64"))
    found = LesionTable.of(lesions, np.arange(3), ["b", "z", "a"])
    assert found.labels.tolist() == [[0, 2], [-1, -1], [1, -1]]
    assert found.mask_values.tolist() == [[1, 2], [0, 0], [0, 0]]
    assert found.boxes[:, 0].tolist()[::2] == [[1, 1, 5, 5], [2, 2, 6, 6]]
    assert np.isnan(found.boxes[1]).all()
    assert np.isnan(found.boxes[2, 1]).all()
    for ids in ([], ["z"]):
        none = LesionTable.of(lesions.iloc[:0], np.arange(0), ids)
        assert none.boxes.shape == (len(ids), 1, 4)
        assert np.isnan(none.boxes).all()


def test_settings_of_the_node() -> None:
    node = {"size": 64, "per_lesion": 3, "per_image": 0, "overlap": 1}
    assert PatchSettings.of(node) == PatchSettings((64, 64), 3, 0, 1.0)
    assert PatchSettings.of(node | {"size": [64, 32]}).size == (64, 32)


def test_the_breast_is_found_in_the_pixels_of_a_store(tmp_path: Path) -> None:
    y, x = np.mgrid[:300, :220]
    breast = ((y - 150) / 110) ** 2 + (x / 150) ** 2 < 1
    pixels = np.stack([np.where(breast, 30000 + 20 * x, 300 + y % 7), np.zeros_like(y)]).astype(np.uint16)
    np.save(tmp_path / "images.npy", pixels)
    pd.DataFrame({"image_id": ["a", "b"], "row": [0, 1]}).to_parquet(tmp_path / "images.parquet")
    pd.DataFrame({"image_id": []}).to_parquet(tmp_path / "lesions.parquet")
    (tmp_path / "manifest.json").write_text("{}")
    found = breast_maps(Store.open(tmp_path), np.array([0]))
    assert found.shape == (1, 100, 74)
    inside = breast[::3, ::3]
    assert found[0][inside].all()
    assert found[0][~inside].mean() < 0.12  # the skin line is smoothed outwards
