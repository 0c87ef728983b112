"""Compare a heatmap with the lesions: marks, overlap and heat inside, and three baselines.

Coordinates are in pixels of the prepared image. All measures use the same pixels of a lesion: those of its
mask if it has one, else those of its box; see `mammo.evaluation.explain.drawn_lesions`. A mark finds a lesion
if it is on one of these pixels, without a tolerance.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo.data.images.breast import breast_mask
from mammo.data.images.dicom import Pixels
from mammo.data.lesion_table import box_pixels

Floats = NDArray[np.float64]

# Fraction of the map's maximum from which a pixel belongs to a candidate.
SHARE = 0.5
BASELINES = ("brightest", "centre", "random")


@dataclass(frozen=True)
class Candidates:
    """The places in one image where a method suspects lesions, in descending order of their score.

    Attributes:
        heat: H W, 0 or more.
        marks: row and column of the mark of each candidate, M 2.
        scores: M.
        boxes: boxes around the candidates, M 4, in pixels.
        region: pixels of the first candidate, H W; None for a method that predicts points only.
    """

    heat: NDArray[Any]
    marks: NDArray[np.int64]
    scores: Floats
    boxes: Floats
    region: NDArray[np.bool_] | None


@dataclass(frozen=True)
class Marks:
    """The candidates of one method in one image, compared with the lesions of the image.

    Attributes:
        iou: overlap of the first candidate with the lesion that it overlaps most; NaN for a method that
            predicts points only, and if the image has no lesions.
        heat_inside: share of the heat within lesions; NaN if the image has no lesions.
        scores: scores of the candidates, M, in descending order.
        found: M K, whether the mark of a candidate is in a lesion.
    """

    iou: float
    heat_inside: float
    scores: Floats
    found: NDArray[np.bool_]

    @property
    def lesions(self) -> int:
        """Number of lesions of the image, K."""
        return int(self.found.shape[1])

    @property
    def hit(self) -> float:
        """1 if the mark of the first candidate is in a lesion, else 0; NaN if the image has no lesions.

        This is the pointing game of Zhang et al. 2018, Top-down neural attention by excitation backprop,
        IJCV 126:1084, without their tolerance of 15 pixels.
        """
        return float(self.found[:1].any()) if self.lesions else math.nan


def compare(candidates: Candidates, regions: NDArray[np.bool_]) -> Marks:
    """Compare the candidates in an image with its lesions.

    Args:
        candidates: candidates of one method; without a candidate, hit, overlap and heat inside are 0.
        regions: pixels of each lesion, K H W.
    """
    rows, columns = candidates.marks.T
    overlap = inside = math.nan
    if len(regions):
        inside = heat_inside(candidates.heat, regions)
        if candidates.region is not None:
            overlap = best_iou(candidates.region, regions)
    return Marks(overlap, inside, candidates.scores, regions[:, rows, columns].T)


def heat_candidates(heat: NDArray[np.float32], *, share: float = SHARE) -> Candidates:
    """Return the hot regions of a heatmap; the mark of a region is its maximum.

    A region is an 8-connected component of the pixels whose heat is at least a share of the map's maximum;
    its score is its maximum. Of equal scores, the larger region is first; of equal maxima in a region, the
    mark is the one nearest to their centre. Zhou et al. 2016, Learning deep features for discriminative
    localization, use a share of 0.2 and only the largest region.

    Args:
        heat: H W, 0 or more; a map that is 0 everywhere has no candidates.
        share: fraction of the map's maximum, above 0 and at most 1.
    """
    import cv2

    region = np.zeros(heat.shape, bool)
    highest = heat.max()
    if not highest > 0:
        return Candidates(heat, np.zeros((0, 2), np.int64), np.zeros(0), np.zeros((0, 4)), region)
    hot = ((heat >= share * highest) & (heat > 0)).view(np.uint8)
    # labelling the regions is the slowest step: crop to the rectangle around the hot pixels
    x, y, wide, tall = cv2.boundingRect(hot)
    part = np.s_[y : y + tall, x : x + wide]
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(hot[part], connectivity=8)
    left, top, width, height, area = statistics[1:].T  # without the background
    boxes = np.stack([left, top, left + width, top + height], axis=1)
    marks, scores = np.zeros((len(boxes), 2), np.int64), np.zeros(len(boxes))
    for index, (x_min, y_min, x_max, y_max) in enumerate(boxes):
        piece = np.s_[y_min:y_max, x_min:x_max]
        held = heat[part][piece] * (labels[piece] == index + 1)
        row, column = peak(held) or (0, 0)  # a component has heat
        marks[index] = row + y_min + y, column + x_min + x
        scores[index] = held.max()
    order = np.lexsort((-area, -scores))
    region[part] = labels == order[0] + 1
    return Candidates(heat, marks[order], scores[order], boxes[order] + np.array([x, y, x, y], float), region)


def box_candidate(box: NDArray[np.floating[Any]], shape: tuple[int, ...]) -> Candidates:
    """Return the box predicted by a network as the only candidate of its image; the mark is its centre.

    Its heat is constant on every pixel that it touches, so `heat_inside` is a share of its area. The
    `heat_inside` of the baseline `random` is that of a box around the whole breast.

    Args:
        box: predicted box, 4, in pixels; what exceeds the image is cut off.
        shape: H and W.
    """
    height, width = shape
    cut = np.asarray(box, np.float64).clip(0, [width, height, width, height])
    # a centre on the right or bottom edge of the image belongs to the last pixel
    column, row = np.minimum((cut[:2] + cut[2:]) / 2, [width - 1, height - 1]).astype(np.int64)
    region = np.zeros(shape, bool)
    region[box_pixels(cut)] = True
    return Candidates(region, np.array([[row, column]]), np.ones(1), cut[None], region)


def baseline_candidates(
    pixels: Pixels, *, rng: np.random.Generator, breast: NDArray[np.bool_] | None = None
) -> dict[str, Candidates]:
    """Return baselines that do not search for lesions: the brightest point, the centre and a random point.

    All points are in the breast, and each is the only candidate of its image. `centre` is the point of the
    breast that is nearest to the breast's centre of mass. The heat of `brightest` is the grey values. The
    heat of `centre` and `random` is constant in the breast, so their `heat_inside` is the share of the breast
    that lesions cover.

    Args:
        pixels: prepared image, H W.
        rng: random number generator of the random point.
        breast: mask of the breast, H W; None for `breast_in`.

    Returns:
        Candidates of each of `BASELINES`.
    """
    inside = breast_in(pixels) if breast is None else breast
    if not inside.any():
        inside = np.ones_like(inside)
    grey = pixels * inside
    random = _place(inside, int(rng.integers(np.count_nonzero(inside))))
    # if all values are 0, the brightest point is the first pixel of the breast
    brightest = peak(grey) or _place(inside, 0)
    points = {"brightest": brightest, "centre": _centre(inside), "random": random}
    heats = {"brightest": grey, "centre": inside, "random": inside}
    return {
        name: Candidates(heats[name], np.array([points[name]]), np.ones(1), np.zeros((0, 4)), None)
        for name in BASELINES
    }


def breast_in(pixels: Pixels) -> NDArray[np.bool_]:
    """Return the mask of the breast without pixels of 0, H W."""
    return breast_mask(pixels) & (pixels > 0)


def peak(heat: NDArray[Any]) -> tuple[int, int] | None:
    """Return row and column of the maximum; of equal maxima, the one nearest to their centre.

    Args:
        heat: H W.

    Returns:
        Row and column; None if no value is above 0.
    """
    highest = heat.max()
    return _centre(heat == highest) if highest > 0 else None


def best_iou(region: NDArray[np.bool_], lesions: NDArray[np.bool_]) -> float:
    """Return the intersection over union, in pixels, of a region with the lesion that it overlaps most.

    Args:
        region: H W.
        lesions: pixels of each lesion, K H W, with K at least 1.

    Returns:
        Intersection over union; 0 if the region is empty.
    """
    shared = np.count_nonzero(lesions & region, axis=(1, 2))
    union = np.count_nonzero(lesions, axis=(1, 2)) + np.count_nonzero(region) - shared
    return float((shared / np.maximum(union, 1)).max())


def heat_inside(heat: NDArray[Any], regions: NDArray[np.bool_]) -> float:
    """Return the share of the heat within lesions; 0 if there is no heat.

    This is the energy-based pointing game of Wang et al. 2020, Score-CAM: score-weighted visual explanations
    for convolutional neural networks.

    Args:
        heat: H W, 0 or more.
        regions: K H W.
    """
    total = heat.sum(dtype=np.float64)
    return float(heat[regions.any(axis=0)].sum(dtype=np.float64) / total) if total > 0 else 0.0


def _centre(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Return row and column of the pixel of a mask that is nearest to the mask's centre of mass.

    Of equally near pixels, the first one row by row.
    """
    counts = np.count_nonzero(mask, axis=1), np.count_nonzero(mask, axis=0)
    means = np.array([np.average(np.arange(len(count)), weights=count) for count in counts])
    row, column = np.ceil(means - 0.5).astype(int).tolist()  # the nearest pixel, unless it is outside
    if not mask[row, column]:
        places = np.argwhere(mask)
        row, column = places[np.square(places - means).sum(axis=1).argmin()].tolist()
    return row, column


def _place(inside: NDArray[np.bool_], number: int) -> tuple[int, int]:
    """Return row and column of the pixel with this number, counted from 0 row by row inside the mask."""
    before = np.count_nonzero(inside, axis=1).cumsum()
    row = int(np.searchsorted(before, number, side="right"))
    return row, int(np.flatnonzero(inside[row])[number - before[row]])
