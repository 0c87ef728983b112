"""The Lightning module: a network, its loss, its optimiser and the scores of each epoch."""

from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from mammo.data.loading.datamodule import datamodule_of
from mammo.data.loading.loader import Batch
from mammo.metrics.epoch_scores import EpochScores
from mammo.metrics.own_metrics import OwnMetrics
from mammo.models.classifier import Classifier
from mammo.models.output import Output


class MammogramModule(Classifier, pl.LightningModule):
    """Classifies images, computes loss, AUC and accuracy of each epoch, and logs the validation scores.

    The checkpoint contains the weights and the normalisation, so it is sufficient for prediction.

    Args:
        network: network from normalised images, B 1 H W, to logits, B C, or to an `Output`.
        num_classes: C, number of classes.
        mean: mean of the training pixels, in [0, 1].
        std: standard deviation of the training pixels.
        loss: function of output and batch that returns the terms to add, by name.
        optimizer: function of the network that returns its optimiser.
        schedule: function of the optimiser, `steps_per_epoch`, `epochs` and `total_steps` that returns a
            schedule and when it is advanced; None for a constant learning rate.
        monitor: name of the validation score that drives a schedule such as `ReduceLROnPlateau`.
        ordered: whether the order of the classes has a meaning, see `EpochScores`.
        metrics: the user's metrics; None for none.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        num_classes: int,
        mean: float,
        std: float,
        loss: Callable[[Output, Batch], Mapping[str, Tensor]],
        optimizer: Callable[[nn.Module], Optimizer],
        schedule: Callable[..., tuple[LRScheduler, str]] | None = None,
        monitor: str = "val/auc",
        ordered: bool = False,
        metrics: OwnMetrics | None = None,
    ) -> None:
        super().__init__(network=network, mean=mean, std=std)
        self.loss = loss
        self.build_optimizer = optimizer
        self.build_schedule = schedule
        self.plateau: ReduceLROnPlateau | None = None
        self.plateau_state: dict[str, Any] | None = None
        self.monitor = monitor
        self.validated = False  # in this epoch
        self.train_scores, self.val_scores = (
            EpochScores(num_classes, ordered=ordered, own=metrics, averaged=averaged)
            for averaged in (False, True)
        )

    def loss_terms(self, output: Output, batch: Batch) -> Mapping[str, Tensor]:
        """Return the terms of the loss; with mixup, each between those of the images and their partners."""
        terms = self.loss(output, batch)
        if "partner" not in batch:
            return terms
        share = batch["share"]
        others = self.loss(output, batch | {"label": batch["partner"]})
        return {name: share * term + (1 - share) * others[name] for name, term in terms.items()}

    def _step(self, batch: Batch, scores: EpochScores) -> Tensor:
        output = self.output(batch["image"], batch["present"])
        terms = self.loss_terms(output, batch)
        loss = torch.stack(list(terms.values())).sum()
        probability = output.logits.softmax(dim=1)
        parts = output.part_logits if scores.averaged else None  # for the table of predictions
        scores.update(
            loss,
            probability,
            batch["label"],
            batch["unit"],
            terms=terms,
            parts=None if parts is None else parts.softmax(dim=-1),
        )
        return loss

    def on_train_epoch_start(self) -> None:
        self.train_scores.reset()

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        loss = self._step(batch, self.train_scores)
        self.log("loss", loss.detach(), prog_bar=True, logger=False)
        # the weights make an optimiser step use the mean over its images, for any number of batches
        return {"loss": loss * batch["weight"], "unweighted": loss.detach()}

    def on_validation_epoch_start(self) -> None:
        self.val_scores.reset()
        # each process has its own running averages; use those of process 0, which are in the checkpoint
        if self.trainer.world_size > 1:
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._step(batch, self.val_scores)

    def on_validation_epoch_end(self) -> None:
        scores = {f"val/{name}": value for name, value in self.val_scores.compute().items()}
        self.log_dict(scores, logger=False)  # the loggers get them from `EpochRecord`
        self.validated = not self.trainer.sanity_checking

    def on_train_epoch_end(self) -> None:
        if self.plateau is not None and self.validated:
            self.plateau.step(float(self.trainer.callback_metrics[self.monitor]))
        self.validated = False

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.build_optimizer(self.network)
        if self.build_schedule is None:
            return optimizer
        steps_per_epoch = datamodule_of(self.trainer).steps_per_epoch
        epochs, most = self.trainer.max_epochs or 1, self.trainer.max_steps
        steps = steps_per_epoch * epochs
        schedule, interval = self.build_schedule(
            optimizer,
            steps_per_epoch=steps_per_epoch,
            epochs=epochs,
            total_steps=min(steps, most) if most > 0 else steps,
        )
        if isinstance(schedule, ReduceLROnPlateau):
            # Lightning would step this scheduler only after the checkpoint of the epoch is written
            self.plateau = schedule
            return optimizer
        advanced: dict[str, Any] = {"scheduler": schedule, "interval": interval}
        return {"optimizer": optimizer, "lr_scheduler": advanced}  # type: ignore[return-value]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # for resuming in the middle of an epoch
        with self.train_scores.sync_context():
            checkpoint["train_scores"] = self.train_scores.snapshot()
        if self.plateau is not None:
            checkpoint["plateau"] = self.plateau.state_dict()
        checkpoint["validated"] = self.validated

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # the saved scores are those of all processes, so only one process restores them
        if self.trainer.is_global_zero:
            self.train_scores.restore(checkpoint["train_scores"])
        self.plateau_state = checkpoint.get("plateau")
        self.validated = checkpoint.get("validated", False)

    def on_train_start(self) -> None:
        # the optimiser of the scheduler is built after the checkpoint is loaded
        if self.plateau is not None and self.plateau_state is not None:
            self.plateau.load_state_dict(self.plateau_state)
