"""Lightning callback that reports a trial's epochs to the search and stops a pruned trial."""

import pytorch_lightning as pl

from mammo.errors import DataError, TrainingStopped
from mammo.sweeping.search.search import Search
from mammo.training.checkpoints import Checkpoints


class Pruned(TrainingStopped):
    """The pruner of the search stopped the trial."""

    status = "pruned"


class TrialReassigned(TrainingStopped):
    """The trial was assigned to another worker, which writes to the run, because this one counted as dead."""

    status = None


class EpochReport(pl.Callback):
    """Report the best validation AUC so far after each epoch, and stop a pruned training.

    Args:
        search: search that the trial belongs to.
        number: number of the trial, from 0.
        worker: name of the worker that trains it.
        earlier_scores: validation AUC of the trial's finished runs; the objective is the mean over all runs.
    """

    def __init__(self, search: Search, *, number: int, worker: str, earlier_scores: list[float]) -> None:
        self.search = search
        self.number = number
        self.worker = worker
        self.earlier_scores = earlier_scores

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if pl_module.monitor != "val/auc":
            raise DataError(
                "data: a search needs the validation AUC, and the validation images are of one class; "
                "give another data.split or more images"
            )

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._check_owner()
        # not at the end of an epoch: its checkpoint and curves must be written first
        if self.search.trial(self.number).should_prune():
            raise Pruned(f"pruned after {trainer.current_epoch} epochs")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._check_owner()  # else this epoch is reported twice
        if "val/auc" not in trainer.callback_metrics:
            return  # no validation yet
        now = float(trainer.callback_metrics["val/auc"])
        own = (callback for callback in trainer.checkpoint_callbacks if isinstance(callback, Checkpoints))
        best = next((callback.best for callback in own), None)
        best = now if best is None else max(best, now)
        runs = len(self.earlier_scores)
        epoch = runs * (trainer.max_epochs or 0) + trainer.current_epoch + 1
        self.search.trial(self.number).report((sum(self.earlier_scores) + best) / (runs + 1), epoch)

    def _check_owner(self) -> None:
        if not self.search.is_owner(self.number, self.worker):
            raise TrialReassigned(f"trial {self.number} was assigned to another worker")
