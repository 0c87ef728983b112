"""Pictures of a run."""

import pandas as pd
from matplotlib.figure import Figure

from mammo.runs import RunFolder

_TITLES = {"loss": "Loss", "auc": "AUC", "accuracy": "Accuracy"}


def draw_curves(run: RunFolder) -> None:
    """Writes `figures/{loss,auc,accuracy}.png`: train and validation by epoch, from `metrics.csv`."""
    epochs = pd.read_csv(run.metrics)
    run.figures.mkdir(exist_ok=True)
    for name, title in _TITLES.items():
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        for side, label in {"train": "training", "val": "validation"}.items():
            axes.plot(epochs["epoch"], epochs[f"{side}/{name}"], label=label, marker=".")
        axes.set(xlabel="Epoch", ylabel=title)
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(run.figures / f"{name}.png", dpi=120)
