"""Calibration curve against scikit-learn, decision curve against counting."""

import warnings

import numpy as np
import pytest
from helpers.cohorts import predictions
from sklearn.linear_model import LogisticRegression

from mammo.evaluation.predictions import by_unit
from mammo.evaluation.statistics.calibration_curve import calibration_band, calibration_curve, spline_columns
from mammo.evaluation.statistics.decision_curve import net_benefit
from mammo.evaluation.statistics.weighted_metrics import expit, logit


def cohort(count: int, *, factor: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose log odds are `factor` times the true ones, and labels."""
    rng = np.random.default_rng(0)
    truth = 1.5 * rng.normal(size=count) - 0.5
    return expit(factor * truth), (rng.random(count) < expit(truth)).astype(int)


def test_the_spline_is_linear_beyond_the_outer_knots_and_smooth_between() -> None:
    knots = np.array([-2.0, -0.5, 0.7, 2.0])
    step = 1e-3
    grid = np.arange(-4, 4, step)
    second = np.diff(spline_columns(grid, knots), n=2, axis=0) / step**2
    outside = (grid[1:-1] < -2 - step) | (grid[1:-1] > 2 + step)
    assert np.abs(second[outside]).max() < 1e-3
    assert np.abs(second[~outside, 1:]).max() > 0.5
    assert np.abs(np.diff(second, axis=0)).max() < 0.1  # no jump of the second derivative
    assert spline_columns(grid, knots).shape == (len(grid), 3)
    assert np.array_equal(spline_columns(grid, knots[:2])[:, 0], grid)


def test_the_curve_is_the_logistic_regression_of_scikit_learn_on_the_spline() -> None:
    scores, labels = cohort(300, factor=1.7)
    weights = np.random.default_rng(1).integers(0, 4, size=(3, 300)).astype(float)
    at = np.linspace(0.05, 0.95, 19)
    found = calibration_curve(scores, labels, weights, at=at)
    knots = np.quantile(logit(scores), [0.1, 0.5, 0.9], method="closest_observation")
    design = spline_columns(logit(scores), knots)
    centre, scale = design.mean(axis=0), design.std(axis=0)
    for row, weight in enumerate(weights):
        model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=5000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit((design - centre) / scale, labels, sample_weight=weight)
        expected = model.predict_proba((spline_columns(logit(at), knots) - centre) / scale)[:, 1]
        np.testing.assert_allclose(found[row], expected, atol=1e-4)


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_the_curve_of_a_known_score_is_its_true_probability(factor: float) -> None:
    scores, labels = cohort(40_000, factor=factor)
    at = np.quantile(scores, np.linspace(0.02, 0.98, 25))
    curve = calibration_curve(scores, labels, np.ones((1, len(scores))), at=at)[0]
    np.testing.assert_allclose(curve, expit(logit(at) / factor), atol=0.025)


def test_the_band_contains_the_curve_and_widens_with_fewer_patients() -> None:
    widths = []
    for count in (200, 800):
        scores, labels = cohort(count)
        patients = np.char.mod("%04d", np.arange(count) // 2)
        at = np.quantile(scores, np.linspace(0.05, 0.95, 21))
        curve = calibration_curve(scores, labels, np.ones((1, count)), at=at)[0]
        band = calibration_band(scores, labels, patients, at=at, resamples=200)
        assert band is not None
        assert ((band[0] < curve) & (curve < band[1])).all()
        widths.append((band[1] - band[0]).mean())
    assert 1.5 < widths[0] / widths[1] < 3


def test_a_band_of_sixty_patients_with_correlated_images() -> None:
    units = by_unit(predictions(np.random.default_rng(7), patients=60))
    at = np.quantile(units.score, [0.05, 0.5, 0.95])
    assert calibration_band(units.score, units.label, units.cluster, at=at) is not None


def test_few_distinct_scores_and_separated_classes() -> None:
    two, labels = np.array([0.2, 0.2, 0.2, 0.8, 0.8, 0.8]), np.array([0, 0, 1, 1, 1, 0])
    found = calibration_curve(two, labels, np.ones((1, 6)), at=np.array([0.2, 0.8]))
    assert found[0] == pytest.approx([1 / 3, 2 / 3], abs=1e-6)
    constant = calibration_curve(np.full(6, 0.4), labels, np.ones((1, 6)), at=np.array([0.4]))
    assert constant[0] == pytest.approx([0.5])
    apart = calibration_curve(np.linspace(0.1, 0.9, 6), np.array([0, 0, 0, 1, 1, 1]), np.ones((1, 6)), at=two)
    assert np.isnan(apart).all()


def test_net_benefit_by_counting() -> None:
    scores, labels = cohort(150)
    weights = np.random.default_rng(2).integers(0, 3, size=(4, 150)).astype(float)
    thresholds = np.array([0.05, 0.3, 0.5, 0.9])
    model, everyone = net_benefit(scores, labels, weights, thresholds=thresholds)
    for row, weight in enumerate(weights.astype(int)):
        repeated, truth = np.repeat(scores, weight), np.repeat(labels, weight)
        for place, threshold in enumerate(thresholds):
            called = repeated >= threshold
            odds = threshold / (1 - threshold)
            hits, alarms = (called & (truth == 1)).sum(), (called & (truth == 0)).sum()
            assert model[row, place] == pytest.approx((hits - odds * alarms) / len(truth))
            share = truth.mean()
            assert everyone[row, place] == pytest.approx(share - (1 - share) * odds)


def test_a_model_that_calls_everyone_has_the_net_benefit_of_everyone() -> None:
    labels = np.array([1, 0, 0])
    model, everyone = net_benefit(np.ones(3), labels, np.ones((1, 3)), thresholds=np.array([0.2, 0.7]))
    assert np.array_equal(model, everyone)
