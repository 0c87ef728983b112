"""The quadratic weighted kappa, against scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from mammo.metrics import quadratic_kappa
from mammo.metrics.kappa import weighted_quadratic_kappa

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=30)


@given(PAIRS)
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    labels, called = np.array(pairs).T
    found = quadratic_kappa(labels, called)
    if len(set(labels) | set(called)) == 1:
        assert math.isnan(found)
    else:
        expected = cohen_kappa_score(labels, called, labels=range(4), weights="quadratic")
        assert found == pytest.approx(expected, abs=1e-12)


@given(PAIRS, st.randoms(use_true_random=False))
def test_a_weight_counts_an_image_as_often(pairs: list[tuple[int, int]], random) -> None:
    labels, called = np.array(pairs).T
    weights = np.array([random.randint(0, 3) for _ in pairs])
    found = weighted_quadratic_kappa(labels, called, weights[None].astype(float))
    repeated = quadratic_kappa(np.repeat(labels, weights), np.repeat(called, weights))
    assert found[0] == pytest.approx(repeated, abs=1e-12, nan_ok=True)


def test_kappa_without_images_is_undefined() -> None:
    assert math.isnan(quadratic_kappa([], []))
