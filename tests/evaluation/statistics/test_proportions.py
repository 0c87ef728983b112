"""Intervals of proportions: SciPy's Wilson interval, cases by hand, and coverage on clustered data."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from mammo.evaluation.statistics.proportions import clustered_wilson, wilson_interval


@given(st.integers(1, 400), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
@settings(max_examples=60, deadline=None)
def test_single_units_have_the_interval_of_scipy(count: int, rate: float, level: float) -> None:
    hits = np.arange(count) < round(rate * count)
    expected = binomtest(int(hits.sum()), count).proportion_ci(level, method="wilson")
    found = clustered_wilson(hits, np.arange(count), level=level)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_units_that_repeat_count_once() -> None:
    hits = (np.random.default_rng(0).random(60) < 0.3).astype(int)
    once = clustered_wilson(hits, np.arange(60))
    repeated = clustered_wilson(np.repeat(hits, 3), np.repeat(np.arange(60), 3))
    # the variance of three equal copies is three times that of independent units, up to (3 N - 1) / (3 N - 3)
    assert repeated.value == once.value
    assert repeated.high - repeated.low == pytest.approx(once.high - once.low, rel=0.01)


def test_the_design_effect_by_hand() -> None:
    # sizes 2, 1, 1; share 1/2; sums of residuals 1, -1/2, -1/2
    found = clustered_wilson([1, 1, 0, 0], ["a", "a", "b", "c"])
    effect = (3 / 2 * 1.5 / 16) / (0.25 / 3)
    assert (found.low, found.high) == pytest.approx(wilson_interval(0.5, 4 / effect))
    assert found.standard_error == pytest.approx(math.sqrt(3 / 2 * 1.5 / 16 * 3 / 4))


def test_units_less_alike_than_chance_are_not_rewarded() -> None:
    alternating = clustered_wilson([0, 1] * 20, np.repeat(np.arange(20), 2))
    assert (alternating.low, alternating.high) == wilson_interval(0.5, 40)


@pytest.mark.parametrize("share", [0, 1])
def test_a_share_of_0_or_1_has_the_interval_of_its_clusters(share: int) -> None:
    found = clustered_wilson(np.full(60, share), np.repeat(np.arange(20), 3))
    assert (found.value, found.standard_error) == (share, 0)
    assert (found.low, found.high) == wilson_interval(share, 20)
    assert (found.low == 0) if share == 0 else (found.high == 1)


def test_one_cluster_is_one_unit_and_no_units_are_undefined() -> None:
    one = clustered_wilson([1, 0, 1, 1], ["a"] * 4)
    assert (one.low, one.high) == wilson_interval(0.75, 1)
    none = clustered_wilson([], [])
    assert all(map(math.isnan, (none.value, none.low, none.high, none.standard_error)))


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=40))
@settings(deadline=None)
def test_bounds_symmetry_and_order(units: list[tuple[int, bool]]) -> None:
    clusters, hits = np.array([unit[0] for unit in units]), np.array([unit[1] for unit in units])
    found, missed = clustered_wilson(hits, clusters), clustered_wilson(~hits, clusters)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert (found.low, found.high) == pytest.approx((1 - missed.high, 1 - missed.low), abs=1e-9)
    wilson = wilson_interval(float(hits.mean()), len(hits))
    assert found.low <= wilson[0] + 1e-12
    assert found.high >= wilson[1] - 1e-12
    order = np.random.default_rng(0).permutation(len(hits))
    shuffled = clustered_wilson(hits[order], clusters[order])
    assert (shuffled.low, shuffled.high) == pytest.approx((found.low, found.high))


@pytest.mark.parametrize("patients", [40, 150])
@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5])
def test_coverage_of_correlated_units(patients: int, rate: float) -> None:
    """Beta-binomial hits with a correlation of 0.3 within a patient; plain Wilson intervals cover 0.90."""
    rng, correlation, replicates = np.random.default_rng(1), 0.3, 1000
    odds = (1 - correlation) / correlation
    covered = 0
    for _ in range(replicates):
        sizes = rng.choice([1, 2, 3, 4], patients, p=[0.35, 0.4, 0.1, 0.15])
        rates = rng.beta(rate * odds, (1 - rate) * odds, patients)
        clusters = np.repeat(np.arange(patients), sizes)
        found = clustered_wilson(rng.random(len(clusters)) < rates[clusters], clusters)
        covered += found.low <= rate <= found.high
    assert covered / replicates >= 0.93
