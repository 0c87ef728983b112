"""Compare a heatmap with the lesions: pointing game, overlap, heat inside, FROC and two baselines.

Coordinates are in pixels of the prepared image. The region of a lesion is the part of its box that the mask
marks, or the whole box if there is no mask or it marks nothing in the box. A box contains every pixel that it
touches.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo.data.images.breast import breast_mask
from mammo.data.images.dicom import Pixels

Floats = NDArray[np.float64]

# Fraction of the map's maximum from which a pixel belongs to a predicted box.
SHARE = 0.5
BASELINES = ("brightest", "random")


@dataclass(frozen=True)
class Marks:
    """Result of one method on one image, compared with the lesions of the image.

    Attributes:
        hit: 1 if the method's point lies in a lesion, else 0; NaN if the image has no lesions.
        iou: overlap of the best box with the lesion that it overlaps most; NaN for the baselines, and if the
            image has no lesions.
        heat_inside: share of the heat within lesions; NaN if the image has no lesions.
        scores: scores of the candidates, M.
        found: M K, whether the centre of a candidate lies in the box of a lesion.
    """

    hit: float
    iou: float
    heat_inside: float
    scores: Floats
    found: NDArray[np.bool_]

    @property
    def lesions(self) -> int:
        """Number of lesions of the image, K."""
        return int(self.found.shape[1])


def mark_heat(
    heat: NDArray[np.float32],
    boxes: NDArray[np.floating[Any]],
    mask: NDArray[np.uint8] | None = None,
    *,
    share: float = SHARE,
    tolerance: float = 0.0,
) -> Marks:
    """Compare a heatmap with the lesions of its image.

    A map that is 0 everywhere has no point and no box: its hit, overlap and heat inside are 0.

    Args:
        heat: H W, 0 or more.
        boxes: K 4 in pixels, rows of NaN for no lesion.
        mask: H W, 0 outside lesions.
        share: see `predicted_boxes`.
        tolerance: see `hits`.
    """
    lesions = boxes_there(boxes)
    regions = lesion_regions(lesions, heat.shape, mask)
    found, scores = predicted_boxes(heat, share=share)
    if not len(lesions):
        return Marks(math.nan, math.nan, math.nan, scores, np.zeros((len(found), 0), bool))
    point = peak(heat)
    return Marks(
        hit=float(point is not None and hits(point, regions, tolerance=tolerance)),
        iou=best_iou(found, scores, _cut(lesions, heat.shape)),
        heat_inside=heat_inside(heat, regions),
        scores=scores,
        found=_centres_within((found[:, :2] + found[:, 2:]) / 2, lesions),
    )


def mark_box(
    box: NDArray[np.floating[Any]],
    boxes: NDArray[np.floating[Any]],
    shape: tuple[int, ...],
    mask: NDArray[np.uint8] | None = None,
    *,
    tolerance: float = 0.0,
) -> Marks:
    """Compare the box predicted by a network with the lesions of its image.

    The box is the only candidate of the image, and its centre is the point. Its heat is constant on every
    pixel that it touches, so `heat_inside` is a share of its area. The `heat_inside` of the baseline `random`
    is that of a box around the whole breast.

    Args:
        box: predicted box, 4, in pixels.
        boxes: K 4 in pixels, rows of NaN for no lesion.
        shape: H and W.
        mask: H W, 0 outside lesions.
        tolerance: see `hits`.
    """
    predicted = _cut(np.asarray(box, np.float64)[None], shape)
    centre = (predicted[:, :2] + predicted[:, 2:]) / 2
    lesions = boxes_there(boxes)
    if not len(lesions):
        return Marks(math.nan, math.nan, math.nan, np.ones(1), np.zeros((1, 0), bool))
    regions = lesion_regions(lesions, shape, mask)
    # a centre on the right or bottom edge of the image belongs to the last pixel
    column, row = np.minimum(centre[0], [shape[1] - 1, shape[0] - 1]).astype(int).tolist()
    return Marks(
        hit=float(hits((row, column), regions, tolerance=tolerance)),
        iou=best_iou(predicted, np.ones(1), _cut(lesions, shape)),
        heat_inside=heat_inside(lesion_regions(predicted, shape)[0].astype(np.float32), regions),
        scores=np.ones(1),
        found=_centres_within(centre, lesions),
    )


def mark_baselines(
    pixels: Pixels,
    boxes: NDArray[np.floating[Any]],
    mask: NDArray[np.uint8] | None = None,
    *,
    rng: np.random.Generator,
    breast: NDArray[np.bool_] | None = None,
    tolerance: float = 0.0,
) -> dict[str, Marks]:
    """Score two baselines that do not search for lesions: the brightest point and a random point.

    Both points lie within the breast, and each is the only candidate of its image. The heat of `brightest` is
    the grey values. The heat of `random` is constant in the breast, so its `heat_inside` is the share of the
    breast that lesions cover.

    Args:
        pixels: prepared image, H W.
        boxes: K 4 in pixels, rows of NaN for no lesion.
        mask: H W, 0 outside lesions.
        rng: random number generator of the random point.
        breast: mask of the breast, H W; None for `breast_in`.
        tolerance: see `hits`.

    Returns:
        Marks of `brightest` and `random`.
    """
    inside = breast_in(pixels) if breast is None else breast
    if not inside.any():
        inside = np.ones_like(inside)
    grey = pixels * inside
    random = _place(inside, int(rng.integers(np.count_nonzero(inside))))
    # if all values are 0, the brightest point is the first pixel of the breast
    points = {"brightest": peak(grey) or _place(inside, 0), "random": random}
    heats = {"brightest": grey, "random": inside}
    lesions = boxes_there(boxes)
    regions = lesion_regions(lesions, pixels.shape, mask)
    marks = {}
    for name in BASELINES:
        row, column = points[name]
        centre = np.array([[column + 0.5, row + 0.5]])
        marks[name] = Marks(
            hit=float(hits((row, column), regions, tolerance=tolerance)) if len(lesions) else math.nan,
            iou=math.nan,
            heat_inside=heat_inside(heats[name], regions) if len(lesions) else math.nan,
            scores=np.ones(1),
            found=_centres_within(centre, lesions),
        )
    return marks


def breast_in(pixels: Pixels) -> NDArray[np.bool_]:
    """Return the mask of the breast without pixels of 0, H W."""
    return breast_mask(pixels) & (pixels > 0)


def boxes_there(boxes: NDArray[np.floating[Any]]) -> Floats:
    """Return the boxes without the rows of NaN, K 4."""
    return np.asarray(boxes[~np.isnan(boxes).any(axis=1)], np.float64)


def lesion_regions(
    boxes: Floats, shape: tuple[int, ...], mask: NDArray[np.uint8] | None = None
) -> NDArray[np.bool_]:
    """Return the pixels of each lesion, K H W.

    Args:
        boxes: K 4, without NaN.
        shape: H and W.
        mask: H W, 0 outside lesions.
    """
    regions = np.zeros((len(boxes), *shape), bool)
    for region, box in zip(regions, boxes, strict=True):
        left, top = np.maximum(np.floor(box[:2]), 0).astype(int)
        right, bottom = np.maximum(np.ceil(box[2:]), 0).astype(int)
        part = np.s_[top:bottom, left:right]
        region[part] = True
        if mask is not None and (marked := mask[part] > 0).any():
            region[part] = marked
    return regions


def peak(heat: NDArray[Any]) -> tuple[int, int] | None:
    """Return row and column of the maximum; of equal maxima, the one nearest to their centre.

    Args:
        heat: H W.

    Returns:
        Row and column; None if no value is above 0.
    """
    highest = heat.max()
    if not highest > 0:
        return None
    # several times faster than np.argwhere if the maximum has few pixels
    places = np.stack(np.divmod(np.flatnonzero(heat == highest), heat.shape[1]), axis=1)
    distances = np.square(places - places.mean(axis=0)).sum(axis=1)
    row, column = places[distances.argmin()]
    return int(row), int(column)


def hits(point: tuple[int, int], regions: NDArray[np.bool_], *, tolerance: float = 0.0) -> bool:
    """Return whether a point lies in a lesion, as in the pointing game.

    Zhang et al. 2018, Top-down neural attention by excitation backprop, IJCV 126:1084 (with a tolerance of 15
    pixels on photographs).

    Args:
        point: row and column.
        regions: K H W.
        tolerance: greatest distance from the nearest pixel of a lesion.
    """
    if not tolerance:
        return bool(regions[:, point[0], point[1]].any())
    places = np.argwhere(regions.any(axis=0))
    return bool((np.square(places - np.array(point)).sum(axis=1) <= tolerance**2).any())


def predicted_boxes(heat: NDArray[np.float32], *, share: float = SHARE) -> tuple[Floats, Floats]:
    """Return boxes around the hot regions and their scores, in descending order of the score.

    A region is an 8-connected component of the pixels whose heat is at least a share of the map's maximum.
    Zhou et al. 2016, Learning deep features for discriminative localization, use a share of 0.2 and only the
    largest region.

    Args:
        heat: H W, 0 or more.
        share: fraction of the map's maximum, above 0 and at most 1.

    Returns:
        Boxes, M 4, in pixels, and the maximum of each region, M. M is 0 if no value is above 0.
    """
    import cv2

    highest = heat.max()
    if not highest > 0:
        return np.zeros((0, 4)), np.zeros(0)
    hot = ((heat >= share * highest) & (heat > 0)).view(np.uint8)
    # labelling the regions is the slowest step: crop to the rectangle around the hot pixels
    x, y, wide, tall = cv2.boundingRect(hot)
    hot, heat = hot[y : y + tall, x : x + wide], heat[y : y + tall, x : x + wide]
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(hot, connectivity=8)
    left, top, width, height, area = statistics[1:].T  # without the background
    boxes = np.stack([left, top, left + width, top + height], axis=1)
    scores = np.zeros(len(boxes))
    for index, (x_min, y_min, x_max, y_max) in enumerate(boxes):
        part = np.s_[y_min:y_max, x_min:x_max]
        scores[index] = heat[part][labels[part] == index + 1].max()
    order = np.lexsort((-area, -scores))
    return boxes[order] + np.array([x, y, x, y], np.float64), scores[order]


def best_iou(boxes: Floats, scores: Floats, lesions: Floats) -> float:
    """Return the intersection over union of the best-scoring box with the lesion that it overlaps most.

    Args:
        boxes: M 4.
        scores: M.
        lesions: K 4, with K at least 1.

    Returns:
        Intersection over union; 0 if there is no box.
    """
    if not len(boxes):
        return 0.0
    best = boxes[scores.argmax()]
    sides = np.minimum(best[2:], lesions[:, 2:]) - np.maximum(best[:2], lesions[:, :2])
    shared = sides.clip(0).prod(axis=1)
    areas = (lesions[:, 2:] - lesions[:, :2]).clip(0).prod(axis=1) + (best[2:] - best[:2]).prod()
    return float((shared / (areas - shared)).max())


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


def _place(inside: NDArray[np.bool_], number: int) -> tuple[int, int]:
    """Return row and column of the pixel with this number, counted from 0 row by row inside the mask."""
    before = np.count_nonzero(inside, axis=1).cumsum()
    row = int(np.searchsorted(before, number, side="right"))
    return row, int(np.flatnonzero(inside[row])[number - before[row]])


def _centres_within(centres: Floats, lesions: Floats) -> NDArray[np.bool_]:
    """Return whether each centre (M 2, x and y) lies in the box of each lesion (K 4), M K.

    This is the criterion of Ribli et al. 2018, Detecting and classifying lesions in mammograms with deep
    learning, Scientific Reports 8:4165. It penalises large boxes less than a minimum IoU does.
    """
    at = centres[:, None]
    return np.asarray(((lesions[:, :2] <= at) & (at <= lesions[:, 2:])).all(axis=2))


def _cut(boxes: Floats, shape: tuple[int, ...]) -> Floats:
    """Clip boxes to the image, because the boxes of a store may exceed it."""
    height, width = shape
    return boxes.clip(0, [width, height, width, height])
