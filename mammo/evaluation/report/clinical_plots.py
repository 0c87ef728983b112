"""Figures for the use of a classifier: smooth calibration curve and decision curve."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mammo.evaluation.predictions import Units
from mammo.evaluation.report.figure_style import BLUE, GREY, ORANGE, SERIES, legend_above, new_axes
from mammo.evaluation.statistics.calibration_curve import calibration_band, calibration_curve
from mammo.evaluation.statistics.decision_curve import net_benefit
from mammo.evaluation.statistics.intervals import draw_patients

_THRESHOLDS = np.linspace(0.01, 0.99, 99)


def calibration_curve_figure(
    units: Units, *, calibrated: NDArray[np.float64] | None = None, seed: int = 0, title: str = ""
) -> Figure:
    """Draw the smooth share of malignant units by score, with its band; before and after calibration.

    The curves extend over the central 98 % of the scores.

    Args:
        units: images, breasts or patients of both classes.
        calibrated: scores of the units after calibration.
        seed: seed of the resamples.
        title: title of the figure.
    """
    figure, axes = new_axes(title)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1, label="share equals score")
    sides = {"score" if calibrated is None else "uncalibrated score": units.score}
    if calibrated is not None:
        sides["after calibration"] = calibrated
    without: list[str] = []
    for (name, scores), (colour, line, _) in zip(sides.items(), SERIES, strict=False):
        low, high = np.quantile(scores, [0.01, 0.99])
        grid = np.linspace(low, high, 101)
        curve = calibration_curve(scores, units.label, np.ones((1, len(scores))), at=grid)[0]
        if np.isnan(curve).any():
            without.append(name)
            continue
        band = calibration_band(scores, units.label, units.cluster, at=grid, seed=seed)
        if band is not None:
            axes.fill_between(grid, *band, color=colour, alpha=0.2, linewidth=0)
        axes.plot(grid, curve, color=colour, linestyle=line, label=name)
    if without:
        named = "" if len(without) == len(sides) else f" of the {without[0]}"
        reason = "the regression has no finite solution,\nbecause the scores separate the classes"
        text = f"No curve{named}: {reason}."
        axes.text(0.5, 0.08, text, ha="center", fontsize=8)
    axes.set(xlabel=units.words["score"].capitalize(), ylabel=f"Share {units.words['positive']}")
    axes.set(xlim=(0, 1), ylim=(-0.01, 1.01))
    legend_above(axes)
    return figure


def decision_curve_figure(
    units: Units,
    *,
    calibrated: NDArray[np.float64] | None = None,
    resamples: int = 500,
    seed: int = 0,
    title: str = "",
) -> Figure:
    """Draw the net benefit of the model with its band, of calling all malignant, and of calling none.

    Args:
        units: images, breasts or patients of both classes.
        calibrated: scores of the units after calibration, which are used if given.
        resamples: number of resamples of the patients for the band.
        seed: seed of the resamples.
        title: title of the figure.
    """
    figure, axes = new_axes(title)
    probability = units.score if calibrated is None else calibrated
    whole = np.ones((1, len(probability)))
    model, everyone = net_benefit(probability, units.label, whole, thresholds=_THRESHOLDS)
    draws = draw_patients(units.cluster, units.label, resamples=resamples, rng=np.random.default_rng(seed))
    if draws.enough:
        weights = draws.weights(units.cluster)
        resampled, _ = net_benefit(probability, units.label, weights, thresholds=_THRESHOLDS)
        low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
        axes.fill_between(_THRESHOLDS, low, high, color=BLUE, alpha=0.2, linewidth=0)
    name = "score" if calibrated is None else "calibrated score"
    axes.plot(_THRESHOLDS, model[0], color=BLUE, label=name)
    axes.plot(_THRESHOLDS, everyone[0], color=ORANGE, linestyle="--", label=f"all {units.words['positive']}")
    axes.axhline(0, color=GREY, linestyle=":", label=f"none {units.words['positive']}")
    share = float(units.label.mean())
    axes.set(
        xlabel="Threshold probability", ylabel="Net benefit", xlim=(0, 1), ylim=(-0.25 * share, 1.1 * share)
    )
    legend_above(axes)
    return figure
