"""Level of the scores, log loss and predictive values against scikit-learn, brute force and Bayes."""

import math

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given
from hypothesis import strategies as st

from mammo.evaluation.statistics.clinical_metrics import (
    ClinicalMetrics,
    calibration_in_the_large,
    predictive_values,
)
from mammo.evaluation.statistics.weighted_metrics import BinaryMetrics, expit, logistic_fit, logit


def cohort(seed: int, *, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are true probabilities, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    scores = expit(2 * rng.normal(size=count) - 1)
    return scores, (rng.random(count) < scores).astype(int)


def bisected(scores: np.ndarray, labels: np.ndarray) -> float:
    """The shift of the log odds at which the mean score is the share of positives, by bisection."""
    low, high = -30.0, 30.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if expit(logit(scores) + middle).mean() > labels.mean() else (middle, high)
    return low


def test_weights_are_repetitions_and_the_values_are_those_of_the_references() -> None:
    scores, labels = cohort(0, count=120)
    calibrated = expit(0.5 * logit(scores) - 1)
    weights = np.random.default_rng(1).integers(0, 4, size=(6, 120)).astype(float)
    found = ClinicalMetrics(BinaryMetrics(scores, labels, calibrated=calibrated))(weights)
    for row, weight in enumerate(weights.astype(int)):
        truth = np.repeat(labels, weight)
        for suffix, given_scores in (("", scores), ("_calibrated", calibrated)):
            repeated = np.repeat(given_scores, weight)
            assert found[f"log_loss{suffix}"][row] == pytest.approx(reference.log_loss(truth, repeated))
            ratio = truth.sum() / repeated.sum()
            assert found[f"observed_expected_ratio{suffix}"][row] == pytest.approx(ratio)
            assert found[f"calibration_in_the_large{suffix}"][row] == pytest.approx(
                bisected(repeated, truth), abs=1e-6
            )


def test_extreme_scores_do_not_keep_the_intercept_from_its_solution() -> None:
    scores, labels = np.array([0.0, 1.0, 1e-30, 0.999999, 0.2]), np.array([1, 0, 1, 0, 1])
    found = calibration_in_the_large(logit(scores), labels, np.ones((3, 5)))
    assert found == pytest.approx([bisected(scores, labels)] * 3, abs=1e-5)


def test_scores_of_the_right_level_but_too_extreme_are_not_called_too_high() -> None:
    """The joint fit has the intercept -1 here, though the mean score equals the share of positives."""
    rng = np.random.default_rng(3)
    true_log_odds = rng.normal(size=200_000) - 1
    labels = (rng.random(200_000) < expit(true_log_odds)).astype(int)
    extreme = expit(2 * true_log_odds)
    level = calibration_in_the_large(logit(extreme), labels, np.ones((1, len(labels))))[0]
    moved = expit(logit(extreme) + level)
    assert moved.mean() == pytest.approx(labels.mean(), abs=1e-6)
    slope, joint = (float(part[0]) for part in logistic_fit(logit(moved), labels, np.ones((1, len(labels)))))
    assert slope == pytest.approx(0.5, abs=0.02)
    assert abs(joint) > 0.3
    again = calibration_in_the_large(logit(moved), labels, np.ones((1, len(labels))))[0]
    assert again == pytest.approx(0, abs=1e-6)


@given(st.floats(-3, 3))
def test_a_shift_of_the_log_odds_shifts_the_intercept_back(shift: float) -> None:
    scores, labels = cohort(4)
    log_odds, weights = logit(scores), np.ones((1, len(labels)))
    plain = calibration_in_the_large(log_odds, labels, weights)[0]
    assert calibration_in_the_large(log_odds + shift, labels, weights)[0] == pytest.approx(
        plain - shift, abs=1e-6
    )


def test_of_one_class_the_intercept_is_undefined() -> None:
    weights = np.array([[1.0, 1, 1], [0, 1, 1], [1, 0, 0], [0, 0, 0]])
    found = calibration_in_the_large(logit(np.array([0.2, 0.4, 0.7])), np.array([1, 0, 0]), weights)
    assert np.isnan(found).tolist() == [False, True, True, True]


def test_predictive_values_at_the_own_prevalence_are_those_of_the_images() -> None:
    scores, labels = cohort(5)
    weights = np.random.default_rng(2).integers(0, 3, size=(5, len(labels))).astype(float)
    for row in weights[:, None]:
        share = float(row[0] @ labels / row.sum())
        found = ClinicalMetrics(BinaryMetrics(scores, labels, threshold=0.4), prevalence=share)(row)
        assert found["ppv_at_prevalence"] == pytest.approx(found["ppv"])
        assert found["npv_at_prevalence"] == pytest.approx(found["npv"])


def test_predictive_values_in_screening_by_counting() -> None:
    """Of 100,000 women 600 are ill; 540 of them and 9,940 of the 99,400 others are called."""
    ppv, npv = predictive_values(np.array([0.9]), np.array([0.9]), prevalence=0.006)
    assert ppv == pytest.approx([540 / (540 + 9940)])
    assert npv == pytest.approx([89460 / (89460 + 60)])


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(0.001, 0.999))
def test_odds_after_the_test_are_those_before_times_the_likelihood_ratio(
    sensitivity: float, specificity: float, prevalence: float
) -> None:
    ppv, npv = predictive_values(np.array([sensitivity]), np.array([specificity]), prevalence=prevalence)
    before = prevalence / (1 - prevalence)
    assert ppv[0] / (1 - ppv[0]) == pytest.approx(before * sensitivity / (1 - specificity))
    assert (1 - npv[0]) / npv[0] == pytest.approx(before * (1 - sensitivity) / specificity)


def test_without_threshold_there_are_no_predictive_values() -> None:
    found = ClinicalMetrics(BinaryMetrics(*cohort(6)), prevalence=0.1)(np.ones((1, 400)))
    for name in ("ppv", "npv", "ppv_at_prevalence", "npv_at_prevalence", "positive_likelihood_ratio"):
        assert math.isnan(found[name][0]), name
    assert "ppv_at_prevalence" not in ClinicalMetrics(BinaryMetrics(*cohort(6)))(np.ones((1, 400)))
