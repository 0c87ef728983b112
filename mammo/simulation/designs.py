"""Random test sets with a known AUC, whose images of one woman are correlated."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from scipy.special import ndtr

from mammo.evaluation.statistics.weighted_metrics import PARTIAL_SPECIFICITY

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_IMAGES = (1, 2, 2, 2, 4)  # of a woman, drawn with equal probability, as in CBIS-DDSM


@dataclass(frozen=True)
class Design:
    """A kind of test set.

    Attributes:
        women: number of women.
        malignant: number of women with malignant images; all images of a woman have one label.
        auc: true AUC of the scores.
        correlation: correlation of the scores of two images of a woman, given the label.
    """

    women: int
    malignant: int
    auc: float
    correlation: float


def midway(design: Design) -> float:
    """Return the threshold midway between the means of the two classes."""
    return NormalDist().inv_cdf(design.auc) / math.sqrt(2)


def true_metrics(design: Design) -> dict[str, float]:
    """Return the metrics of the population by numerical integration, at the threshold `midway`."""
    points = np.linspace(-9, 12, 100_001)[::-1]
    recall, alarms = ndtr(2 * midway(design) - points), ndtr(-points)
    prevalence = design.malignant / design.women
    precision = prevalence * recall / (prevalence * recall + (1 - prevalence) * alarms)
    reach = 1 - PARTIAL_SPECIFICITY
    partial = trapezoid(np.where(alarms <= reach, recall, 0), alarms)
    right = float(ndtr(midway(design)))  # sensitivity, and specificity
    hits, rejections = prevalence * right, (1 - prevalence) * right
    calls = hits + (1 - prevalence) * (1 - right)
    return {
        "average_precision": float(trapezoid(precision, recall)),
        "partial_auc": float(0.5 * (1 + (partial - reach**2 / 2) / (reach - reach**2 / 2))),
        "sensitivity": right,
        "specificity": right,
        "accuracy": right,
        "balanced_accuracy": right,
        "ppv": hits / calls,
        "npv": rejections / (1 - calls),
        "f1": 2 * hits / (prevalence + calls),
    }


def draw(design: Design, rng: np.random.Generator, *, models: int = 1) -> tuple[Floats, Ints, Ints]:
    """Draw a test set with scores of equal variance, and of equal AUC for all models.

    Args:
        design: kind of test set.
        rng: random number generator.
        models: number of models, K; half of the variance of their scores is common.

    Returns:
        Scores, N K; labels, N; index of each image's woman, N.
    """
    woman = np.repeat(np.arange(design.women, dtype=np.int64), rng.choice(_IMAGES, size=design.women))
    labels = (woman < design.malignant).astype(np.int64)
    common = _correlated(rng, woman, design.correlation, 1)
    noise = (
        common
        if models == 1
        else (common + _correlated(rng, woman, design.correlation, models)) / math.sqrt(2)
    )
    distance = math.sqrt(2) * NormalDist().inv_cdf(design.auc)
    return noise + distance * labels[:, None], labels, woman


def _correlated(
    rng: np.random.Generator, woman: NDArray[np.int64], correlation: float, models: int
) -> Floats:
    """Return normal scores of variance 1, N K."""
    by_woman = rng.normal(size=(int(woman.max()) + 1, models))[woman]
    by_image = rng.normal(size=(woman.size, models))
    return np.asarray(math.sqrt(correlation) * by_woman + math.sqrt(1 - correlation) * by_image)
