"""Figures of an evaluation, in one style that is readable with colour blindness."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mammo.errors import DataError
from mammo.evaluation.number_format import parts
from mammo.evaluation.predictions import Units
from mammo.evaluation.report.figure_style import (
    BLUE,
    GREY,
    ORANGE,
    SERIES,
    SHADES,
    legend_above,
    new_axes,
    new_figure,
    readable,
    style_axes,
)
from mammo.evaluation.statistics.intervals import draw_patients
from mammo.evaluation.statistics.proportions import wilson_interval
from mammo.evaluation.statistics.weighted_metrics import Floats, Ranking, auc, average_precision

_GRID = np.linspace(0, 1, 201)
_MOST_BINS, _BIN_UNITS = 10, 10  # of the reliability: bins, and units of a bin at least


def roc_figure(
    units: Units,
    *,
    threshold: float | None = None,
    area: str = "AUC",
    resamples: int = 500,
    seed: int = 0,
    title: str = "",
) -> Figure:
    """Draw the ROC curve with a band that contains 95 % of the resampled curves at each point.

    Args:
        units: images, breasts or patients of both classes.
        threshold: threshold whose point is marked.
        area: name of the area under the curve in the legend.
        resamples: number of resamples of the patients for the band; 0 for none.
        seed: seed of the resamples.
        title: title of the figure.
    """
    figure, axes = new_axes(title)
    true, false = _points(units)
    value = float(auc(true[None], false[None])[0])
    band = roc_band(units, resamples=resamples, seed=seed)
    if band is not None:
        axes.fill_between(_GRID, *band, color=BLUE, alpha=0.2, linewidth=0, label="95 % band, by patient")
    axes.plot(false / false[-1], true / true[-1], color=BLUE, label=f"{area} {value:.3f}")
    if threshold is not None:
        called = units.score >= threshold
        point = called[units.label == 0].mean(), called[units.label == 1].mean()
        axes.plot(*point, color=ORANGE, marker="D", linestyle="", label=f"threshold {threshold:.3g}")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1, label="chance")
    _unit_square(axes, xlabel="1 - specificity", ylabel="Sensitivity")
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def roc_band(units: Units, *, resamples: int = 500, seed: int = 0) -> tuple[Floats, Floats] | None:
    """Return the limits of the sensitivity in the ROC band at 201 specificities, or None without a band."""
    draws = draw_patients(units.cluster, units.label, resamples=resamples, rng=np.random.default_rng(seed))
    if not resamples or not draws.enough:
        return None
    true, false = Ranking(units.score, units.label).points(draws.weights(units.cluster))
    there = (true[:, -1] > 0) & (false[:, -1] > 0)
    if there.mean() < 0.95:
        return None
    curves = [
        np.interp(_GRID, wrong / wrong[-1], right / right[-1])
        for right, wrong in zip(true[there], false[there], strict=True)
    ]
    low, high = np.quantile(curves, [0.025, 0.975], axis=0)
    return low, high


def precision_recall_figure(units: Units, *, title: str = "") -> Figure:
    """Draw the precision-recall curve and the precision if all are classified as malignant."""
    figure, axes = new_axes(title)
    true, false = _points(units)
    area = float(average_precision(true[None], false[None])[0])
    called = true[1:] + false[1:]
    precision = true[1:] / called
    recall = true[1:] / true[-1]
    axes.step(
        [0, *recall],
        [precision[0], *precision],
        where="pre",
        color=BLUE,
        label=f"average precision {area:.3f}",
    )
    share = float(units.label.mean())
    axes.axhline(
        share, color=GREY, linestyle=":", linewidth=1, label=f"share of {units.words['positive']} {share:.3f}"
    )
    _unit_square(axes, xlabel="Sensitivity (recall)", ylabel="Precision")
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    return figure


def reliability_figure(
    units: Units, *, calibrated: NDArray[np.float64] | None = None, title: str = ""
) -> Figure:
    """Draw the share of malignant units by score, in bins of equal numbers of units, and a histogram.

    There are at most 10 bins, of at least 10 units if there are 20; units of equal scores are in one bin. The
    bars are Wilson intervals whose sample size is the number of patients in a bin, not of images.

    Args:
        units: images, breasts or patients.
        calibrated: scores of the units after calibration.
        title: title of the figure.
    """
    figure = new_figure(title, height=4.6)
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1, label="share equals score")
    sides = {"score" if calibrated is None else "uncalibrated score": units.score}
    if calibrated is not None:
        sides["after calibration"] = calibrated
    edges = np.linspace(0, 1, 21)
    for (name, scores), (colour, line, marker) in zip(sides.items(), SERIES, strict=False):
        mean, share, low, high = _bins(scores, units)
        error = np.clip([share - low, high - share], 0, None)
        axes.errorbar(
            mean, share, yerr=error, color=colour, linestyle=line, marker=marker, markersize=4, label=name,
            linewidth=1, elinewidth=1, ecolor=(colour, 0.55),
        )  # fmt: skip
        counts.hist(scores, bins=list(edges), color=colour, histtype="step", linestyle=line)
    axes.set(ylabel=f"Share {units.words['positive']}", ylim=(-0.03, 1.03), xlim=(0, 1))
    legend_above(axes)
    counts.set(xlabel=units.words["score"].capitalize(), ylabel="Number")
    style_axes(axes)
    style_axes(counts)
    return figure


def histogram_figure(units: Units, *, threshold: float | None = None, title: str = "") -> Figure:
    """Draw histograms of the scores of benign and malignant units, and the threshold."""
    figure, axes = new_axes(title)
    edges = [float(edge) for edge in np.linspace(0, 1, 26)]
    words = units.words
    sides = ((words["negative"], BLUE, ""), (words["positive"], ORANGE, "////"))
    for label, (name, colour, hatch) in enumerate(sides):
        scores = units.score[units.label == label]
        name = f"{name} ({len(scores)})"
        look: dict[str, Any] = {"bins": edges, "histtype": "stepfilled", "edgecolor": colour}
        axes.hist(scores, facecolor=(colour, 0.25), label="" if hatch else name, **look)
        if hatch:  # a separate patch, because SVG loses a hatch on a filled face
            axes.hist(scores, facecolor="none", hatch=hatch, label=name, **look)
    if threshold is not None:
        axes.axvline(threshold, color=GREY, linestyle="--", label=f"threshold {threshold:.3g}")
    axes.set(xlabel=words["score"].capitalize(), ylabel="Number", xlim=(0, 1))
    legend_above(axes)
    return figure


def confusion_figure(
    counts: NDArray[np.int64], *, classes: Sequence[str], called: str = "Predicted", title: str = ""
) -> Figure:
    """Draw a confusion matrix with the counts and the share of each row, shaded by share.

    Args:
        counts: C C, a row for each true class and a column for each predicted class.
        classes: names of the classes, C.
        called: label of the columns.
        title: title of the figure.
    """
    figure, axes = new_axes(title, height=3.9 if len(classes) == 2 else 4.6)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.pcolormesh(shares, cmap=SHADES, vmin=0, vmax=1, edgecolor="white", linewidth=2)
    for row, column in np.ndindex(counts.shape):
        axes.text(
            column + 0.5,
            row + 0.5,
            f"{counts[row, column]}\n{shares[row, column]:.0%}",
            ha="center",
            va="center",
            color="#101010",
            fontsize=11,
        )
    names = [readable(name, lines=True) for name in classes]
    places = np.arange(len(classes)) + 0.5
    axes.set_xticks(places, names, fontsize=9)
    axes.set_yticks(places, names, fontsize=9)
    axes.set(xlabel=called, ylabel="Truth")
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.tick_params(length=0)
    return figure


def subgroups_figure(
    groups: Sequence[Mapping[str, Any]],
    *,
    overall: float | None = None,
    samples: str = "images",
    title: str = "",
) -> Figure:
    """Draw the AUC of each subgroup with its interval, and its number of samples, malignant ones in brackets.

    Args:
        groups: subgroups of `metrics.json`, with `column`, `value`, `n`, `malignant`, `auc` and `note`.
        overall: AUC of all samples.
        samples: what the samples are.
        title: title of the figure.
    """
    figure, axes = new_axes(title, height=1.3 + 0.19 * _rows_high(groups))
    place, column = -1.0, None
    places: list[float] = []
    heads: set[float] = set()
    labels: list[str] = []
    for group in groups:
        if group["column"] != column:
            place += 1 if column is None else 1.5
            column = group["column"]
            places.append(place)
            heads.add(place)
            labels.append(readable(str(column)))
        place += 1
        value = "unknown" if group.get("value") is None else readable(str(group["value"]))
        places.append(place)
        labels.append(value)
        axes.annotate(
            f"{group.get('n', '?')} ({group.get('malignant', '?')})", (1.02, place), fontsize=8.5,
            xycoords=("axes fraction", "data"), va="center", annotation_clip=False,
        )  # fmt: skip
        area, low, high = parts(group.get("auc"))
        if area is None:
            axes.annotate(
                "too few", (0.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=8,
                fontstyle="italic",
            )  # fmt: skip
            continue
        if low is not None and high is not None:
            axes.plot([low, high], [place, place], color=BLUE, linewidth=1.5)
        axes.plot(area, place, color=BLUE, marker="s", markersize=5)
    axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1, label="chance")
    if overall is not None:
        axes.axvline(overall, color=ORANGE, linestyle="--", linewidth=1, label=f"all {samples} {overall:.3f}")
    axes.set_yticks(places, labels, parse_math=False)
    for tick, place in zip(axes.get_yticklabels(), places, strict=True):
        tick.set(fontsize=8.5, fontweight="bold" if place in heads else "normal")
    axes.set(xlabel="AUC", ylim=(place + 0.7, -0.7))
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    legend_above(axes)
    return figure


def _rows_high(groups: Sequence[Mapping[str, Any]]) -> float:
    return len(groups) + 1.5 * len({group["column"] for group in groups})


def froc_figure(froc: Mapping[str, Mapping[str, Any]], *, title: str = "") -> Figure:
    """Draw the share of lesions marked by the number of false marks per image, one curve for each method.

    Args:
        froc: for each method, the share or its estimate by the false marks per image as text (`"0.25"`).
        title: title of the figure.

    Raises:
        DataError: there are more methods than curves that can be told apart.
    """
    if len(froc) > len(SERIES):
        raise DataError(f"FROC of {len(froc)} methods: a figure shows at most {len(SERIES)}; leave some out")
    figure, axes = new_axes(title)
    for (method, points), (colour, line, marker) in zip(froc.items(), SERIES, strict=False):
        found = [
            (float(marks), *parts(share))
            for marks, share in sorted(points.items(), key=lambda pair: float(pair[0]))
        ]
        there = [(marks, value, low, high) for marks, value, low, high in found if value is not None]
        if not there:
            continue
        marks, values = [point[0] for point in there], [point[1] for point in there]
        bars = [
            [0 if low is None else value - low for _, value, low, _ in there],
            [0 if high is None else high - value for _, value, _, high in there],
        ]
        axes.errorbar(
            marks, values, yerr=np.clip(bars, 0, None), color=colour, linestyle=line, marker=marker,
            markersize=4, elinewidth=1, capsize=2, label=method,
        )  # fmt: skip
    axes.set(xlabel="False marks per image", ylabel="Lesions marked", ylim=(0, 1.02))
    axes.set_xlim(left=0)
    legend_above(axes)
    return figure


def _unit_square(axes: Axes, *, xlabel: str, ylabel: str) -> None:
    axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")


def _points(units: Units) -> tuple[Floats, Floats]:
    true, false = Ranking(units.score, units.label).points(np.ones((1, len(units.label))))
    return true[0], false[0]


def _bins(scores: Floats, units: Units) -> tuple[Floats, Floats, Floats, Floats]:
    """Return mean score, share of malignant units and its interval of each bin of equal numbers of units."""
    bins = max(min(2, len(scores)), min(_MOST_BINS, len(scores) // _BIN_UNITS))
    highest = np.sort(scores)[np.arange(1, bins) * len(scores) // bins - 1]  # of each bin but the last
    index = np.searchsorted(highest, scores)
    rows = []
    for number in np.unique(index):
        inside = index == number
        share = float(units.label[inside].mean())
        low, high = wilson_interval(share, len(np.unique(units.cluster[inside])))
        rows.append((float(scores[inside].mean()), share, low, high))
    mean, shares, lows, highs = np.array(rows).T
    return mean, shares, lows, highs
