import json
import math

import numpy as np
import pandas as pd
import pytest
from helpers.cohorts import four_classes, predictions
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.calibration import _sigmoid_calibration

from mammo.data.tasks import Task
from mammo.errors import DataError
from mammo.evaluation.predictions import Predictions, by_unit
from mammo.evaluation.statistics.calibration import (
    Calibration,
    fit_calibration,
    fit_platt,
    fit_temperature,
    operating_threshold,
)
from mammo.evaluation.statistics.weighted_metrics import expit, logit


def test_platt_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=200)
    scores = expit(2 * rng.normal(size=200) + 2 * labels + 1)
    slope, intercept = fit_platt(scores, labels)
    a, b = _sigmoid_calibration(logit(scores), labels)  # 1 / (1 + exp(a x + b)) with Platt's targets
    assert (slope, intercept) == pytest.approx((-a, -b), abs=1e-3)


def test_platt_finds_the_map_that_was_lost() -> None:
    rng = np.random.default_rng(1)
    truth = expit(1.5 * rng.normal(size=40_000))
    labels = (rng.random(truth.size) < truth).astype(int)
    slope, intercept = fit_platt(expit(2 * logit(truth) + 1), labels)
    assert (slope, intercept) == pytest.approx((0.5, -0.5), abs=0.03)


def test_platt_of_separated_scores_is_finite() -> None:
    slope, intercept = fit_platt(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1]))
    calibrated = expit(slope * logit(np.array([0.1, 0.9])) + intercept)
    assert 0 < calibrated[0] < 0.5 < calibrated[1] < 1


@pytest.mark.parametrize("scores", [[0.9, 0.8, 0.2, 0.1, 0.3], [0.5] * 5])
def test_platt_does_not_turn_the_ranking_over(scores: list[float]) -> None:
    slope, intercept = fit_platt(np.array(scores), np.array([0, 0, 1, 1, 1]))
    assert slope == 0
    assert expit(np.array([intercept])) == pytest.approx([(3 * 4 / 5 + 2 / 4) / 5])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_finds_the_one_that_was_lost(temperature: float) -> None:
    rng = np.random.default_rng(2)
    logits = 1.5 * rng.normal(size=(20_000, 4))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (rng.random(20_000)[:, None] > true.cumsum(axis=1)).sum(axis=1)
    given_scores = np.exp(logits * temperature)
    given_scores /= given_scores.sum(axis=1, keepdims=True)
    assert fit_temperature(given_scores, labels) == pytest.approx(temperature, rel=0.05)


def test_temperature_stays_within_its_bounds() -> None:
    scores = np.array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1]])
    assert fit_temperature(scores, np.array([0, 1])) == pytest.approx(0.05)
    assert fit_temperature(scores, np.array([1, 0])) == pytest.approx(20)


@pytest.mark.parametrize("make", [predictions, four_classes])
def test_calibration_survives_json_and_keeps_the_order(make) -> None:
    made = make(np.random.default_rng(3))
    calibration = fit_calibration(made)
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration
    applied = calibration.apply(made)
    assert applied.scores.sum(axis=1) == pytest.approx(np.ones(len(made.samples)))
    if len(made.classes) == 2:
        assert np.array_equal(np.argsort(applied.scores[:, 1]), np.argsort(made.scores[:, 1]))
    else:
        assert np.array_equal(applied.scores.argmax(axis=1), made.scores.argmax(axis=1))
    own = np.arange(len(made.labels)), made.labels
    assert np.log(applied.scores[own]).mean() >= np.log(made.scores[own]).mean() - 1e-3


def test_calibration_is_refused() -> None:
    made = predictions(np.random.default_rng(4))
    with pytest.raises(DataError, match="are all benign; calibration needs both"):
        fit_calibration(made.take(made.malignant == 0))
    with pytest.raises(DataError, match="four has the classes"):
        fit_calibration(made).apply(four_classes(np.random.default_rng(4)))
    with pytest.raises(DataError, match="not a calibration: slope"):
        Calibration.from_dict({"slope": 1})


SCORES, LABELS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), np.array([0, 0, 1, 0, 1, 1])


@pytest.mark.parametrize(
    ("rule", "target", "threshold"),
    [
        ("youden", 0.9, 0.45),  # 2/3 + 1 and 1 + 2/3 are equal: the higher threshold
        ("sensitivity", 0.6, 0.45),
        ("sensitivity", 0.9, 0.25),
        ("specificity", 0.9, 0.45),
        ("specificity", 0.6, 0.25),
        ("specificity", 0.0, 0.1),
        ("sensitivity", 0.0, math.nextafter(0.6, 1)),
    ],
)
def test_thresholds_by_hand(rule, target: float, threshold: float) -> None:
    assert operating_threshold(SCORES, LABELS, rule=rule, target=target) == pytest.approx(threshold)


@given(
    arrays(float, 12, elements=st.integers(0, 8).map(lambda n: n / 8)),
    arrays(int, 12, elements=st.integers(0, 1)).filter(lambda labels: 0 < labels.mean() < 1),
    st.sampled_from([0.5, 0.75, 0.9, 1.0]),
)
def test_thresholds_reach_what_they_promise(scores: np.ndarray, labels: np.ndarray, target: float) -> None:
    def rates(threshold: float) -> tuple[float, float]:
        called = scores >= threshold
        return called[labels == 1].mean(), (~called)[labels == 0].mean()

    every = [rates(threshold) for threshold in [*np.unique(scores), 2.0]]
    chosen = sum(rates(operating_threshold(scores, labels)))
    assert chosen == pytest.approx(max(sum(pair) for pair in every))
    sensitivity, specificity = rates(operating_threshold(scores, labels, rule="sensitivity", target=target))
    assert sensitivity >= target
    assert specificity == max(there for reached, there in every if reached >= target)
    sensitivity, specificity = rates(operating_threshold(scores, labels, rule="specificity", target=target))
    assert specificity >= target
    assert sensitivity == max(there for there, reached in every if reached >= target)


def test_each_unit_has_its_threshold() -> None:
    made = predictions(np.random.default_rng(5))
    calibration = fit_calibration(made, rule="specificity", target=0.8)
    assert set(calibration.thresholds) == {
        "image",
        "breast_mean",
        "breast_max",
        "patient_mean",
        "patient_max",
    }
    assert calibration.threshold("image", "max") == calibration.thresholds["image"]
    assert calibration.threshold("breast", "max") == calibration.thresholds["breast_max"]
    blind = type(made)(made.table.assign(laterality=None), made.task, made.source)
    assert math.isnan(fit_calibration(blind).threshold("breast", "mean"))


@pytest.mark.parametrize("reduce", ["mean", "max"])
@pytest.mark.parametrize("unit", ["breast", "patient"])
def test_calibrated_images_do_not_make_calibrated_units(unit, reduce) -> None:
    made, later = (two_images_of_each_breast(np.random.default_rng(seed)) for seed in (0, 1))
    calibration = fit_calibration(made)
    probability = calibration.probabilities(later, unit, reduce)
    units = by_unit(later, unit, reduce=reduce)
    assert probability is not None
    averaged = by_unit(calibration.apply(later), unit, reduce=reduce).score
    assert error_of(averaged, units.label) > 0.03  # the images alone are calibrated
    assert error_of(calibration.apply(later).malignancy, later.malignant) < 0.02
    assert error_of(probability, units.label) < error_of(averaged, units.label) / 5
    units = by_unit(made, unit, reduce=reduce)
    assert calibration.maps[f"{unit}_{reduce}"] == fit_platt(units.score, units.label)


def two_images_of_each_breast(rng: np.random.Generator) -> Predictions:
    """Two breasts of each of 6,000 patients; a fifth of the images are malignant; scores are calibrated."""
    count = 24_000
    logits = rng.normal(-2, 1.5, count)
    score = 1 / (1 + np.exp(-logits))
    made = predictions(rng, patients=2).table
    columns = {name: [pd.NA] * count for name in made}
    columns |= {
        "sample_id": np.arange(count).astype(str),
        "unit": "image",
        "patient_id": (np.arange(count) // 4).astype(str),
        "laterality": np.where(np.arange(count) // 2 % 2, "LEFT", "RIGHT"),
        "label": np.where(rng.random(count) < score, "MALIGNANT", "BENIGN"),
        "score_BENIGN": 1 - score,
        "score_MALIGNANT": score,
    }
    return Predictions(pd.DataFrame(columns), Task.shipped("pathology"), "simulated")


def error_of(probability: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error in ten bins of equal width."""
    bins = np.minimum((probability * 10).astype(int), 9)
    parts = [bins == number for number in range(10)]
    return sum(
        part.mean() * abs(probability[part].mean() - labels[part].mean()) for part in parts if part.any()
    )


def test_unit_that_the_validation_images_lack_is_not_calibrated() -> None:
    made = predictions(np.random.default_rng(5))
    blind = type(made)(made.table.assign(laterality=None), made.task, made.source)
    calibration = fit_calibration(blind)
    assert calibration.probabilities(made, "breast", "mean") is None
    assert calibration.probabilities(made, "patient", "mean") is not None
    old = {key: value for key, value in calibration.to_dict().items() if key not in ("maps", "provenance")}
    assert Calibration.from_dict(old).probabilities(made, "patient", "mean") is None
