import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from mammo.metrics import EpochScores, auc, clustered_auc

LABELS = arrays(int, st.integers(2, 40), elements=st.integers(0, 1)).filter(
    lambda labels: 0 < labels.mean() < 1
)


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    labels = draw(LABELS)
    scores = draw(arrays(float, labels.shape, elements=st.integers(0, 10).map(lambda n: n / 10)))
    return scores, labels


@given(scored())
def test_auc_is_that_of_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = case
    assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


@given(scored())
def test_auc_depends_on_the_order_of_the_scores_alone(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = case
    assert auc(np.exp(3 * scores), labels) == pytest.approx(auc(scores, labels))
    assert auc(-scores, labels) == pytest.approx(1 - auc(scores, labels))


@pytest.mark.parametrize("labels", [[0, 0], [1, 1], []])
def test_auc_of_one_class_is_undefined(labels: list[int]) -> None:
    assert math.isnan(auc([0.5] * len(labels), labels))
    assert math.isnan(clustered_auc([0.5] * len(labels), labels, list(range(len(labels)))).standard_error)


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
    # the covariance of a positive with a negative cluster is nil but for n / (n - 1)
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
    truth = 0.7602499389  # of normals one deviation apart: Phi(1 / sqrt(2))
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


def test_perfect_scores_have_no_interval() -> None:
    estimate = clustered_auc([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], [0, 1, 2, 3])
    assert estimate.value == 1
    assert math.isnan(estimate.low)


def test_epoch_scores_gather_batches() -> None:
    scores = EpochScores()
    scores.update(torch.tensor(1.0), torch.tensor([0.9, 0.2]), torch.tensor([1, 0]), torch.tensor([0, 1]))
    scores.update(torch.tensor(4.0), torch.tensor([0.6]), torch.tensor([0]), torch.tensor([2]))
    values = {name: float(value) for name, value in scores.compute().items()}
    assert values == pytest.approx({"loss": 2.0, "auc": 1.0, "accuracy": 2 / 3})
    assert scores.gathered()[2].tolist() == [0, 1, 2]
