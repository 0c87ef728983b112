"""The area under the ROC curve of one score, and of several classes."""

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray


def auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Returns the area under the ROC curve: the probability that a positive scores above a negative.

    A tie counts as one half.

    Args:
        scores: N, higher for the positive class.
        labels: N, 1 for positive and 0 for negative.

    Returns:
        The AUC, or NaN if one class is absent.

    Example:
        >>> auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
        0.75
    """
    above, _ = placements(np.asarray(scores), np.asarray(labels))
    return float(above.mean()) if above.size and above.size < np.size(labels) else math.nan


def multiclass_auc(
    probability: ArrayLike, labels: ArrayLike, *, average: Literal["micro", "macro"] = "macro"
) -> float:
    """Returns one AUC for several classes, each against the rest.

    Args:
        probability: N C.
        labels: N, index of the class.
        average: `macro` is the mean over the classes; `micro` pools all pairs of image and class, so that
            frequent classes weigh more and its chance level is not 0.5, see `micro_chance`.

    Returns:
        The AUC. `macro` ignores absent classes, and is NaN if fewer than two classes are present; `micro` is
        NaN only if there are no images.

    Example:
        >>> multiclass_auc([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.5, 0.4, 0.1]], [0, 1, 2])
        0.6666666666666666
    """
    scores, hits = one_vs_rest(probability, labels)
    if average == "micro":
        return auc(scores.ravel(), hits.ravel())
    there = np.flatnonzero(hits.any(axis=0))
    return float(np.mean([auc(scores[:, c], hits[:, c]) for c in there])) if there.size > 1 else math.nan


def micro_chance(labels: ArrayLike, classes: int) -> float:
    """Returns the micro AUC of a network that gives every image the shares of the classes.

    It is the chance level of the micro AUC: 0.5 only if all classes are equally frequent.

    Args:
        labels: N, index of the class.
        classes: number of classes, C.

    Example:
        >>> micro_chance([0] * 50 + [1] * 30 + [2] * 15 + [3] * 5, 4)
        0.75
    """
    shares = np.bincount(np.asarray(labels), minlength=classes) / np.size(labels)
    return multiclass_auc(np.broadcast_to(shares, (np.size(labels), classes)), labels, average="micro")


def one_vs_rest(probability: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Returns the probability of each class, N C, and whether the image is of the class, N C."""
    scores = np.asarray(probability)
    return scores, np.asarray(labels)[:, None] == np.arange(scores.shape[1])


def placements(scores: NDArray[np.generic], labels: NDArray[np.generic]) -> tuple[NDArray[np.float64], ...]:
    """Returns the share of negatives below each positive, and of positives above each negative."""
    positive, negative = scores[labels == 1], scores[labels == 0]

    def share_below(values: NDArray[np.generic], others: NDArray[np.generic]) -> NDArray[np.float64]:
        others = np.sort(others)
        below = np.searchsorted(others, values, side="left") + np.searchsorted(others, values, side="right")
        return below / (2 * max(1, others.size))

    return share_below(positive, negative), 1 - share_below(negative, positive)
