"""Trainings of a few seconds on the ten grey images."""

from functools import partial
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint, ProgressBar

from helpers.networks import build_model
from mammo.data.loading.datamodule import MammogramDataModule
from mammo.training.losses import CrossEntropy
from mammo.training.module import MammogramModule
from mammo.training.optim import build_optimizer


class Rows(pl.Callback):
    """The rows of each training epoch, in order."""

    def __init__(self) -> None:
        self.epochs: list[list[int]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epochs.append([])

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.epochs[-1] += batch["row"].flatten().tolist()


def module(datamodule: MammogramDataModule, *, lr: float = 1e-3, **changes: Any) -> MammogramModule:
    mean, std = datamodule.statistics()
    arguments: dict[str, Any] = {
        "network": build_model(name="custom_cnn", num_classes=2),
        "num_classes": 2,
        "mean": mean,
        "std": std,
        "loss": CrossEntropy(),
        "optimizer": partial(build_optimizer, node={"_target_": "torch.optim.AdamW", "lr": lr}),
    }
    return MammogramModule(**(arguments | changes))


def train(
    model: MammogramModule,
    datamodule: MammogramDataModule,
    *,
    epochs: int,
    callbacks: tuple[pl.Callback, ...] = (),
    **options: Any,
) -> Rows:
    """Trains; only the callbacks write files."""
    rows = Rows()
    options["enable_checkpointing"] = any(isinstance(callback, Checkpoint) for callback in callbacks)
    options["enable_progress_bar"] = any(isinstance(callback, ProgressBar) for callback in callbacks)
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, callbacks=[rows, *callbacks],
        enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(model, datamodule)
    return rows
