"""Windows of an image: around lesions, in the breast away from lesions, at hard negatives, on a regular grid.

A window is given by its upper left corner, x and y in pixels of the prepared image. Sizes are height and
width. Boxes are x_min, y_min, x_max, y_max; maxima are exclusive.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Size: TypeAlias = tuple[int, int]  # height, width
Windows: TypeAlias = NDArray[np.int64]  # ... 2, x and y of the upper left corner

_CELLS = 100  # cells of a breast map along the longer side of the image
_SHARE = 0.5  # smallest share of a background window that is in the breast


def lesion_windows(
    boxes: NDArray[np.floating[Any]],
    draws: NDArray[np.float64],
    *,
    size: Size,
    image: Size,
    overlap: float,
) -> Windows:
    """Place windows around lesions, uniformly in the range of shifts that keeps the overlap.

    What a window and the lesion's box have in common is at least the share `overlap` of the most that is
    possible: of the box if it fits in the window, of the window if it fits in the box. This is the sampling
    of Shen et al., "Deep Learning to Improve Breast Cancer Detection on Screening Mammography", Sci Rep 2019,
    there with 0.9. Boxes are first enlarged to whole pixels and cut to the image.

    Args:
        boxes: ... 4.
        draws: ... M 2, random numbers from 0 to below 1, for M windows of each lesion.
        size: height and width of a window.
        image: height and width of the image, at least `size`.
        overlap: share of the lesion or window, from 0 to 1.

    Returns:
        ... M 2, inside the image; -1 for a box that is NaN or has no part in the image.
    """
    limit, window = np.array(image[::-1]), np.array(size[::-1])
    low = np.floor(boxes[..., :2]).clip(0, limit)
    high = np.ceil(boxes[..., 2:]).clip(0, limit)
    there = (high > low).all(-1, keepdims=True)  # False also for NaN
    low, high = np.where(there, low, 0), np.where(there, high, 1)
    # the product of both sides loses at most 1 - overlap
    lost = np.floor((1 - math.sqrt(overlap)) * np.minimum(high - low, window))
    first, last = np.minimum(low, high - window) - lost, np.maximum(low, high - window) + lost
    # cutting the range to the image loses nothing of the box, which is inside
    first, last = (np.clip(end, 0, limit - window)[..., None, :] for end in (first, last))
    corners = first + np.floor(draws * (last - first + 1))
    return np.where(there[..., None], corners, -1).astype(np.int64)


def background_places(
    breast: NDArray[np.bool_], boxes: NDArray[np.floating[Any]], *, size: Size, image: Size
) -> NDArray[np.int32]:
    """Find the places of windows of which at least half is in the breast, and which overlap no lesion.

    A place is a cell, in which the window's corner may be anywhere. The share in the breast is measured on
    the cells that a window touches whose corner is that of the cell.

    Args:
        breast: h w, True in the breast, see `breast_maps`.
        boxes: K 4; NaN where there is none.
        size: height and width of a window.
        image: height and width of the image, at least `size`.

    Returns:
        Numbers of the places, sorted; see `background_windows`.
    """
    cell = cell_side(image)
    y, x = (np.arange(0, limit - side + 1, cell) for limit, side in zip(image, size, strict=True))
    total = np.zeros((breast.shape[0] + 1, breast.shape[1] + 1), np.int32)
    total[1:, 1:] = breast.cumsum(0, dtype=np.int32).cumsum(1)
    top, left = y // cell, x // cell
    below, right = -(-(y + size[0]) // cell), -(-(x + size[1]) // cell)
    inside = total[below][:, right] - total[top][:, right] - total[below][:, left] + total[top][:, left]
    allowed = inside >= _SHARE * np.multiply.outer(below - top, right - left)
    for x_min, y_min, x_max, y_max in boxes[~np.isnan(boxes).any(1)]:
        across = (x + cell - 1 + size[1] > x_min) & (x < x_max)
        down = (y + cell - 1 + size[0] > y_min) & (y < y_max)
        allowed &= ~np.logical_and.outer(down, across)
    return np.flatnonzero(allowed).astype(np.int32)


def background_windows(
    places: NDArray[np.integer[Any]], draws: NDArray[np.float64], *, size: Size, image: Size
) -> Windows:
    """Return windows with the corner anywhere in the cell of their place.

    Args:
        places: ..., numbers of `background_places`.
        draws: ... 2, random numbers from 0 to below 1.
        size: height and width of a window.
        image: height and width of the image.

    Returns:
        ... 2, inside the image.
    """
    cell = cell_side(image)
    limit = np.array([image[1] - size[1], image[0] - size[0]])
    y, x = np.divmod(places, limit[0] // cell + 1)
    corners = np.stack([x, y], axis=-1) * cell + np.floor(draws * cell).astype(np.int64)
    return np.asarray(np.minimum(corners, limit))


def hard_negative_windows(
    windows: Windows,
    scores: NDArray[np.floating[Any]],
    boxes: NDArray[np.floating[Any]],
    *,
    size: Size,
    count: int,
) -> Windows:
    """Choose the windows of the highest scores that overlap neither a lesion nor each other.

    Args:
        windows: M 2.
        scores: M, scores of the windows, such as the probability that a network gives to a lesion.
        boxes: K 4; NaN where there is none.
        size: height and width of a window.
        count: largest number of windows.

    Returns:
        At most `count` of the windows, the highest score first.
    """
    left = windows[np.argsort(-scores, kind="stable")]
    left = left[~overlaps(left, boxes, size=size)]
    found: list[NDArray[np.int64]] = []
    while len(left) and len(found) < count:
        found.append(left[0])
        left = left[(np.abs(left - left[0]) >= size[::-1]).any(1)]
    return np.array(found, np.int64).reshape(-1, 2)


def grid_windows(*, size: Size, image: Size, overlap: float) -> Windows:
    """Return the windows of a regular grid that covers the image; the last row and column end at its edges.

    Args:
        size: height and width of a window.
        image: height and width of the image, at least `size`.
        overlap: share of a window's side that it has in common with the next one, from 0 to below 1.

    Returns:
        M 2, row by row.

    Example:
        >>> grid_windows(size=(4, 4), image=(4, 10), overlap=0.0).tolist()
        [[0, 0], [4, 0], [6, 0]]
    """
    starts = []
    for limit, side in zip(image, size, strict=True):
        step = max(1, round(side * (1 - overlap)))
        starts.append(np.append(np.arange(0, limit - side, step), limit - side))
    y, x = np.meshgrid(*starts, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int64)


def overlaps(windows: Windows, boxes: NDArray[np.floating[Any]], *, size: Size) -> NDArray[np.bool_]:
    """Return for each of M windows (M 2) whether it overlaps any of the boxes (K 4, NaN for none)."""
    x, y = windows[:, :1], windows[:, 1:]
    x_min, y_min, x_max, y_max = boxes.T
    apart = (x + size[1] <= x_min) | (x >= x_max) | (y + size[0] <= y_min) | (y >= y_max)
    return np.asarray((~apart & ~np.isnan(boxes).any(1)).any(1))


def cell_side(image: Sequence[int]) -> int:
    """Return the side of a cell of a breast map, pixels: about a hundredth of the longer side of an image."""
    return math.ceil(max(image) / _CELLS)
