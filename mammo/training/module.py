"""The Lightning module: a network, its loss, its optimiser and an epoch's scores."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from mammo.data.datamodule import Batch
from mammo.metrics import EpochScores
from mammo.training.optim import adamw, warmup_cosine


class MammogramModule(pl.LightningModule):
    """Classifies images, and gathers loss, AUC and accuracy of each epoch; logs those of the validation.

    The checkpoint holds the normalisation with the weights, so that a prediction needs nothing else.

    Args:
        network: B 1 H W, normalised, to B C logits.
        mean: of the training pixels, in [0, 1].
        std: their deviation.
        class_weights: C, of the loss; None for equal ones.
        label_smoothing: of the loss.
        lr: greatest learning rate.
        weight_decay: of weights, not of norms and biases.
        warmup_epochs: of the learning rate.
        final_lr_fraction: where the learning rate ends.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        network: nn.Module,
        mean: float,
        std: float,
        class_weights: Tensor | None,
        label_smoothing: float,
        lr: float,
        weight_decay: float,
        warmup_epochs: float,
        final_lr_fraction: float,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))
        self.loss = nn.CrossEntropyLoss(weight=class_weights, label_smoothing=label_smoothing)
        self.lr = lr
        self.weight_decay = weight_decay
        self.warmup_epochs = warmup_epochs
        self.final_lr_fraction = final_lr_fraction
        self.train_scores = EpochScores()
        self.val_scores = EpochScores()

    def forward(self, images: Tensor) -> Tensor:
        """B 1 H W in [0, 1] to B C logits, float32."""
        normalised = (images - self.mean) / self.std
        logits: Tensor = self.network(normalised.contiguous(memory_format=torch.channels_last))
        return logits.float()

    def _step(self, batch: Batch, scores: EpochScores) -> Tensor:
        logits = self(batch["image"])
        loss: Tensor = self.loss(logits, batch["label"])
        scores.update(loss, logits.softmax(dim=1)[:, 1], batch["label"], batch["row"])
        return loss

    def on_train_epoch_start(self) -> None:
        self.train_scores.reset()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self._step(batch, self.train_scores)
        self.log("loss", loss.detach(), prog_bar=True, logger=False)
        return loss

    def on_validation_epoch_start(self) -> None:
        self.val_scores.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._step(batch, self.val_scores)

    def on_validation_epoch_end(self) -> None:
        self.log_dict({f"val/{name}": value for name, value in self.val_scores.compute().items()})

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = adamw(self.network, lr=self.lr, weight_decay=self.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        per_epoch = steps / max(1, self.trainer.max_epochs or 1)
        schedule = warmup_cosine(
            optimizer,
            steps=steps,
            warmup_steps=round(self.warmup_epochs * per_epoch),
            final_lr_fraction=self.final_lr_fraction,
        )
        scheduler: dict[str, Any] = {"scheduler": schedule, "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}  # type: ignore[return-value]
