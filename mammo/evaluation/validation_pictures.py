"""Figures and heatmaps of the validation images in TensorBoard, while a network trains."""

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.tensorboard import SummaryWriter

from mammo.data.loading.datamodule import MammogramDataModule, datamodule_of
from mammo.data.tasks import malignant_classes
from mammo.evaluation.explain.heatmaps import Heatmaps
from mammo.evaluation.explain.localisation import heat_candidates
from mammo.evaluation.explain.overlays import draw_overlay
from mammo.evaluation.predictions import Predictions
from mammo.evaluation.scoring import images_of
from mammo.training.best_epoch import predictions_table
from mammo.training.module import MammogramModule
from mammo.training.optional_output import OptionalOutput

_THRESHOLD = 0.5  # the threshold of the validation images is fixed after the training
_WIDTH = 320


class ValidationPictures(pl.Callback):
    """Draws ROC, precision-recall, reliability, confusion matrix, scores by class, and heatmaps.

    Args:
        folder: folder of the event files.
        every: number of epochs between drawings; None draws only at the end of the training.
        images: number of images shown per class: the first validation images, those with lesions before the
            others. They are the same at each drawing.
    """

    def __init__(self, *, folder: Path, every: int | None, images: int = 3) -> None:
        self.folder = folder
        self.every = every
        self.images = images
        self.drawn = 0
        self.output = OptionalOutput("TensorBoard pictures")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if self.every is not None and epoch % self.every == 0:
            self._draw(trainer, pl_module, epoch)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch > self.drawn:
            self._draw(trainer, pl_module, trainer.current_epoch)

    def _draw(self, trainer: pl.Trainer, module: pl.LightningModule, epoch: int) -> None:
        self.drawn = epoch
        assert isinstance(module, MammogramModule)
        data = datamodule_of(trainer)
        with module.val_scores.sync_context():
            probability, label, row = module.val_scores.gathered()
        if not trainer.is_global_zero or not len(label):
            return
        with self.output:
            table = predictions_table(
                data.store.table.set_index("row").loc[row.tolist()],
                label=label,
                probability=probability,
                classes=data.classes,
            )
            predictions = Predictions(table.reset_index(drop=True), data.classes, "validation")
            self._write(predictions, module, data, epoch)

    def _write(
        self, predictions: Predictions, module: MammogramModule, data: MammogramDataModule, epoch: int
    ) -> None:
        from mammo.evaluation.report.evaluation_report import (
            figures_of,  # imported late, because it imports Matplotlib
        )

        with SummaryWriter(self.folder) as writer:
            figures = figures_of(predictions, {"threshold": _THRESHOLD}, split="validation")
            for name, figure in figures.items():
                writer.add_figure(f"figures/{name}", figure, epoch)
            for place, picture in enumerate(_overlays(module, data, self.images), start=1):
                writer.add_image(f"heat/{place}", picture, epoch, dataformats="HWC")


def _overlays(module: MammogramModule, data: MammogramDataModule, images: int) -> list[np.ndarray]:
    """Draw the heat of malignancy on the same images at each call."""
    from mammo.evaluation.report.report_content import image_name, public

    val = data.val
    has_lesion = (~np.isnan(val.boxes[..., 0])).any(axis=1)
    order = np.argsort(~has_lesion, kind="stable")
    chosen = [
        index
        for label in range(len(data.classes))
        for index in order[val.labels[order] == label][:images].tolist()
    ]
    malignant = malignant_classes(data.classes)
    batch = images_of(data.store, val.rows[chosen].tolist()).to(module.device)
    # for benign images too, the heat is that of a malignant class
    targets = [label if label in malignant else malignant[0] for label in val.labels[chosen].tolist()]
    heats = Heatmaps(module)(batch, torch.tensor(targets, device=module.device))
    ids = data.image_ids(val.rows[chosen])
    return [
        draw_overlay(
            data.store.images[val.rows[index]],
            heat,
            val.boxes[index],
            heat_candidates(heat).boxes,
            f"{public(image_name(image_id))}: {data.classes[val.labels[index]].lower().replace('_', ' ')}",
            width=_WIDTH,
        )
        for index, heat, image_id in zip(chosen, heats, ids, strict=True)
    ]
