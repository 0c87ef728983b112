"""The progress bar of a training: one for the whole run."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from tqdm.auto import tqdm


class RunProgress(ProgressBar):
    """Shows one bar over all batches of the run, with the epoch and the time left.

    Where the number of batches is unknown, as with `trainer.max_epochs=-1`, the bar counts without an end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bar: Any = None
        self.shown = True

    def disable(self) -> None:
        self.shown = False

    def enable(self) -> None:
        self.shown = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.bar = tqdm(
            total=whole_batches(trainer),
            initial=trainer.fit_loop.total_batch_idx + 1,
            unit="batch",
            smoothing=0,  # the time left includes validations
            leave=False,
            disable=not self.shown,
        )

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # the lines of the epochs count from 1 too
        last = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
        self.bar.set_description(f"epoch {trainer.current_epoch + 1}{last}")

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.bar.update()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def whole_batches(trainer: pl.Trainer) -> int | None:
    """Return the number of training batches of the whole run; None if it is unknown."""
    batches = trainer.num_training_batches
    limits = []
    if isinstance(batches, int) and (trainer.max_epochs or -1) > 0:
        limits.append(batches * int(trainer.max_epochs or 0))
    if trainer.max_steps > 0:
        limits.append(trainer.max_steps * trainer.accumulate_grad_batches)
    return min(limits, default=None)
