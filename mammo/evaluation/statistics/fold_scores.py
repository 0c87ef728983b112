"""Scores of several folds, made comparable without the labels of the images."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def ranked_within_folds(scores: ArrayLike, folds: ArrayLike) -> NDArray[np.float64]:
    """Return each score's rank among the images of its fold, from 0 to 1.

    The network of each fold has its own scale, so scores of two folds cannot be compared. Ranks can, and
    they do not depend on labels: without information in the scores, the AUC of the pooled ranks is 0.5 on
    average (`python -m mammo.simulate study=folds`).

    Args:
        scores: N.
        folds: N, the fold whose network scored the image.

    Example:
        >>> ranked_within_folds([0.1, 0.9, 5.0, 7.0], [0, 0, 1, 1]).tolist()
        [0.25, 0.75, 0.25, 0.75]
    """
    scores, folds = np.asarray(scores, np.float64), np.asarray(folds)
    ranks = np.empty(len(scores))
    for fold in np.unique(folds):
        held = folds == fold
        own = np.sort(scores[held])
        below = np.searchsorted(own, scores[held], "left") + np.searchsorted(own, scores[held], "right")
        ranks[held] = below / (2 * own.size)
    return ranks
