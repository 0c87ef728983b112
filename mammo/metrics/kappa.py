"""Agreement of predicted and true classes that have an order: Cohen's kappa with quadratic weights."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def quadratic_kappa(labels: ArrayLike, called: ArrayLike) -> float:
    """Returns Cohen's kappa with quadratic weights (Cohen 1968, Psychological Bulletin 70:213).

    A disagreement of k classes weighs k squared. 1 is perfect agreement and 0 the agreement by chance of two
    raters with these frequencies of classes.

    Args:
        labels: N, index of the true class in the order of the classes.
        called: N, index of the predicted class.

    Returns:
        The kappa; NaN without images, or if all have one class and are predicted so.

    Example:
        >>> round(quadratic_kappa([0, 1, 2, 3], [0, 1, 3, 3]), 3)
        0.917
    """
    return float(weighted_quadratic_kappa(labels, called, np.ones((1, np.size(labels))))[0])


def weighted_quadratic_kappa(
    labels: ArrayLike, called: ArrayLike, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns R values of `quadratic_kappa`, one for each weighting of the images.

    Args:
        labels: N, index of the true class.
        called: N, index of the predicted class.
        weights: R N, how often each image counts.
    """
    true, found = np.asarray(labels, np.float64), np.asarray(called, np.float64)
    observed = weights @ (true - found) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        product = (weights @ true) * (weights @ found) / weights.sum(axis=1)
        expected = weights @ (true**2 + found**2) - 2 * product
        return np.asarray(np.where(expected > 0, 1 - observed / expected, np.nan))
