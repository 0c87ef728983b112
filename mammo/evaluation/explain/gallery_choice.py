"""Choose the samples whose pictures a report shows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo.data.samples import SIDES

WORST = "worst error"
_Kinds = Mapping[str, tuple[NDArray[np.bool_], NDArray[np.float64]]]  # members, order: the least first


def choose_gallery(
    labels: NDArray[np.int64],
    scores: NDArray[np.float64],
    threshold: float | None,
    *,
    examples: int = 12,
    errors: int = 20,
) -> list[tuple[int, str]]:
    """Choose the most informative samples and the worst errors; no sample is chosen twice.

    Args:
        labels: N, 1 for malignant and 0 for benign.
        scores: scores of malignancy, N.
        threshold: lowest score that is classified as malignant; None if there is none.
        examples: maximum number of samples that are shown for another reason than an error.
        errors: maximum number of errors.

    Returns:
        Index and reason of each sample, sorted by reason: in equal numbers, if there are enough, the surest
        true positives, the surest true negatives and those nearest to the threshold; then the worst errors,
        whose log odds are farthest from those of the threshold. Without a threshold there are no errors, and
        the highest and lowest scores are shown.
    """
    if threshold is None:
        every = np.ones(len(labels), bool)
        return _in_turn({"highest score": (every, -scores), "lowest score": (every, scores)}, examples)
    called, right = scores >= threshold, (scores >= threshold) == (labels == 1)
    distance = np.abs(_log_odds(scores) - _log_odds(np.array(threshold)))
    worst = _in_turn({WORST: (~right, -distance)}, errors)
    left = ~np.isin(np.arange(len(labels)), [index for index, _ in worst])
    kinds = {
        "surest true positive": (called & right, -scores),
        "surest true negative": (~called & right, scores),
        "nearest to the threshold": (left, distance),
    }
    return _in_turn(kinds, examples) + worst


def choose_class_gallery(
    labels: NDArray[np.int64], scores: NDArray[np.float64], *, examples: int = 12, errors: int = 20
) -> list[tuple[int, str]]:
    """Choose the most informative samples of a task without a positive class, see `choose_gallery`.

    Args:
        labels: N, index of the true class.
        scores: N C.
        examples: maximum number of samples that are shown for another reason than an error.
        errors: maximum number of errors.

    Returns:
        Index and reason of each sample: the surest right ones and the least sure ones, then the surest wrong
        ones as the worst errors.
    """
    highest, right = scores.max(axis=1), scores.argmax(axis=1) == labels
    worst = _in_turn({WORST: (~right, -highest)}, errors)
    left = ~np.isin(np.arange(len(labels)), [index for index, _ in worst])
    kinds = {"surest right class": (right, -highest), "least sure": (left, highest)}
    return _in_turn(kinds, examples) + worst


def other_breasts(images: pd.DataFrame) -> dict[int, int]:
    """Return, for each image with one, the first image of the same view and study of the other breast.

    Args:
        images: M rows of the images table.

    Returns:
        Index of the other image by that of the image, from 0 to M - 1.
    """
    study = images["study_date"] if "study_date" in images else pd.Series(pd.NA, index=images.index)
    keys = [
        *zip(images["patient_id"], images["view"].fillna(""), study.astype("string").fillna(""), strict=True)
    ]
    sides = images["laterality"].fillna("").tolist()
    first: dict[tuple[Any, str], int] = {}
    for index, (key, side) in enumerate(zip(keys, sides, strict=True)):
        first.setdefault((key, side), index)
    other = dict(zip(SIDES, SIDES[::-1], strict=True))
    found = {
        index: first.get((key, other.get(side, "none"))) if key[1] else None
        for index, (key, side) in enumerate(zip(keys, sides, strict=True))
    }
    return {index: place for index, place in found.items() if place is not None}


def _log_odds(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    inner = np.clip(scores, 1e-7, 1 - 1e-7)
    return np.asarray(np.log(inner / (1 - inner)))


def _in_turn(kinds: _Kinds, count: int) -> list[tuple[int, str]]:
    """Choose one sample for each reason in turn, in the order of its values, sorted by reason at the end."""
    queues = {
        reason: [index for index in np.argsort(order, kind="stable").tolist() if members[index]]
        for reason, (members, order) in kinds.items()
    }
    chosen: dict[int, str] = {}
    while len(chosen) < count and any(queues.values()):
        for reason, queue in queues.items():
            while queue and queue[0] in chosen:
                queue.pop(0)
            if queue and len(chosen) < count:
                chosen[queue.pop(0)] = reason
    order = list(kinds)
    return sorted(chosen.items(), key=lambda item: order.index(item[1]))
