"""Curves of loss, AUC, accuracy and kappa by epoch."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mammo.evaluation.report.figure_style import BLUE, GREY, ORANGE, legend_above, new_axes, save_png
from mammo.runs import RunFolder

_CURVES = {"loss": "Loss", "auc": "AUC", "accuracy": "Accuracy", "kappa": "Quadratic weighted kappa"}


def curve_figure(epochs: pd.DataFrame, *, name: str, title: str = "") -> Figure:
    """Draw a score of training and validation by epoch, and mark the epoch of the best validation AUC.

    Args:
        epochs: content of `metrics.csv`.
        name: name of the score, such as `loss`, `auc` or `accuracy`.
        title: title of the figure.
    """
    figure, axes = new_axes(title)
    sides = {"train": ("training", ORANGE, "--", "s"), "val": ("validation", BLUE, "-", "o")}
    for side, (label, colour, line, marker) in sides.items():
        if f"{side}/{name}" in epochs:
            values = pd.to_numeric(epochs[f"{side}/{name}"], errors="coerce")
            known = values.notna()  # an epoch may have no validation
            axes.plot(
                epochs["epoch"][known],
                values[known],
                color=colour,
                linestyle=line,
                marker=marker,
                markersize=3,
                label=label,
            )
    if "val/auc" in epochs and epochs["val/auc"].notna().any():
        best = float(epochs["epoch"].to_numpy()[epochs["val/auc"].argmax()])
        axes.axvline(best, color=GREY, linestyle=":", label=f"best AUC, epoch {best:.4g}")
    axes.set(xlabel="Epoch", ylabel=_CURVES.get(name, name))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_above(axes)
    return figure


def curve_figures(run: RunFolder) -> dict[str, Figure]:
    """Draw the figures of loss, AUC, accuracy and, for ordered classes, kappa by epoch from `metrics.csv`."""
    epochs = pd.read_csv(run.metrics)
    return {name: curve_figure(epochs, name=name) for name in _CURVES if f"val/{name}" in epochs}


def draw_curves(run: RunFolder) -> dict[str, Figure]:
    """Write `figures/{loss,auc,accuracy,kappa}.png` and return the figures of `curve_figures`."""
    run.figures.mkdir(exist_ok=True)
    figures = curve_figures(run)
    for name, figure in figures.items():
        save_png(figure, run.figures / f"{name}.png", dpi=120)
    return figures
