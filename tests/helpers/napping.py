"""A callback by which a small training takes the time of a larger one, but not its processor time."""

import time

import pytorch_lightning as pl


class Nap(pl.Callback):
    """Sleeps at the end of each training epoch.

    Args:
        seconds: duration.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        time.sleep(self.seconds)
