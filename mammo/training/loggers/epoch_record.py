"""The callback that records the numbers of each epoch."""

import csv
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from tqdm import tqdm

from mammo.atomic_files import write_atomically
from mammo.runs.run_lock import RunLock
from mammo.training.checkpoints import ends_epoch
from mammo.training.loggers.tensorboard_runs import TensorBoardRuns
from mammo.training.module import MammogramModule


class EpochRecord(pl.Callback):
    """Writes each epoch's numbers to `metrics.csv`, the terminal and the loggers.

    A validation within an epoch has a row of its own, whose epoch is a fraction; in a row without a
    validation, the validation scores are NaN. With several processes, all of them gather the numbers and only
    the first one writes. TensorBoard's curves are over the epochs, or over the optimiser steps if validations
    are within epochs.

    Args:
        metrics: path of `metrics.csv`.
        lock: lock of the run; nothing is written once another process is the run's writer.
        every_n_steps: number of optimiser steps between two training losses for the loggers.
    """

    def __init__(self, *, metrics: Path, lock: RunLock, every_n_steps: int = 50) -> None:
        self.metrics = metrics
        self.lock = lock
        self.every_n_steps = every_n_steps
        self.validated = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start_epoch()  # Lightning calls no on_train_epoch_start for a resumed epoch
        self.logged_step = trainer.global_step
        every: Any = trainer.val_check_batch
        self.within_epochs = trainer.check_val_every_n_epoch is None or every < trainer.num_training_batches
        if not trainer.is_global_zero:
            return
        done = _position(trainer)
        self._forget_after(done)
        if done:
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardRuns):
                    logger.forget_from(1 + (trainer.global_step if self.within_epochs else int(done)))

    def _forget_after(self, epoch: float) -> None:
        """Remove the rows of later epochs from the CSV file; the resumed training writes them again."""
        if epoch == 0:
            self.metrics.unlink(missing_ok=True)
        elif self.metrics.exists():
            header, *rows = self.metrics.read_text().splitlines(keepends=True)
            kept = [row for row in rows if float(row.partition(",")[0]) <= epoch + 1e-9]
            # a new file: what the previous writer still has open is no longer `metrics.csv`
            write_atomically(self.metrics, "".join([header, *kept]))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start_epoch()

    def _start_epoch(self) -> None:
        self.started = time.perf_counter()
        self.trained = 0.0
        self.images = torch.tensor(0)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # the number of samples differs between processes by at most one, in the last batch of an epoch; a
        # tensor, because its value would be waited for
        self.images = self.images + batch["present"].sum() * trainer.world_size
        self.trained = time.perf_counter() - self.started
        step = trainer.global_step
        if trainer.loggers and step != self.logged_step and step % self.every_n_steps == 0:
            self.logged_step = step
            if trainer.is_global_zero:
                for logger in trainer.loggers:
                    logger.log_metrics({"train/loss_step": float(outputs["unweighted"])}, step=step)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self.validated = True
        if not ends_epoch(trainer):
            self._record(trainer, pl_module, _position(trainer))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._record(trainer, pl_module, trainer.current_epoch + 1)

    def _record(self, trainer: pl.Trainer, module: pl.LightningModule, epoch: float) -> None:
        assert isinstance(module, MammogramModule)
        train = module.train_scores.compute()
        val = module.val_scores.compute() if self.validated else dict.fromkeys(train, math.nan)
        self.validated = False
        sides = {"train": train, "val": val}
        values = {f"{side}/{name}": float(v) for side, scores in sides.items() for name, v in scores.items()}
        values["train/lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        if self.trained:
            values["train/images_per_second"] = float(self.images) / self.trained
            loader: Any = trainer.train_dataloader
            values["train/waiting_for_data"] = loader.waited / self.trained
        if not trainer.is_global_zero:
            return
        self.lock.check()
        for logger in trainer.loggers:
            self._log(logger, epoch, values, trainer.global_step)
        self._append({"epoch": epoch} | values)
        self._print(epoch, trainer.max_epochs or 0, values)

    def _log(self, logger: Logger, epoch: float, values: Mapping[str, float], step: int) -> None:
        if isinstance(logger, TensorBoardRuns):
            logger.log_metrics(values, step=step if self.within_epochs else int(epoch))
        else:
            known = {name: value for name, value in values.items() if not math.isnan(value)}
            logger.log_metrics({"epoch": epoch} | known, step=step)
        logger.save()

    def _append(self, row: dict[str, float]) -> None:
        with self.metrics.open("a", newline="") as file:
            # A process may sleep between this check and its writing. The next writer replaces the file after
            # it has taken the run, so that the row then goes to the replaced file.
            self.lock.check()
            writer = csv.DictWriter(file, fieldnames=list(row))
            if not file.tell():
                writer.writeheader()
            writer.writerow(row)

    def _print(self, epoch: float, epochs: int, values: dict[str, float]) -> None:
        sides = ", ".join(
            f"{stage} loss {values[f'{stage}/loss']:.3f} AUC {values[f'{stage}/auc']:.3f}"
            for stage in ("train", "val")
            if not math.isnan(values[f"{stage}/loss"])
        )
        speed = f"{values['train/images_per_second']:.1f} images/s"
        # tqdm writes above the progress bar, if there is one
        tqdm.write(f"epoch {epoch:.4g}/{epochs}: {sides}, {speed}", file=sys.stderr)


def _position(trainer: pl.Trainer) -> float:
    """Return the number of epochs done, with the share of the current one."""
    epochs: Any = trainer.fit_loop.epoch_progress.current
    batches: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    if epochs.started <= epochs.processed or not batches.processed:
        return int(epochs.processed)
    return float(epochs.processed + batches.processed / trainer.num_training_batches)
