"""What loggers get beside curves: the settings, pictures, and the final score."""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.loggers import Logger, MLFlowLogger, WandbLogger

from mammo.config.flattening import flatten
from mammo.metrics import Estimate
from mammo.runs import RunFolder
from mammo.training.loggers.hparams import write_hparams
from mammo.training.loggers.logger_nodes import output_of
from mammo.training.loggers.tensorboard_runs import TensorBoardRuns
from mammo.training.optional_output import OptionalOutput

if TYPE_CHECKING:  # takes long to import, and the first step does not need it
    from matplotlib.figure import Figure


_DPI = 160  # of a figure of 4.6 inches: its text is readable without enlarging it


def log_settings(loggers: Iterable[Logger], *, config: Mapping[str, Any], run: RunFolder) -> None:
    """Hand the settings of the run, with dotted keys, and the path of its best checkpoint to the loggers."""
    best = str((run.checkpoints / "best.ckpt").absolute())
    for logger in loggers:
        logger.log_hyperparams(flatten(config) | {"checkpoint": best})
        logger.save()


def takes_pictures(logger: Logger) -> bool:
    """Return whether the logger shows pictures: TensorBoard, MLflow, or one with a method `log_image`."""
    return isinstance(logger, TensorBoardRuns | MLFlowLogger) or hasattr(logger, "log_image")


def log_picture(logger: Logger, name: str, picture: "Figure | NDArray[Any]", step: int) -> None:
    """Hand a figure, or an image H W 3, to a logger.

    Args:
        logger: logger for which `takes_pictures` is true.
        name: name of the picture, such as `figures/roc`.
        picture: figure of Matplotlib, or pixels.
        step: epoch.
    """
    if isinstance(logger, TensorBoardRuns):
        if not isinstance(picture, np.ndarray):
            picture.set_dpi(_DPI)
            logger.experiment.add_figure(name, picture, step, close=False)
        else:
            logger.experiment.add_image(name, picture, step, dataformats="HWC")
    elif isinstance(logger, MLFlowLogger):
        file = f"{name}/{step}.png"
        if not isinstance(picture, np.ndarray):
            logger.experiment.log_figure(logger.run_id, picture, file)
        else:
            logger.experiment.log_image(logger.run_id, picture, file)
    else:
        logger.log_image(key=name, images=[picture])  # type: ignore[attr-defined]


def log_score(
    loggers: Iterable[Logger],
    *,
    run: RunFolder,
    score: Estimate,
    seconds: float,
    step: int,
    searched: Sequence[str] | None,
) -> None:
    """Hand the final score to the loggers; for TensorBoard's HParams, with the settings that differ.

    Args:
        loggers: loggers of the run.
        run: folder of the run.
        score: validation score of the best epoch.
        seconds: duration of the run in seconds.
        step: number of optimiser steps of the run.
        searched: see `write_hparams`.
    """
    values = {"auc": score.value, "auc_low": score.low, "auc_high": score.high, "seconds": seconds}
    for logger in loggers:
        if isinstance(logger, TensorBoardRuns):
            with output_of(logger):
                write_hparams(run, score=score, seconds=seconds, searched=searched)
        else:
            known = {f"score/{key}": value for key, value in values.items() if not math.isnan(value)}
            logger.log_metrics(known, step=step)
            logger.save()


def run_ids(loggers: Mapping[str, Logger]) -> dict[str, str]:
    """Return the ids by which MLflow and others continue the same run."""
    ids: dict[str, str] = {}
    for name, logger in loggers.items():
        with output_of(logger):
            if run_id := getattr(logger, "run_id", None):
                ids[name] = str(run_id)
    return ids


def end_of_loggers(loggers: Mapping[str, Logger], *, failed: bool) -> None:
    """End the run of Weights & Biases; otherwise the next training of this process would continue it."""
    if any(isinstance(logger, WandbLogger) for logger in loggers.values()) and "wandb" in sys.modules:
        with OptionalOutput("logger wandb, end"):
            sys.modules["wandb"].finish(exit_code=int(failed))
