"""Windows of an image: inside it, with the promised overlap, and the same for the same draws."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from mammo.data.windows import (
    Size,
    background_places,
    background_windows,
    cell_side,
    grid_windows,
    hard_negative_windows,
    lesion_windows,
    overlaps,
)


@st.composite
def images(draw: st.DrawFn) -> tuple[Size, Size]:
    """Sizes of an image and of a window that fits in it."""
    height, width = draw(st.tuples(st.integers(2, 300), st.integers(2, 300)))
    return (height, width), (draw(st.integers(1, height)), draw(st.integers(1, width)))


@st.composite
def boxes(draw: st.DrawFn, image: Size, *, most: int = 3) -> NDArray[np.float32]:
    """Boxes that may reach beyond the image, some of them missing."""
    found = []
    for _ in range(draw(st.integers(0, most))):
        starts = [draw(st.floats(-0.3 * side, 1.2 * side)) for side in image[::-1]]
        sides = [draw(st.floats(0.01, 1.3 * side)) for side in image[::-1]]
        missing = draw(st.integers(0, 9)) == 0
        found.append([math.nan] * 4 if missing else [*starts, *np.add(starts, sides)])
    return np.array(found, np.float32).reshape(-1, 4)


def draws(seed: int, *shape: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).random(shape)


def common(window: NDArray[Any], size: Size, box: NDArray[Any]) -> float:
    """Area that a window and a box have in common."""
    low, high = np.maximum(window, box[:2]), np.minimum(window + size[::-1], box[2:])
    return float(np.prod((high - low).clip(0)))


def assert_inside(windows: NDArray[np.int64], size: Size, image: Size) -> None:
    assert (windows >= 0).all()
    assert (windows + size[::-1] <= image[::-1]).all()


@given(data=st.data(), sizes=images(), overlap=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_windows_of_lesions_keep_the_overlap(
    data: st.DataObject, sizes: tuple[Size, Size], overlap: float, seed: int
) -> None:
    image, size = sizes
    lesions = data.draw(boxes(image))
    found = lesion_windows(lesions, draws(seed, len(lesions), 5, 2), size=size, image=image, overlap=overlap)
    assert found.shape == (len(lesions), 5, 2)
    limit = np.array(image[::-1] * 2)
    for box, windows in zip(lesions, found, strict=True):
        whole = np.append(np.floor(box[:2]), np.ceil(box[2:])).clip(0, limit)
        sides = whole[2:] - whole[:2]
        if not (sides > 0).all():
            assert (windows == -1).all()
            continue
        assert_inside(windows, size, image)
        most = np.prod(np.minimum(sides, size[::-1]))
        assert all(common(window, size, whole) >= overlap * most - 1e-6 for window in windows)


def test_windows_of_a_lesion_use_the_whole_range() -> None:
    spread = lesion_windows(
        np.array([[50, 60, 60, 70]]), draws(0, 1, 5000, 2), size=(20, 20), image=(200, 200), overlap=1.0
    )[0]
    assert spread.min(0).tolist() == [40, 50]
    assert spread.max(0).tolist() == [50, 60]
    counts = np.bincount(spread[:, 0] - 40)
    assert counts.min() > 0.75 * counts.mean()


def test_a_window_lies_within_a_larger_lesion() -> None:
    inside = lesion_windows(
        np.array([[20, 20, 90, 90]]), draws(0, 1, 5000, 2), size=(16, 16), image=(100, 100), overlap=1.0
    )[0]
    assert (inside.min(0).tolist(), inside.max(0).tolist()) == ([20, 20], [74, 74])


@given(data=st.data(), sizes=images(), seed=st.integers(0, 2**32))
def test_windows_of_the_background_overlap_no_lesion(
    data: st.DataObject, sizes: tuple[Size, Size], seed: int
) -> None:
    image, size = sizes
    cell = cell_side(image)
    shape = tuple(-(-side // cell) for side in image)
    breast = data.draw(arrays(np.bool_, shape, elements=st.booleans(), fill=st.booleans()))
    lesions = data.draw(boxes(image))
    places = background_places(breast, lesions, size=size, image=image)
    assert (np.diff(places) > 0).all()
    columns = (image[1] - size[1]) // cell + 1
    for row, column in zip(*np.divmod(places, columns), strict=True):
        y, x = row * cell, column * cell
        part = breast[row : -(-(y + size[0]) // cell), column : -(-(x + size[1]) // cell)]
        assert part.mean() >= 0.5
    windows = background_windows(places, draws(seed, len(places), 2), size=size, image=image)
    assert_inside(windows, size, image)
    assert not overlaps(windows, lesions, size=size).any()


def test_all_places_are_allowed_where_all_is_breast() -> None:
    breast = np.ones((100, 75), np.bool_)
    image, size = (200, 150), (20, 30)
    none = np.empty((0, 4))
    places = background_places(breast, none, size=size, image=image)
    assert len(places) == (180 // 2 + 1) * (120 // 2 + 1)
    windows = background_windows(places, draws(0, len(places), 2), size=size, image=image)
    assert windows.max(0).tolist() == [120, 180]
    assert len(background_places(~breast, none, size=size, image=image)) == 0
    covered = np.array([[0, 0, 150, 200]])
    assert len(background_places(breast, covered, size=size, image=image)) == 0


@given(data=st.data(), sizes=images())
def test_overlaps_are_those_of_common_area(data: st.DataObject, sizes: tuple[Size, Size]) -> None:
    image, size = sizes
    lesions = data.draw(boxes(image))
    windows = grid_windows(size=size, image=image, overlap=0.0)[:50]
    expected = [any(common(window, size, box) > 0 for box in lesions) for window in windows]
    assert overlaps(windows, lesions, size=size).tolist() == expected


@given(data=st.data(), sizes=images(), count=st.integers(0, 6), seed=st.integers(0, 2**32))
def test_hard_negatives_overlap_neither_lesions_nor_each_other(
    data: st.DataObject, sizes: tuple[Size, Size], count: int, seed: int
) -> None:
    image, size = sizes
    lesions = data.draw(boxes(image))
    every = np.floor(draws(seed, 30, 2) * (np.subtract(image, size)[::-1] + 1)).astype(np.int64)
    scores = draws(seed + 1, 30)
    windows = hard_negative_windows(every, scores, lesions, size=size, count=count)
    assert len(windows) <= count
    assert not overlaps(windows, lesions, size=size).any()
    as_boxes = np.concatenate([windows, windows + size[::-1]], axis=1)
    for position, window in enumerate(windows):
        others = np.delete(as_boxes, position, axis=0)
        assert not overlaps(window[None], others, size=size).any()
    more = hard_negative_windows(every, scores, lesions, size=size, count=count + 1)
    assert more[: len(windows)].tolist() == windows.tolist()
    if len(windows) < count:  # nothing is left
        taken = np.concatenate([as_boxes, lesions])
        assert overlaps(every, taken, size=size).all()


def test_hard_negatives_have_the_highest_scores() -> None:
    windows = np.array([[0, 0], [5, 0], [30, 0], [60, 0], [90, 0]])
    scores = np.array([0.2, 0.3, 0.9, 0.1, 0.4])
    lesion = np.array([[35.0, 5.0, 50.0, 8.0]])
    found = hard_negative_windows(windows, scores, lesion, size=(10, 10), count=2)
    assert found.tolist() == [[90, 0], [5, 0]]


@given(sizes=images(), overlap=st.floats(0, 0.9))
def test_the_grid_covers_the_image(sizes: tuple[Size, Size], overlap: float) -> None:
    image, size = sizes
    if math.prod(image) > 10000:
        image = (min(image[0], 60), min(image[1], 60))
        size = (min(size[0], image[0]), min(size[1], image[1]))
    windows = grid_windows(size=size, image=image, overlap=overlap)
    assert_inside(windows, size, image)
    assert len(np.unique(windows, axis=0)) == len(windows)
    covered = np.zeros(image, np.bool_)
    for x, y in windows:
        covered[y : y + size[0], x : x + size[1]] = True
    assert covered.all()
    for axis, side in ((0, size[1]), (1, size[0])):
        assert np.diff(np.unique(windows[:, axis])).max(initial=1) <= max(1, round(side * (1 - overlap)))


@pytest.mark.parametrize(("overlap", "count"), [(0.0, 3 * 4), (0.5, 5 * 7)])
def test_number_of_windows_of_a_grid(overlap: float, count: int) -> None:
    assert len(grid_windows(size=(4, 4), image=(12, 16), overlap=overlap)) == count
