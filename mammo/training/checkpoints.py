"""The checkpoints of a run: the best, and the last two to resume from, each whole at any moment."""

import os
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint, Timer

from mammo.atomic_files import draft_of
from mammo.runs.run_lock import RunLock


class Checkpoints(Checkpoint):
    """Writes `last.ckpt` at each epoch's end and in between, and `best.ckpt` after a better validation.

    A file is written under another name and then renamed, and the earlier `last.ckpt` becomes
    `previous.ckpt`: after a kill at any moment one of them is whole.

    Args:
        folder: folder of the checkpoints.
        lock: lock of the run; nothing is replaced once another process is the run's writer.
        monitor: validation score.
        mode: "max" if a greater score is better, "min" if a smaller one is.
        minutes: time between two checkpoints within an epoch; None for no limit.
        steps: number of optimiser steps between two checkpoints within an epoch; None for no limit.
    """

    def __init__(
        self,
        *,
        folder: Path,
        lock: RunLock,
        monitor: str,
        mode: Literal["max", "min"],
        minutes: float | None,
        steps: int | None,
    ) -> None:
        self.folder = folder
        self.lock = lock
        self.monitor = monitor
        self.sign = 1 if mode == "max" else -1
        self.minutes = minutes
        self.steps = steps
        self.best: float | None = None
        self.best_epoch: int | None = None  # the one that was best, or in which a validation was
        self.validated = False  # since the last comparison with the best score
        self.stopped = False  # early

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "stopped": self.stopped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]
        self.stopped = state_dict["stopped"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.folder.mkdir(exist_ok=True)
            for draft in self.folder.glob("*.tmp"):  # of a process that was killed
                draft.unlink()
        # Lightning does not restore it
        trainer.should_stop = self.stopped
        self._saved(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # in the middle of a step the accumulated gradients would be lost; the epoch's end has its own
        mid_step = (batch_idx + 1) % trainer.accumulate_grad_batches
        if mid_step or ends_epoch(trainer) or _validates_now(trainer) or not self._due(trainer):
            return
        self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self.validated = True
        if not ends_epoch(trainer):
            self._save(trainer, best=self._is_best(trainer))

    def _due(self, trainer: pl.Trainer) -> bool:
        if self.steps is not None and trainer.global_step - self.saved_step >= self.steps:
            return True
        if self.minutes is None:
            return False
        # one clock for all processes
        return bool(trainer.strategy.broadcast(time.monotonic() - self.saved_at >= 60 * self.minutes))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.stopped = trainer.should_stop and not _reached_limit(trainer)
        self._save(trainer, best=self._is_best(trainer))

    def _is_best(self, trainer: pl.Trainer) -> bool:
        """Return whether the weights were validated and are the best so far, and note it."""
        if not self.validated:
            return False
        self.validated = False
        score = float(trainer.callback_metrics[self.monitor])
        better = self.best is None or self.sign * score > self.sign * self.best
        if better:
            self.best, self.best_epoch = score, trainer.current_epoch + 1
        return better

    def _save(self, trainer: pl.Trainer, *, best: bool = False) -> None:
        last = self.folder / "last.ckpt"
        if trainer.is_global_zero:
            with draft_of(last) as draft:
                trainer.save_checkpoint(draft)
                self.lock.check()  # writing takes long enough for the run to be taken over
                if best:
                    with draft_of(self.folder / "best.ckpt") as copy:
                        shutil.copyfile(draft, copy)
                if last.exists():
                    os.replace(last, self.folder / "previous.ckpt")
        else:
            trainer.save_checkpoint(last)  # takes part; the first process writes
        self._saved(trainer)

    def _saved(self, trainer: pl.Trainer) -> None:
        self.saved_step, self.saved_at = trainer.global_step, time.monotonic()


def ends_epoch(trainer: pl.Trainer) -> bool:
    """Return whether the current batch, or the validation after it, is the last of its epoch."""
    loop = trainer.fit_loop.epoch_loop
    return trainer.should_stop or loop.batch_idx + 1 >= trainer.num_training_batches


def _validates_now(trainer: pl.Trainer) -> bool:
    """Return whether a validation, which writes a checkpoint itself, may follow the current batch."""
    loop, every = trainer.fit_loop.epoch_loop, trainer.val_check_batch
    across = trainer.check_val_every_n_epoch is None
    done = loop.total_batch_idx if across else loop.batch_idx
    return every is not None and (done + 1) % every == 0


def _reached_limit(trainer: pl.Trainer) -> bool:
    """Return whether the training stops by `max_steps` or `max_time`, which a resumed run may raise."""
    if 0 < trainer.max_steps <= trainer.global_step:
        return True
    timers = (callback for callback in trainer.callbacks if isinstance(callback, Timer))  # type: ignore[attr-defined]
    return any((left := timer.time_remaining()) is not None and left <= 0 for timer in timers)


def is_whole(checkpoint: Path) -> bool:
    """Return whether the file exists, is complete, and has the checksums it was written with."""
    try:
        with zipfile.ZipFile(checkpoint) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def newest_whole(folder: Path) -> tuple[Path | None, list[Path]]:
    """Return the checkpoint to resume from, None if there is none, and the newer ones that are damaged."""
    damaged: list[Path] = []
    for name in ("last.ckpt", "previous.ckpt"):
        if is_whole(folder / name):
            return folder / name, damaged
        if (folder / name).exists():
            damaged.append(folder / name)
    return None, damaged
