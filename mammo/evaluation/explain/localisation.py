"""Whether a heatmap finds the lesions: pointing game, overlap, heat inside and FROC, against two baselines.

Pixels are those of the prepared image. A lesion is the part of its box that the mask marks, or the whole box
where the mask marks nothing in it or there is none; a box takes in every pixel that it touches.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo.data.images.breast import breast_mask
from mammo.data.images.dicom import Pixels

Floats = NDArray[np.float64]

# Of the map's maximum, above which a pixel belongs to a predicted box.
SHARE = 0.5
BASELINES = ("brightest", "random")


@dataclass(frozen=True)
class Marks:
    """Result of one method on one image, compared with the lesions of the image.

    Attributes:
        hit: 1 where its point lies in a lesion, else 0; NaN in an image without lesions, like the next two.
        iou: overlap of its best box with the lesion nearest to it; NaN also where it has no boxes.
        heat_inside: share of its heat within lesions.
        scores: M, of its candidates.
        found: M K, whether a candidate's centre lies in a lesion's box.
    """

    hit: float
    iou: float
    heat_inside: float
    scores: Floats
    found: NDArray[np.bool_]

    @property
    def lesions(self) -> int:
        """K, of the image."""
        return int(self.found.shape[1])


def mark_heat(
    heat: NDArray[np.float32],
    boxes: NDArray[np.floating[Any]],
    mask: NDArray[np.uint8] | None = None,
    *,
    share: float = SHARE,
    tolerance: float = 0.0,
) -> Marks:
    """Hold a heatmap against the lesions of its image.

    A map that is 0 everywhere points nowhere: it hits nothing, has no box and no heat inside.

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

    It is the one candidate of the image, and its centre the point. As heat it is the same on every pixel that
    it touches, whence the share inside is of its area, and that of the baseline `random` what a box around
    the whole breast would have.

    Args:
        box: 4, in pixels.
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
    # a centre on the far edge belongs to the last pixel
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
    """What a method is worth that does not look for lesions: the brightest point, and one at random.

    Both lie within the breast and are the one candidate of their image. The heat is the grey values for
    `brightest` and the same everywhere for `random`, whose share inside is that of the lesions in the breast.

    Args:
        pixels: H W, of the prepared image.
        boxes: K 4 in pixels, rows of NaN for no lesion.
        mask: H W, 0 outside lesions.
        rng: draws the random point.
        breast: H W; None for `breast_in`.
        tolerance: see `hits`.

    Returns:
        `brightest` and `random`.
    """
    inside = breast_in(pixels) if breast is None else breast
    if not inside.any():
        inside = np.ones_like(inside)
    grey = pixels * inside
    random = _place(inside, int(rng.integers(np.count_nonzero(inside))))
    # where all is 0, any point of the breast is the brightest
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
    """H W, the breast without pixels of 0."""
    return breast_mask(pixels) & (pixels > 0)


def boxes_there(boxes: NDArray[np.floating[Any]]) -> Floats:
    """K 4, without the rows of NaN."""
    return np.asarray(boxes[~np.isnan(boxes).any(axis=1)], np.float64)


def lesion_regions(
    boxes: Floats, shape: tuple[int, ...], mask: NDArray[np.uint8] | None = None
) -> NDArray[np.bool_]:
    """K H W, the pixels of each lesion.

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
    """Row and column of the maximum; of several equal ones, of that nearest to their centre.

    Args:
        heat: H W.

    Returns:
        None where nothing is above 0.
    """
    highest = heat.max()
    if not highest > 0:
        return None
    # several times as fast as np.argwhere where few are
    places = np.stack(np.divmod(np.flatnonzero(heat == highest), heat.shape[1]), axis=1)
    distances = np.square(places - places.mean(axis=0)).sum(axis=1)
    row, column = places[distances.argmin()]
    return int(row), int(column)


def hits(point: tuple[int, int], regions: NDArray[np.bool_], *, tolerance: float = 0.0) -> bool:
    """The pointing game: whether a point lies in a lesion.

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
    """Boxes around the hot regions, and their scores, highest first.

    A region is a connected part, corners included, of what reaches a share of the map's maximum: Zhou et al.
    2016, Learning deep features for discriminative localization, who take a share of 0.2 and the largest
    region alone.

    Args:
        heat: H W, 0 or more.
        share: above 0, up to 1.

    Returns:
        M 4 in pixels, and M: the maximum of each region. None of either where nothing is above 0.
    """
    import cv2

    highest = heat.max()
    if not highest > 0:
        return np.zeros((0, 4)), np.zeros(0)
    hot = ((heat >= share * highest) & (heat > 0)).view(np.uint8)
    # within the rectangle around what is hot, for the counting by region costs most
    x, y, wide, tall = cv2.boundingRect(hot)
    hot, heat = hot[y : y + tall, x : x + wide], heat[y : y + tall, x : x + wide]
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(hot, connectivity=8)
    left, top, width, height, area = statistics[1:].T  # without what is not hot
    boxes = np.stack([left, top, left + width, top + height], axis=1)
    scores = np.zeros(len(boxes))
    for index, (x_min, y_min, x_max, y_max) in enumerate(boxes):
        part = np.s_[y_min:y_max, x_min:x_max]
        scores[index] = heat[part][labels[part] == index + 1].max()
    order = np.lexsort((-area, -scores))
    return boxes[order] + np.array([x, y, x, y], np.float64), scores[order]


def best_iou(boxes: Floats, scores: Floats, lesions: Floats) -> float:
    """Intersection over union of the best-scoring box with the lesion that it overlaps most.

    Args:
        boxes: M 4.
        scores: M.
        lesions: K 4, one at least.

    Returns:
        0 where there is no box.
    """
    if not len(boxes):
        return 0.0
    best = boxes[scores.argmax()]
    sides = np.minimum(best[2:], lesions[:, 2:]) - np.maximum(best[:2], lesions[:, :2])
    shared = sides.clip(0).prod(axis=1)
    areas = (lesions[:, 2:] - lesions[:, :2]).clip(0).prod(axis=1) + (best[2:] - best[:2]).prod()
    return float((shared / (areas - shared)).max())


def heat_inside(heat: NDArray[Any], regions: NDArray[np.bool_]) -> float:
    """Share of the heat within lesions, 0 of no heat.

    Wang et al. 2020, Score-CAM: score-weighted visual explanations for convolutional neural networks, the
    energy-based pointing game.

    Args:
        heat: H W, 0 or more.
        regions: K H W.
    """
    total = heat.sum(dtype=np.float64)
    return float(heat[regions.any(axis=0)].sum(dtype=np.float64) / total) if total > 0 else 0.0


def _place(inside: NDArray[np.bool_], number: int) -> tuple[int, int]:
    """Row and column of the so-manieth pixel inside, from 0, row by row."""
    before = np.count_nonzero(inside, axis=1).cumsum()
    row = int(np.searchsorted(before, number, side="right"))
    return row, int(np.flatnonzero(inside[row])[number - before[row]])


def _centres_within(centres: Floats, lesions: Floats) -> NDArray[np.bool_]:
    """M K: whether a centre (M 2, x and y) lies in a lesion's box (K 4).

    The criterion of Ribli et al. 2018, Detecting and classifying lesions in mammograms with deep learning,
    Scientific Reports 8:4165. It is milder to large boxes than a least IoU.
    """
    at = centres[:, None]
    return np.asarray(((lesions[:, :2] <= at) & (at <= lesions[:, 2:])).all(axis=2))


def _cut(boxes: Floats, shape: tuple[int, ...]) -> Floats:
    """Boxes within the image: those of a store are not cut to it."""
    height, width = shape
    return boxes.clip(0, [width, height, width, height])
