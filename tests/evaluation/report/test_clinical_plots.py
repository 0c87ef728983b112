"""The calibration curve and the decision curve: what they show."""

import numpy as np
import pytest
from helpers.cohorts import predictions
from matplotlib.figure import Figure

from mammo.evaluation.predictions import Units, by_unit
from mammo.evaluation.report.clinical_plots import calibration_curve_figure, decision_curve_figure
from mammo.evaluation.statistics.calibration_curve import calibration_curve


@pytest.fixture(scope="module")
def units() -> Units:
    return by_unit(predictions(np.random.default_rng(7), patients=60))


def line(figure: Figure, label: str) -> np.ndarray:
    return next(np.asarray(one.get_xydata()) for one in figure.axes[0].lines if one.get_label() == label)


def test_calibration_curve_spans_the_central_scores_before_and_after(units: Units) -> None:
    calibrated = units.score**2
    figure = calibration_curve_figure(units, calibrated=calibrated)
    for label, scores in (("uncalibrated score", units.score), ("after calibration", calibrated)):
        drawn = line(figure, label)
        assert drawn[[0, -1], 0] == pytest.approx(np.quantile(scores, [0.01, 0.99]))
        whole = np.ones((1, len(scores)))
        np.testing.assert_allclose(
            drawn[:, 1], calibration_curve(scores, units.label, whole, at=drawn[:, 0])[0]
        )
    assert len(figure.axes[0].collections) == 2  # a band for each


def test_separated_classes_have_no_curve() -> None:
    units = Units(np.linspace(0, 1, 8), np.repeat([0, 1], 4), np.array(list("abcdefgh")))
    [axes] = calibration_curve_figure(units).axes
    assert len(axes.lines) == 1  # the diagonal
    [text] = axes.texts
    assert text.get_text().startswith("No curve: the regression has no finite solution")


def test_decision_curve_has_the_model_and_both_extremes(units: Units) -> None:
    figure = decision_curve_figure(units)
    everyone, model = line(figure, "all malignant"), line(figure, "score")
    share = units.label.mean()
    crossing = np.interp(0, -everyone[:, 1], everyone[:, 0])
    assert crossing == pytest.approx(share, abs=0.01)  # all and none are equal at the prevalence
    called = units.score >= 0.5
    at_half = model[np.argmin(np.abs(model[:, 0] - 0.5)), 1]
    assert at_half == pytest.approx(
        called[units.label == 1].sum() / len(called) - called[units.label == 0].sum() / len(called)
    )
    assert len(figure.axes[0].collections) == 1
    assert (
        line(decision_curve_figure(units, calibrated=units.score**2), "calibrated score").shape == model.shape
    )
