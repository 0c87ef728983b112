"""Figures and heatmaps of the validation images for the loggers, while a network trains."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger

from mammo.data.loading.datamodule import MammogramDataModule, datamodule_of
from mammo.evaluation.explain.heatmaps import Heatmaps
from mammo.evaluation.explain.overlays import draw_views, drawn_views
from mammo.evaluation.predictions import Predictions
from mammo.training.best_epoch import predictions_table
from mammo.training.loggers.logger_nodes import output_of
from mammo.training.loggers.logger_output import log_picture, takes_pictures
from mammo.training.module import MammogramModule
from mammo.training.optional_output import OptionalOutput

_THRESHOLD = 0.5  # the threshold of the validation images is fixed after the training
_WIDTH = 320


class ValidationPictures(pl.Callback):
    """Draws ROC, precision-recall, reliability, confusion matrix, scores by class, and heatmaps.

    Args:
        every: number of epochs between drawings; None draws only at the end of the training.
        images: number of images shown per class: the first validation images, those with lesions before the
            others. They are the same at each drawing.
    """

    def __init__(self, *, every: int | None, images: int = 3) -> None:
        self.every = every
        self.images = images
        self.drawn = 0
        self.output = OptionalOutput("pictures")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if self.every is not None and epoch % self.every == 0:
            self._draw(trainer, pl_module, epoch)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch > self.drawn:
            self._draw(trainer, pl_module, trainer.current_epoch)

    def _draw(self, trainer: pl.Trainer, module: pl.LightningModule, epoch: int) -> None:
        self.drawn = epoch
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

        figures = figures_of(predictions, {"threshold": _THRESHOLD}, split="validation")
        pictures: dict[str, Any] = {f"figures/{name}": figure for name, figure in figures.items()}
        for place, picture in enumerate(_overlays(module, data, self.images), start=1):
            pictures[f"heat/{place}"] = picture
        for logger in loggers:
            with output_of(logger):
                for name, picture in pictures.items():
                    log_picture(logger, name, picture, epoch)
                logger.save()


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
