"""The callback by which a trial's epochs reach the search, which may end it early."""

import pytorch_lightning as pl

from mammo.errors import DataError, TrainingStopped
from mammo.runs import RunFolder
from mammo.sweeping.search.search import Search


class Pruned(TrainingStopped):
    """The search ended the trial for its score."""

    status = "pruned"


class Lost(TrainingStopped):
    """The trial was given to another worker, which took this one for dead.

    Args:
        message: for `run.json`.
        status: that the other has brought the run to, which stays.
    """

    def __init__(self, message: str, *, status: str) -> None:
        super().__init__(message)
        self.status = status


class EpochReport(pl.Callback):
    """Reports each epoch's best score so far, and ends a training that is pruned.

    Args:
        search: of the trial.
        number: of the trial.
        run: of the trial's, that is trained.
        worker: that trains it.
        before: scores of the trial's runs that are finished, over which the objective is the mean.
    """

    def __init__(
        self, search: Search, *, number: int, run: RunFolder, worker: str, before: list[float]
    ) -> None:
        self.search = search
        self.number = number
        self.run = run
        self.worker = worker
        self.before = before

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if pl_module.monitor != "val/auc":
            raise DataError("a search goes by the validation AUC, and the validation images are of one class")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._refuse_when_lost()
        # not at the epoch's end, whose checkpoint and curves are to be written
        if self.search.trial(self.number).should_prune():
            raise Pruned(f"pruned after {trainer.current_epoch} epochs")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._refuse_when_lost()  # before this epoch is written once more
        now = float(trainer.callback_metrics["val/auc"])
        best = getattr(trainer.checkpoint_callback, "best", None)
        best = now if best is None else max(best, now)
        epoch = len(self.before) * (trainer.max_epochs or 0) + trainer.current_epoch + 1
        self.search.trial(self.number).report((sum(self.before) + best) / (len(self.before) + 1), epoch)

    def _refuse_when_lost(self) -> None:
        if not self.search.is_owner(self.number, self.worker):
            status = self.run.facts()["status"]
            raise Lost(f"trial {self.number} was given to another worker", status=status)
