"""The checkpoints of a run: the best, and the last two to resume from, each whole at any moment."""

import os
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint


class Checkpoints(Checkpoint):
    """Writes `last.ckpt` at each epoch's end and in between, and `best.ckpt` after a better epoch.

    A file is written beside and renamed, and `last.ckpt` before that becomes `previous.ckpt`, so that a kill
    at any moment leaves one to resume from.

    Args:
        folder: folder of the checkpoints.
        monitor: validation score.
        mode: whether a greater or a smaller one is better.
        minutes: time between two checkpoints within an epoch; None for none.
        steps: or optimiser steps.
    """

    def __init__(
        self,
        *,
        folder: Path,
        monitor: str,
        mode: Literal["max", "min"],
        minutes: float | None,
        steps: int | None,
    ) -> None:
        self.folder = folder
        self.monitor = monitor
        self.sign = 1 if mode == "max" else -1
        self.minutes = minutes
        self.steps = steps
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.stopped = False  # early

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "stopped": self.stopped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]
        self.stopped = state_dict["stopped"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.folder.mkdir(exist_ok=True)
        # Lightning forgets it
        trainer.should_stop = self.stopped
        self._saved(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # within a step the gradients gathered so far would be lost; at the end the epoch's own is due
        mid_step = (batch_idx + 1) % trainer.accumulate_grad_batches
        if mid_step or batch_idx + 1 >= trainer.num_training_batches or not self._due(trainer):
            return
        self._save(trainer)

    def _due(self, trainer: pl.Trainer) -> bool:
        if self.steps is not None and trainer.global_step - self.saved_step >= self.steps:
            return True
        if self.minutes is None:
            return False
        # one clock for all processes
        return bool(trainer.strategy.broadcast(time.monotonic() - self.saved_at >= 60 * self.minutes))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        score = float(trainer.callback_metrics[self.monitor])
        better = self.best is None or self.sign * score > self.sign * self.best
        if better:
            self.best, self.best_epoch = score, trainer.current_epoch + 1
        self.stopped = trainer.should_stop
        self._save(trainer, best=better)

    def _save(self, trainer: pl.Trainer, *, best: bool = False) -> None:
        last = self.folder / "last.ckpt"
        draft = last.with_suffix(".partial")
        trainer.save_checkpoint(draft)
        if trainer.is_global_zero:
            if best:
                copy = self.folder / "best.partial"
                shutil.copyfile(draft, copy)
                os.replace(copy, self.folder / "best.ckpt")
            if last.exists():
                os.replace(last, self.folder / "previous.ckpt")
            os.replace(draft, last)
        self._saved(trainer)

    def _saved(self, trainer: pl.Trainer) -> None:
        self.saved_step, self.saved_at = trainer.global_step, time.monotonic()


def is_whole(checkpoint: Path) -> bool:
    """Whether the file is there, not cut short, and every part of it as it was written."""
    try:
        with zipfile.ZipFile(checkpoint) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def newest_whole(folder: Path) -> tuple[Path | None, list[Path]]:
    """The checkpoint to resume from, and those newer ones that are damaged."""
    damaged: list[Path] = []
    for name in ("last.ckpt", "previous.ckpt"):
        if is_whole(folder / name):
            return folder / name, damaged
        if (folder / name).exists():
            damaged.append(folder / name)
    return None, damaged
