"""Intervals of the AUC, which respect the patients."""

import math

import numpy as np
import pytest

from mammo.metrics import (
    auc,
    auc_difference,
    clustered_auc,
    clustered_covariance,
    clustered_multiclass_auc,
    mean_fold_auc,
    multiclass_auc,
)


def delong_error(scores: np.ndarray, labels: np.ndarray) -> float:
    """DeLong et al. 1988, from the definition."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    psi = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    return math.sqrt(psi.mean(1).var(ddof=1) / positive.size + psi.mean(0).var(ddof=1) / negative.size)


def test_clustered_auc_is_delongs_where_each_patient_has_one_image() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    scores = rng.normal(size=200) + labels
    estimate = clustered_auc(scores, labels, np.arange(200))
    # with one image per cluster, positives and negatives have no covariance
    assert estimate.standard_error == pytest.approx(delong_error(scores, labels), rel=1e-9)
    assert estimate.low < estimate.value < estimate.high


def test_an_image_shown_twice_says_nothing_new() -> None:
    rng = np.random.default_rng(1)
    labels = np.arange(100) % 2
    scores = rng.normal(size=100) + labels
    once = clustered_auc(scores, labels, np.arange(100))
    twice = clustered_auc(np.tile(scores, 2), np.tile(labels, 2), np.tile(np.arange(100), 2))
    assert twice.value == pytest.approx(once.value)
    assert twice.standard_error == pytest.approx(once.standard_error, rel=1e-9)


def test_interval_covers_the_truth_with_correlated_images() -> None:
    """4 images of each patient share most of their score; the naive interval is too narrow."""
    rng = np.random.default_rng(2)
    truth = 0.7602499389  # AUC of normals one standard deviation apart: Phi(1 / sqrt(2))
    covered, naive = 0, 0
    for _ in range(400):
        patients = np.repeat(np.arange(80), 4)
        labels = (patients % 2).astype(int)
        shared = rng.normal(size=80)[patients]
        scores = np.sqrt(0.8) * shared + np.sqrt(0.2) * rng.normal(size=320) + labels
        by_patient = clustered_auc(scores, labels, patients)
        by_image = clustered_auc(scores, labels, np.arange(320))
        covered += by_patient.low <= truth <= by_patient.high
        naive += by_image.low <= truth <= by_image.high
    assert 0.91 <= covered / 400 <= 0.98
    assert naive / 400 < 0.85


@pytest.mark.parametrize("women", [4, 40, 400])
def test_perfect_scores_have_a_lower_bound_that_rises_with_the_number_of_patients(women: int) -> None:
    labels = np.arange(women) % 2
    estimate = clustered_auc(labels + np.linspace(0, 0.1, women), labels, np.arange(women))
    assert (estimate.value, estimate.high) == (1, 1)
    fewer = women // 2
    half = clustered_auc(labels[:fewer], labels[:fewer], np.arange(fewer))
    assert (math.isnan(half.low) and women == 4) or half.low < estimate.low < 1
    worst = clustered_auc(-labels, labels, np.arange(women))
    assert (worst.low, worst.high) == pytest.approx((0, 1 - estimate.low))


def test_interval_of_reversed_scores_is_reflected() -> None:
    rng = np.random.default_rng(5)
    labels, patients = (np.arange(90) % 3 == 0).astype(int), np.arange(90) // 2
    scores = rng.normal(size=90) + labels
    up, down = clustered_auc(scores, labels, patients), clustered_auc(-scores, labels, patients)
    assert (down.low, down.high) == pytest.approx((1 - up.high, 1 - up.low))


def test_a_class_in_one_patient_has_no_interval() -> None:
    estimate = clustered_auc([0.1, 0.2, 0.3, 0.9], [0, 0, 1, 1], [0, 1, 2, 2])
    assert estimate.value == 1
    assert math.isnan(estimate.low)


def test_error_is_that_of_the_jackknife_over_patients() -> None:
    """Patients have between one and five images; the influence is linear, so the two agree closely."""
    rng = np.random.default_rng(6)
    patients = np.repeat(np.arange(120), rng.integers(1, 6, size=120))
    labels = (patients % 3 == 0).astype(int)
    scores = rng.normal(size=120)[patients] + rng.normal(size=patients.size) + labels
    left_out = np.array([auc(scores[patients != p], labels[patients != p]) for p in range(120)])
    jackknife = np.sqrt(119 / 120 * ((left_out - left_out.mean()) ** 2).sum())
    assert clustered_auc(scores, labels, patients).standard_error == pytest.approx(jackknife, rel=0.02)


def test_mean_of_folds_compares_scores_within_a_fold() -> None:
    rng = np.random.default_rng(7)
    patients, folds = np.arange(300), np.arange(300) % 3
    labels = (rng.random(300) < 0.3).astype(int)
    scores = rng.normal(size=300) + labels
    areas = [auc(scores[folds == fold], labels[folds == fold]) for fold in range(3)]
    estimate = mean_fold_auc(scores, labels, patients, folds)
    assert estimate.value == pytest.approx(np.mean(areas))
    shifted = mean_fold_auc(scores + 100 * folds, labels, patients, folds)
    assert vars(shifted) == pytest.approx(vars(estimate))
    one = mean_fold_auc(scores, labels, patients, np.zeros(300))
    assert vars(one) == pytest.approx(vars(clustered_auc(scores, labels, patients)))


def test_a_fold_of_one_class_is_left_out() -> None:
    rng = np.random.default_rng(8)
    labels, folds = np.r_[np.arange(40) % 2, np.zeros(10, int)], np.repeat([0, 1, 2], [20, 20, 10])
    scores = rng.normal(size=50) + labels
    all_three = mean_fold_auc(scores, labels, np.arange(50), folds)
    assert vars(all_three) == vars(mean_fold_auc(scores[:40], labels[:40], np.arange(40), folds[:40]))
    assert math.isnan(mean_fold_auc(scores[40:], labels[40:], np.arange(10), folds[40:]).value)


def test_multiclass_interval_covers_the_truth() -> None:
    """The 2 images of each patient share most of their scores and may differ in class."""
    rng = np.random.default_rng(3)
    truth = 0.7602499389  # AUC of each class, normals one standard deviation apart: Phi(1 / sqrt(2))
    covered, naive, patients = 0, 0, np.repeat(np.arange(100), 2)
    for _ in range(400):
        labels = rng.integers(4, size=100)[patients]
        labels = np.where(rng.random(200) < 0.2, rng.integers(4, size=200), labels)
        shared = rng.normal(size=(100, 4))[patients]
        scores = np.sqrt(0.8) * shared + np.sqrt(0.2) * rng.normal(size=(200, 4)) + np.eye(4)[labels]
        by_patient = clustered_multiclass_auc(scores, labels, patients)
        by_image = clustered_multiclass_auc(scores, labels, np.arange(200))
        assert by_patient.value == pytest.approx(multiclass_auc(scores, labels))
        covered += by_patient.low <= truth <= by_patient.high
        naive += by_image.low <= truth <= by_image.high
    assert 0.92 <= covered / 400 <= 0.98
    assert naive / 400 < 0.92


def test_difference_of_two_models_is_delongs_where_each_patient_has_one_image() -> None:
    rng = np.random.default_rng(10)
    labels = np.arange(300) % 2
    shared = rng.normal(size=300) + labels
    first, second = shared + 0.5 * rng.normal(size=300), shared + rng.normal(size=300)
    estimate, p = auc_difference(first, second, labels, np.arange(300))
    covariance = clustered_covariance(np.stack([first, second], axis=1), labels, np.arange(300))
    assert estimate.value == pytest.approx(auc(first, labels) - auc(second, labels))
    expected = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert estimate.standard_error == pytest.approx(expected, rel=1e-9)
    assert (estimate.low > 0 or estimate.high < 0) == (p < 0.05)
    back, same_p = auc_difference(second, first, labels, np.arange(300))
    assert (back.value, back.low, back.high) == pytest.approx(
        (-estimate.value, -estimate.high, -estimate.low)
    )
    assert same_p == pytest.approx(p)


def test_models_of_equal_ranking_do_not_differ() -> None:
    scores, labels = np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])
    estimate, p = auc_difference(scores, np.exp(scores), labels, np.arange(4))
    assert (estimate.value, estimate.low, estimate.high, p) == (0, 0, 0, 1)
    assert math.isnan(auc_difference(scores, scores, [0, 0, 0, 1], np.arange(4))[1])
