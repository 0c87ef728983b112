"""The figures: what they show, and that they are drawn from whatever data exist."""

from pathlib import Path

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest
from helpers.cohorts import predictions
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from mammo.errors import DataError
from mammo.evaluation.number_format import parts
from mammo.evaluation.predictions import Units, by_unit
from mammo.evaluation.report import figure_style, plots, training_curves
from mammo.runs import RunFolder

CLASSES = ("BENIGN_CALCIFICATION", "MALIGNANT_CALCIFICATION", "BENIGN_MASS", "MALIGNANT_MASS")


@pytest.fixture(scope="module")
def units() -> Units:
    return by_unit(predictions(np.random.default_rng(7), patients=120))


def texts(figure: Figure) -> str:
    """All text of a figure, as in its SVG."""
    return figure_style.svg_text(figure)


def test_roc_is_the_curve_of_scikit_learn(units: Units) -> None:
    figure = plots.roc_figure(units, threshold=0.5, title="Test images")
    curve = next(line for line in figure.axes[0].lines if str(line.get_label()).startswith("AUC"))
    false, true, _ = roc_curve(units.label, units.score, drop_intermediate=False)
    np.testing.assert_allclose(curve.get_xdata(), false)
    np.testing.assert_allclose(curve.get_ydata(), true)
    point = next(line for line in figure.axes[0].lines if str(line.get_label()).startswith("threshold"))
    called = units.score >= 0.5
    assert point.get_xydata()[0] == pytest.approx(
        [called[units.label == 0].mean(), called[units.label == 1].mean()]
    )


def test_the_band_holds_the_curve_and_widens_with_fewer_patients(units: Units) -> None:
    band = plots.roc_band(units)
    assert band is not None
    low, high = band
    false, true, _ = roc_curve(units.label, units.score)
    curve = np.interp(np.linspace(0, 1, 201), false, true)
    assert (low <= high).all()
    assert ((low <= curve + 1e-9) & (curve <= high + 1e-9)).mean() > 0.97
    few = plots.roc_band(by_unit(predictions(np.random.default_rng(7), patients=25)))
    assert few is not None
    assert (few[1] - few[0]).mean() > 1.5 * (high - low).mean()
    np.testing.assert_array_equal(plots.roc_band(units), band)  # the same seed gives the same band


def test_there_is_no_band_where_a_class_stands_in_one_patient() -> None:
    units = Units(np.array([0.1, 0.4, 0.8]), np.array([0, 0, 1]), np.array(["a", "b", "c"]))
    assert plots.roc_band(units) is None
    assert "AUC 1.000" in texts(plots.roc_figure(units))


def test_reliability_shows_each_bin_at_its_mean_and_share() -> None:
    score = np.array([0.01, 0.03, 0.52, 0.54])
    units = Units(score, np.array([0, 1, 0, 1]), np.array(list("aabc")))
    figure = plots.reliability_figure(units)
    points = next(line for line in figure.axes[0].lines if line.get_marker() == "o")
    np.testing.assert_allclose(points.get_xdata(), [0.02, 0.53])
    np.testing.assert_allclose(points.get_ydata(), [0.5, 0.5])
    bars = figure.axes[0].collections[0].get_segments()
    assert bars[0][0][1] < bars[1][0][1]  # one patient has a wider interval than two
    assert "after calibration" in texts(plots.reliability_figure(units, calibrated=score**2))


def test_the_bins_of_the_reliability_have_equal_numbers_of_images() -> None:
    """Nine in ten scores are below 0.1, as in screening; bins of equal width would show one point of them."""
    score = np.concatenate([np.linspace(0.001, 0.1, 108), np.linspace(0.2, 0.9, 12)])
    patients = np.arange(120).astype(str)
    points = next(
        line
        for line in plots.reliability_figure(Units(score, np.arange(120) % 2, patients)).axes[0].lines
        if line.get_marker() == "o"
    )
    np.testing.assert_allclose(points.get_xdata(), score.reshape(10, 12).mean(axis=1))
    np.testing.assert_allclose(points.get_ydata(), 0.5)
    tied = Units(np.repeat([0.2, 0.7], [30, 10]), np.arange(40) % 2, patients[:40])
    points = next(line for line in plots.reliability_figure(tied).axes[0].lines if line.get_marker() == "o")
    np.testing.assert_allclose(points.get_xdata(), [0.2, 0.7])  # equal scores are in one bin


def test_confusion_shows_counts_and_shares_of_the_row() -> None:
    counts = np.array([[92, 33], [58, 65]])
    figure = plots.confusion_figure(counts, classes=("BENIGN", "MALIGNANT"))
    assert {text.get_text() for text in figure.axes[0].texts} == {"92\n74%", "33\n26%", "58\n47%", "65\n53%"}
    four = plots.confusion_figure(np.diag([3, 0, 2, 1]), classes=CLASSES)  # a class without images
    assert "0\n0%" in {text.get_text() for text in four.axes[0].texts}


def test_subgroups_without_an_area_are_named() -> None:
    area = {"value": 0.7, "low": 0.6, "high": 0.8}
    groups = [
        {"column": "density", "value": 1, "n": 40, "malignant": 20, "auc": area, "note": None},
        {"column": "density", "value": None, "n": 4, "malignant": 2, "auc": None, "note": "few"},
        {"column": "view", "value": "MLO", "n": 9, "malignant": 3, "auc": {"value": 0.5}},
        {"column": "abnormality_type", "value": "$x^$ & <b>", "n": 9, "malignant": 3, "auc": None},
    ]
    found = texts(plots.subgroups_figure(groups, overall=0.69))
    for shown in ("unknown", "too few", "40 (20)", "MLO", "$x^$ &amp; &lt;b&gt;", "all images 0.690"):
        assert shown in found


def test_froc_takes_estimates_and_numbers_in_the_order_of_the_marks() -> None:
    figure = plots.froc_figure(
        {
            "gradcam": {"1": {"value": 0.5, "low": 0.4, "high": 0.6}, "0.25": {"value": 0.2}, "2": None},
            "random": {"0.5": 0.1},
        }
    )
    lines = [line for line in figure.axes[0].lines if line.get_marker() in ("o", "s")]
    np.testing.assert_allclose(lines[0].get_xydata(), [[0.25, 0.2], [1, 0.5]])
    np.testing.assert_allclose(lines[1].get_xydata(), [[0.5, 0.1]])


@pytest.mark.slow
def test_froc_shows_every_method_or_refuses() -> None:
    points = {"0.25": 0.1, "1": 0.4}
    methods = {f"method {number}": points for number in range(len(figure_style.SERIES))}
    assert all(name in texts(plots.froc_figure(methods)) for name in methods)
    with pytest.raises(DataError, match=f"FROC of {len(methods) + 1} methods"):
        plots.froc_figure({**methods, "one more": points})


def test_curves_are_drawn_of_what_metrics_csv_holds(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    columns = {"epoch": [1, 2], "train/loss": [1, 0.5], "val/loss": [1, 0.7], "val/auc": [0.5, np.nan]}
    pd.DataFrame(columns).to_csv(run.metrics, index=False)
    training_curves.draw_curves(run)
    assert {file.name for file in run.figures.iterdir()} == {"loss.png", "auc.png"}
    assert "epoch 1" in texts(training_curves.curve_figures(run)["loss"])


def test_the_same_figure_is_the_same_file(units: Units, tmp_path: Path) -> None:
    drawn = [
        figure_style.draw_figures(
            {"histogram": plots.histogram_figure(units, threshold=0.4)}, folder=tmp_path / name
        )
        for name in "ab"
    ]
    assert drawn[0] == drawn[1]
    assert (tmp_path / "a" / "histogram.svg").read_text() == drawn[0]["histogram"]
    assert (tmp_path / "a" / "histogram.png").stat().st_size > 5000
    assert "<text" in drawn[0]["histogram"]  # text is stored as text
    assert "<pattern" in drawn[0]["histogram"]  # malignant and benign differ without colour too


def test_series_differ_without_colour_too() -> None:
    looks = figure_style.SERIES
    assert len({line for _, line, _ in looks}) == len({marker for _, _, marker in looks}) == len(looks)
    for colour, _, _ in looks:
        linear = np.array(matplotlib.colors.to_rgb(colour)) ** 2.2
        assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) > 2.5  # contrast with white paper


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("MALIGNANT_MASS", "malignant mass"),
        ("CC", "CC"),
        ("Oval", "Oval"),
        ("abnormality_type", "abnormality type"),
    ],
)
def test_names_are_made_readable(name: str, shown: str) -> None:
    assert figure_style.readable(name) == shown


def test_estimates_are_read_from_whatever_json_holds() -> None:
    assert parts({"value": 1, "low": None, "high": float("nan")}) == (1.0, None, None)
    assert parts(0.5) == (0.5, None, None)
    assert parts(None) == parts("x") == parts([1]) == (None, None, None)
