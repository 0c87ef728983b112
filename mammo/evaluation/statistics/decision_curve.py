"""Decision curve: net benefit of acting on the scores, on all and on none, by threshold probability."""

import numpy as np
from numpy.typing import NDArray

from mammo.evaluation.statistics.weighted_metrics import Floats


def net_benefit(
    probability: Floats, labels: NDArray[np.int64], weights: Floats, *, thresholds: Floats
) -> tuple[Floats, Floats]:
    """Return the net benefit of the model and of calling all positive, each R T; that of none is 0.

    True positives minus false positives times the odds of the threshold, per image (Vickers and Elkin 2006,
    Decision curve analysis: a novel method for evaluating prediction models, Medical Decision Making 26:565).

    Args:
        probability: N, probabilities of the positive class.
        labels: N, 1 for positive and 0 for negative.
        weights: R N.
        thresholds: T, probabilities above 0 and below 1; a case is called positive at or above them.
    """
    odds = thresholds / (1 - thresholds)
    value = np.where(labels[:, None] == 1, 1.0, -odds)  # N T, of calling a case positive
    called = probability[:, None] >= thresholds
    total = weights.sum(axis=1, keepdims=True)
    return np.asarray(weights @ (called * value) / total), np.asarray(weights @ value / total)
