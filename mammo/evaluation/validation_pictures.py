"""Figures and heatmaps of the validation images for the loggers, while a network trains."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger

from mammo.data.loading.datamodule import MammogramDataModule, datamodule_of
from mammo.errors import DataError
from mammo.evaluation.explain.heatmaps import Heatmaps
from mammo.evaluation.explain.overlays import draw_views, drawn_views
from mammo.evaluation.predictions import Predictions
from mammo.evaluation.statistics.calibration import fit_calibration
from mammo.training.best_epoch import predictions_table
from mammo.training.callbacks import BestEpochCallback
from mammo.training.loggers.logger_nodes import output_of
from mammo.training.loggers.logger_output import log_picture, takes_pictures
from mammo.training.module import MammogramModule
from mammo.training.optional_output import OptionalOutput

_UNDEFINED = 0.5  # threshold if the validation images are of one class
_WIDTH = 640


class ValidationPictures(BestEpochCallback):
    """Draws ROC, precision-recall, reliability, confusion matrix, scores by class, and heatmaps.

    The last drawing is that of the best epoch, with the threshold of the report. Those of other epochs have
    the threshold that these epochs would have.

    Args:
        every: number of epochs between drawings; None draws only the best epoch.
        images: number of images shown per class: the first validation images, those with lesions before the
            others. They are the same at each drawing.
    """

    def __init__(self, *, every: int | None, images: int = 3) -> None:
        self.every = every
        self.images = images
        self.output = OptionalOutput("pictures")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        is_last = epoch == trainer.max_epochs  # the best epoch is drawn in its place
        if self.every is not None and epoch % self.every == 0 and not is_last:
            self._draw(trainer, pl_module, epoch)

    def on_best_epoch(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._draw(trainer, pl_module, trainer.current_epoch)

    def _draw(self, trainer: pl.Trainer, module: pl.LightningModule, epoch: int) -> None:
        loggers = [logger for logger in trainer.loggers if takes_pictures(logger)]
        if not loggers:
            return
        assert isinstance(module, MammogramModule)
        data = datamodule_of(trainer)
        with module.val_scores.sync_context():
            probability, label, unit = module.val_scores.gathered()
        if not trainer.is_global_zero or not len(label):
            return
        with self.output:
            table = predictions_table(
                data.val.units.iloc[unit],
                label=label,
                probability=probability,
                classes=data.classes,
            )
            predictions = Predictions(table.reset_index(drop=True), data.task, "validation")
            self._write(loggers, predictions, module, data, epoch)

    def _write(
        self,
        loggers: list[Logger],
        predictions: Predictions,
        module: MammogramModule,
        data: MammogramDataModule,
        epoch: int,
    ) -> None:
        from mammo.evaluation.report.evaluation_report import (
            figures_of,  # imported late, because it imports Matplotlib
        )

        figures = figures_of(predictions, {"threshold": _threshold(predictions)}, split="validation")
        pictures: dict[str, Any] = {f"figures/{name}": figure for name, figure in figures.items()}
        for place, picture in enumerate(_overlays(module, data, self.images), start=1):
            pictures[f"heat/{place}"] = picture
        for logger in loggers:
            with output_of(logger):
                for name, picture in pictures.items():
                    log_picture(logger, name, picture, epoch)
                logger.save()


def _threshold(predictions: Predictions) -> float:
    """Return the threshold that `calibration_of` fixes on these validation images."""
    if not predictions.task.positive:
        return _UNDEFINED
    try:
        return fit_calibration(predictions).threshold(predictions.unit)
    except DataError:
        return _UNDEFINED


def _overlays(module: MammogramModule, data: MammogramDataModule, images: int) -> list[np.ndarray]:
    """Draw the heat of the same images at each call, of their class or of a positive one."""
    from mammo.evaluation.report.figure_style import readable
    from mammo.evaluation.report.report_content import image_name, public

    val = data.val
    first = val.first_of_units
    has_lesion = (~np.isnan(val.boxes(first)[..., 0])).any(axis=(1, 2))
    order = first[np.argsort(~has_lesion, kind="stable")]
    chosen = [
        index
        for label in range(len(data.classes))
        for index in order[val.labels[order] == label][:images].tolist()
    ]
    shown = data.task.shown
    batch = val.batch(chosen)
    targets = [label if label in shown else shown[0] for label in val.labels[chosen].tolist()]
    heats = Heatmaps(module)(
        batch["image"].to(module.device),
        torch.tensor(targets, device=module.device),
        present=batch["present"].to(module.device),
    )
    names = val.units["sample_id"].iloc[val.unit[chosen]]

    def said(target: int) -> str:
        return f", heat of {readable(data.classes[target])}" if len(shown) > 1 else ""

    return [
        draw_views(
            drawn_views(val, index, heat),
            f"{public(image_name(name))}: {readable(data.classes[val.labels[index]])}{said(target)}",
            width=_WIDTH,
        )
        for index, heat, name, target in zip(chosen, heats, names, targets, strict=True)
    ]
