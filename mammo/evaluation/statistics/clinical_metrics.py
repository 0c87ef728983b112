"""Metrics for the use of a classifier: level of its scores, log loss, predictive values at a prevalence.

Like those of `weighted_metrics`, they are computed for many weightings of the same images at once.
"""

import numpy as np
from numpy.typing import NDArray

from mammo.evaluation.statistics.weighted_metrics import BinaryMetrics, Floats, logit

_NEWTON_STEPS = 50
# Largest step of Newton's method, in log odds.
_LONGEST_STEP = 2.0


def calibration_in_the_large(log_odds: Floats, labels: NDArray[np.int64], weights: Floats) -> Floats:
    """Return R intercepts of the logistic regression whose offset is the log odds of the score (slope 1).

    0 for scores whose level is right; below 0 the scores are too high, above 0 too low (Cox 1958, Two further
    applications of a model for binary regression, Biometrika 45:562; Van Calster et al. 2019, Calibration:
    the Achilles heel of predictive analytics, BMC Medicine 17:230). The intercept of the fit with a free
    slope is another quantity: it depends on the slope, and differs from 0 for scores of the right level.

    Args:
        log_odds: N, log odds of the scores.
        labels: N, 1 for positive and 0 for negative.
        weights: R N.

    Returns:
        Intercepts; NaN where a class has no weight, because there is no finite solution.
    """
    positives, total = weights @ labels, weights.sum(axis=1)
    found = np.full(len(weights), np.nan)
    active = np.flatnonzero((positives > 0) & (positives < total))
    if not active.size:
        return found
    odds = np.exp(log_odds)
    at = np.zeros(len(weights))
    # start at the solution for equal weights of the images, near those of the resamples
    if len(weights) > 1:
        at[:] = np.nan_to_num(calibration_in_the_large(log_odds, labels, np.ones((1, len(labels)))))
    for _ in range(_NEWTON_STEPS):
        fitted = odds * np.exp(at[active])[:, None]
        fitted /= 1 + fitted
        held = weights[active] * fitted
        expected = held.sum(axis=1)
        slope = expected - np.einsum("rn,rn->r", held, fitted)
        step = np.clip((positives[active] - expected) / slope, -_LONGEST_STEP, _LONGEST_STEP)
        at[active] += step
        done = np.abs(step) < 1e-7  # the error that remains is of the order of its square
        found[active[done]] = at[active[done]]
        active = active[~done]
        if not active.size:
            break
    return found


def log_loss(log_odds: Floats, labels: NDArray[np.int64], weights: Floats) -> Floats:
    """Return R mean negative log likelihoods of the labels, in nats.

    Args:
        log_odds: N, log odds of the probabilities, finite.
        labels: N, 1 for positive and 0 for negative.
        weights: R N.
    """
    loss = np.logaddexp(0, np.where(labels == 1, -log_odds, log_odds))
    return np.asarray(weights @ loss / weights.sum(axis=1))


def predictive_values(
    sensitivity: Floats, specificity: Floats, *, prevalence: float
) -> tuple[Floats, Floats]:
    """Return the positive and negative predictive values at a prevalence, by Bayes' theorem.

    Sensitivity and specificity are taken as they are; they differ where the mix of cases differs.

    Args:
        sensitivity: R.
        specificity: R.
        prevalence: share of positives, between 0 and 1.

    Example:
        >>> ppv, npv = predictive_values(np.array([0.9]), np.array([0.9]), prevalence=0.1)
        >>> ppv.round(3).tolist(), npv.round(3).tolist()
        ([0.5], [0.988])
    """
    hits, misses = prevalence * sensitivity, prevalence * (1 - sensitivity)
    rejections, alarms = (1 - prevalence) * specificity, (1 - prevalence) * (1 - specificity)
    return np.asarray(hits / (hits + alarms)), np.asarray(rejections / (rejections + misses))


class ClinicalMetrics:
    """The metrics of `BinaryMetrics`, and those for the use of a classifier, by name, for each weighting.

    `log_loss`, `observed_expected_ratio` (number of positives divided by the sum of the scores) and
    `calibration_in_the_large` treat the scores as probabilities; with calibrated scores, they are also
    computed for those, under names that end with `_calibrated`. With a prevalence, `ppv_at_prevalence` and
    `npv_at_prevalence` are the predictive values at the threshold for that prevalence.

    Args:
        binary: scores, labels, threshold and calibrated scores.
        prevalence: share of positives where the classifier is to be used, between 0 and 1.
    """

    def __init__(self, binary: BinaryMetrics, *, prevalence: float | None = None) -> None:
        self._binary = binary
        self._prevalence = prevalence
        self._log_odds = {suffix: logit(scores) for suffix, scores in binary.probabilities.items()}

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        """Return R values of each metric, NaN where undefined.

        Args:
            weights: R N.
        """
        values = self._binary(weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            if self._prevalence is not None:
                values["ppv_at_prevalence"], values["npv_at_prevalence"] = predictive_values(
                    values["sensitivity"], values["specificity"], prevalence=self._prevalence
                )
            labels = self._binary.labels
            for suffix, log_odds in self._log_odds.items():
                expected = weights @ self._binary.probabilities[suffix]
                values[f"log_loss{suffix}"] = log_loss(log_odds, labels, weights)
                values[f"observed_expected_ratio{suffix}"] = (weights @ labels) / expected
                values[f"calibration_in_the_large{suffix}"] = calibration_in_the_large(
                    log_odds, labels, weights
                )
        return values
