import math

import numpy as np
import pytest
from helpers.cohorts import simulate
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo.evaluation.statistics.intervals import bootstrap, draw_patients, evaluate, interval
from mammo.evaluation.statistics.weighted_metrics import (
    AucOnly,
    BinaryMetrics,
    MulticlassMetrics,
    at_threshold,
    expit,
)
from mammo.metrics import clustered_auc


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1)), min_size=1, max_size=40), st.integers(0, 99))
@settings(deadline=None)
def test_a_patient_comes_whole_or_not_at_all(images: list[tuple[int, int]], seed: int) -> None:
    patients = np.array([f"P{patient}" for patient, _ in images])
    labels = np.array([label for _, label in images])
    draws = draw_patients(patients, labels, resamples=20, rng=np.random.default_rng(seed))
    weights = draws.weights(patients)
    ill = np.isin(draws.patients, patients[labels == 1])
    assert draws.stratum.tolist() == ill.astype(int).tolist()
    assert (draws.counts[:, ill].sum(axis=1) == ill.sum()).all()
    assert (draws.counts[:, ~ill].sum(axis=1) == (~ill).sum()).all()
    for position, patient in enumerate(draws.patients):
        assert (weights[:, patients == patient] == draws.counts[:, [position]]).all()


def test_every_patient_is_drawn_once_on_average() -> None:
    patients, labels, _ = simulate(np.random.default_rng(0), patients=30)
    draws = draw_patients(patients, labels, resamples=4000, rng=np.random.default_rng(1))
    assert draws.counts.mean(axis=0) == pytest.approx(np.ones(30), abs=0.08)
    variance = draws.counts.var(axis=0)  # binomial: 1 - 1 / number of patients in the stratum
    expected = 1 - 1 / np.where(draws.stratum == 1, draws.stratum.sum(), (1 - draws.stratum).sum())
    assert variance == pytest.approx(expected, abs=0.15)


def test_the_seed_decides() -> None:
    patients, labels, scores = simulate(np.random.default_rng(2), patients=40)
    metrics = BinaryMetrics(expit(scores), labels, threshold=0.5)

    def estimates(seed: int) -> dict:
        draws = draw_patients(patients, labels, resamples=200, rng=np.random.default_rng(seed))
        return bootstrap(metrics, draws, patients)

    assert repr(estimates(0)) == repr(estimates(0))  # NaN is not equal to itself
    assert estimates(0)["auc"].low != estimates(1)["auc"].low


def test_parts_give_what_the_whole_gives() -> None:
    patients, labels, scores = simulate(np.random.default_rng(3), patients=300)
    metrics = BinaryMetrics(expit(scores), labels, threshold=0.5)
    draws = draw_patients(patients, labels, resamples=500, rng=np.random.default_rng(0))
    weights = draws.weights(patients)
    whole, parts = metrics(weights), evaluate(metrics, weights)
    assert weights.size > 2 * 2**17  # more than one part
    assert all(np.allclose(parts[name], whole[name], equal_nan=True) for name in whole)


def test_the_error_is_obuchowskis() -> None:
    patients, labels, scores = simulate(np.random.default_rng(4), patients=400)
    draws = draw_patients(patients, labels, resamples=2000, rng=np.random.default_rng(0))
    found = bootstrap(AucOnly({"auc": scores}, labels), draws, patients)["auc"]
    expected = clustered_auc(scores, labels, patients)
    assert found.value == pytest.approx(expected.value)
    assert found.standard_error == pytest.approx(expected.standard_error, rel=0.06)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.006)


def test_percentiles_by_hand() -> None:
    found = interval(50.0, np.arange(101.0))
    assert (found.value, found.low, found.high) == pytest.approx((50, 2.5, 97.5))


@pytest.mark.parametrize(
    "resampled", [[0.5] * 100, [math.nan] * 10 + list(range(90)), [math.nan] * 100], ids=str
)
def test_resamples_that_tell_nothing_give_no_interval(resampled: list[float]) -> None:
    found = interval(0.5, np.array(resampled))
    assert found.value == 0.5
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_a_class_in_one_patient_gives_no_interval() -> None:
    patients = np.array(["A", "A", "B", "C", "D"])
    labels = np.array([1, 1, 0, 0, 0])
    draws = draw_patients(patients, labels, resamples=50, rng=np.random.default_rng(0))
    found = bootstrap(BinaryMetrics(np.array([0.7, 0.4, 0.5, 0.3, 0.2]), labels), draws, patients)
    assert found["auc"].value == pytest.approx(5 / 6)
    assert math.isnan(found["auc"].low)


def test_the_calibration_error_has_a_value_and_no_interval() -> None:
    patients, labels, scores = simulate(np.random.default_rng(8), patients=40)
    draws = draw_patients(patients, labels, resamples=50, rng=np.random.default_rng(0))
    found = bootstrap(BinaryMetrics(expit(scores), labels, calibrated=expit(scores)), draws, patients)
    for name, estimate in found.items():
        decided = name in at_threshold(labels == 1, labels, np.ones((1, len(labels))))
        assert math.isnan(estimate.value) == decided, name  # these need a threshold
        assert math.isnan(estimate.low) == (decided or name in ("ece", "ece_calibrated")), name


def coverage(*, by_patient: bool, patients: int, sets: int, resamples: int, seed: int) -> float:
    """Share of simulated test sets whose interval contains the true AUC."""
    rng = np.random.default_rng(seed)
    truth = 0.78169  # AUC of normals 1.1 standard deviations apart: Phi(1.1 / sqrt(2))
    covered = 0
    for _ in range(sets):
        names, labels, scores = simulate(rng, patients=patients)
        clusters = names if by_patient else np.arange(len(names)).astype(str)
        draws = draw_patients(clusters, labels, resamples=resamples, rng=rng)
        found = bootstrap(AucOnly({"auc": scores}, labels), draws, clusters)["auc"]
        covered += found.low <= truth <= found.high
    return covered / sets


@pytest.mark.slow
def test_intervals_by_patient_cover_the_truth_and_by_image_do_not() -> None:
    assert 0.92 <= coverage(by_patient=True, patients=80, sets=300, resamples=400, seed=5) <= 0.98
    assert coverage(by_patient=False, patients=80, sets=300, resamples=400, seed=5) < 0.91


def test_four_classes_have_intervals() -> None:
    rng = np.random.default_rng(6)
    patients, labels = np.repeat(np.arange(60), 2).astype(str), np.repeat(rng.integers(4, size=60), 2)
    scores = rng.dirichlet([1.0] * 4, size=120) + 0.5 * np.eye(4)[labels]
    draws = draw_patients(patients, labels % 2, resamples=300, rng=rng)
    for found in bootstrap(MulticlassMetrics(scores, labels, tuple("abcd")), draws, patients).values():
        assert found.low < found.value < found.high


def test_a_single_patient_of_a_stratum_leaves_no_interval() -> None:
    """One woman has benign images only: she is in every resample, as if her scores did not vary."""
    patients = np.array(["a", "a", *(f"p{i}" for i in range(20) for _ in "xy")])
    labels = np.array([0, 0, *([0, 1] * 20)])
    scores = np.random.default_rng(0).random(labels.size)
    draws = draw_patients(patients, labels, resamples=50, rng=np.random.default_rng(0))
    assert not draws.enough
    assert math.isnan(bootstrap(AucOnly({"auc": scores}, labels), draws, patients)["auc"].low)
    two = np.where(np.arange(labels.size) == 1, "b", patients)
    assert draw_patients(two, labels, resamples=50, rng=np.random.default_rng(0)).enough
