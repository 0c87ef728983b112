import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from mammo.metrics import auc, clustered_auc, micro_chance, multiclass_auc

LABELS = arrays(int, st.integers(2, 40), elements=st.integers(0, 1)).filter(
    lambda labels: 0 < labels.mean() < 1
)


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    labels = draw(LABELS)
    scores = draw(arrays(float, labels.shape, elements=st.integers(0, 10).map(lambda n: n / 10)))
    return scores, labels


@pytest.mark.slow
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


@st.composite
def multiclass(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N C) with ties, and labels of at least two classes."""
    classes = draw(st.integers(2, 5))
    labels = draw(arrays(int, st.integers(2, 30), elements=st.integers(0, classes - 1)))
    labels[:2] = 0, classes - 1
    shares = draw(arrays(float, (labels.size, classes), elements=st.integers(1, 4)))
    return shares / shares.sum(1, keepdims=True), labels


@given(multiclass())
def test_micro_auc_is_that_of_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    probability, labels = case
    if probability.shape[1] == 2:  # scikit-learn treats two columns as one binary label
        expected = roc_auc_score(np.eye(2)[labels].ravel(), probability.ravel())
    else:
        columns = range(probability.shape[1])
        expected = roc_auc_score(labels, probability, multi_class="ovr", average="micro", labels=columns)
    assert multiclass_auc(probability, labels, average="micro") == pytest.approx(expected)


@pytest.mark.slow
@given(multiclass())
def test_macro_auc_is_that_of_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    probability, labels = case
    there = np.unique(labels)
    hits = np.eye(probability.shape[1])[labels]
    expected = np.mean([roc_auc_score(hits[:, c], probability[:, c]) for c in there])
    assert multiclass_auc(probability, labels) == pytest.approx(expected)
    if there.size == probability.shape[1] > 2:
        by_sklearn = roc_auc_score(labels, probability, multi_class="ovr", average="macro")
        assert expected == pytest.approx(by_sklearn)


def test_macro_auc_of_one_class_is_undefined() -> None:
    assert math.isnan(multiclass_auc([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]], [2, 2]))


def test_chance_of_the_micro_auc_is_that_of_constant_shares() -> None:
    rng = np.random.default_rng(9)
    labels = rng.choice(4, size=4000, p=[0.5, 0.3, 0.15, 0.05])
    shares = np.tile(np.bincount(labels) / labels.size, (labels.size, 1))
    expected = roc_auc_score(np.eye(4)[labels].ravel(), shares.ravel())
    assert micro_chance(labels, 4) == pytest.approx(expected)
    assert micro_chance(labels, 4) > 0.7
    assert multiclass_auc(shares, labels) == 0.5
    assert micro_chance(np.arange(100) % 4, 4) == pytest.approx(0.5)
