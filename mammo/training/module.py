"""The Lightning module: a network, its loss, its optimiser and the scores of each epoch."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from mammo.data.loading.datamodule import datamodule_of
from mammo.data.loading.loader import Batch
from mammo.metrics.epoch_scores import EpochScores
from mammo.models.classifier import Classifier
from mammo.training.losses import box_loss


class MammogramModule(Classifier, pl.LightningModule):
    """Classifies images, computes loss, AUC and accuracy of each epoch, and logs the validation scores.

    The checkpoint contains the weights and the normalisation, so it is sufficient for prediction.

    Args:
        network: network from normalised images, B 1 H W, to logits, B C.
        num_classes: C, number of classes.
        mean: mean of the training pixels, in [0, 1].
        std: standard deviation of the training pixels.
        loss: function of logits, B C, and classes, B.
        box_weight: weight of the squared error of the box in the loss of a two-headed network.
        optimizer: function of the network that returns its optimiser.
        schedule: function of `steps_per_epoch` and `epochs` that returns the factor of the learning rate.
        plateau: function of the optimiser that returns a scheduler driven by a score, or None.
        monitor: name of the validation score that drives `plateau`.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        num_classes: int,
        mean: float,
        std: float,
        loss: nn.Module,
        box_weight: float = 1.0,
        optimizer: Callable[[nn.Module], Optimizer],
        schedule: Callable[..., Callable[[int], float]],
        plateau: Callable[[Optimizer], ReduceLROnPlateau] | None = None,
        monitor: str = "val/auc",
    ) -> None:
        super().__init__(network=network, mean=mean, std=std)
        self.loss = loss
        self.box_weight = box_weight
        self.build_optimizer = optimizer
        self.build_schedule = schedule
        self.build_plateau = plateau
        self.plateau: ReduceLROnPlateau | None = None
        self.plateau_state: dict[str, Any] | None = None
        self.monitor = monitor
        self.train_scores = EpochScores(num_classes)
        self.val_scores = EpochScores(num_classes)

    def _step(self, batch: Batch, scores: EpochScores) -> Tensor:
        images = batch["image"]
        logits, boxes = self.with_boxes(images) if self.has_boxes else (self(images), None)
        loss: Tensor = self.loss(logits, batch["label"])
        if "partner" in batch:
            share = batch["share"]
            loss = share * loss + (1 - share) * self.loss(logits, batch["partner"])
        if boxes is not None:
            # with mixup, the target is the lesion of the image, not of its partner
            size = (images.shape[2], images.shape[3])
            loss = loss + self.box_weight * box_loss(boxes, batch["boxes"], size=size)
        scores.update(loss, logits.softmax(dim=1), batch["label"], batch["row"])
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
        self.log_dict({f"val/{name}": value for name, value in self.val_scores.compute().items()})

    def on_train_epoch_end(self) -> None:
        if self.plateau is not None:
            self.plateau.step(float(self.trainer.callback_metrics[self.monitor]))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.build_optimizer(self.network)
        if self.build_plateau is not None:
            # Lightning would step this scheduler only after the checkpoint of the epoch is written
            self.plateau = self.build_plateau(optimizer)
            return optimizer
        steps_per_epoch = datamodule_of(self.trainer).steps_per_epoch
        factor = self.build_schedule(steps_per_epoch=steps_per_epoch, epochs=self.trainer.max_epochs or 1)
        scheduler: dict[str, Any] = {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}  # type: ignore[return-value]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # for resuming in the middle of an epoch
        with self.train_scores.sync_context():
            checkpoint["train_scores"] = self.train_scores.snapshot()
        if self.plateau is not None:
            checkpoint["plateau"] = self.plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # the saved scores are those of all processes, so only one process restores them
        if self.trainer.is_global_zero:
            self.train_scores.restore(checkpoint["train_scores"])
        self.plateau_state = checkpoint.get("plateau")

    def on_train_start(self) -> None:
        # the optimiser of the scheduler is built after the checkpoint is loaded
        if self.plateau is not None and self.plateau_state is not None:
            self.plateau.load_state_dict(self.plateau_state)
