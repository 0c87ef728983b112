"""Callbacks that seed and check a training, stop it at its last step, and unfreeze layers."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from mammo.data.loading.datamodule import datamodule_of
from mammo.data.loading.loader import Batch
from mammo.data.loading.samplers import batch_seed
from mammo.models.layer_depth import layer_of_parameters
from mammo.training.devices.distributed import refuse_together
from mammo.training.optim import first_trained_layer


class BatchSeed(pl.Callback):
    """Seeds the random numbers of dropout and drop path from the seed, the rank and the batch index.

    The random numbers of a batch do not depend on earlier batches, so a resumed run draws the same ones.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        batch = trainer.fit_loop.total_batch_idx
        torch.manual_seed(batch_seed(self.seed, rank=trainer.global_rank, batch=batch, purpose=1))


class FiniteLoss(pl.Callback):
    """Stops a training whose loss is not finite, before its weights are saved in a checkpoint.

    On a GPU, the losses of several batches are checked together, to avoid a synchronisation in each batch.
    Validation losses are checked at the end of the validation, because processes may differ by one batch. If
    one process finds a loss that is not finite, all processes stop.

    Raises:
        DataError: a loss or a weight is not finite; the message names epoch, batch and images, or the weight.
    """

    _BATCHES = 20

    def __init__(self) -> None:
        self.pending: list[tuple[str, Tensor, Tensor]] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        loss: Tensor = outputs["unweighted"]
        self._keep(trainer, f"batch {batch_idx + 1}", loss, batch)
        if not loss.is_cuda or len(self.pending) >= self._BATCHES:
            self._check(trainer)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._keep(trainer, f"validation batch {batch_idx + 1}", outputs.detach(), batch)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._check(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._check(trainer)
        spoiled = (
            f"{name} is not finite in epoch {trainer.current_epoch + 1}: {_REMEDY}"
            for name, values in checkpoint["state_dict"].items()
            if values.is_floating_point() and not values.isfinite().all()
        )
        refuse_together(next(spoiled, None))

    def _keep(self, trainer: pl.Trainer, place: str, loss: Tensor, batch: Batch) -> None:
        self.pending.append((f"epoch {trainer.current_epoch + 1}, {place}", loss, batch["row"]))

    def _check(self, trainer: pl.Trainer) -> None:
        pending, self.pending = self.pending, []
        spoiled = ((place, loss, rows) for place, loss, rows in pending if not loss.isfinite())
        problem = None
        if found := next(spoiled, None):
            place, loss, rows = found
            ids = ", ".join(datamodule_of(trainer).image_ids(rows.cpu().numpy()))
            problem = f"the loss is {loss.item()} in {place} ({ids}): {_REMEDY}"
        refuse_together(problem)


_REMEDY = (
    "check the images, lower optim.lr or give trainer.precision=32-true; the last good checkpoint is kept"
)


class BestEpochCallback(pl.Callback):
    """A callback that also works on the best epoch, after the training, in the first process only."""

    def on_best_epoch(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Called with the weights of the best epoch and the scores of its validation images.

        Args:
            trainer: trainer of the training, which has ended.
            pl_module: the module.
        """


class LastStep(pl.Callback):
    """Stops at `trainer.max_steps` with a validation; Lightning would stop without one.

    It is no early stop: a run that is resumed with a greater number continues.
    """

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if 0 < trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True


class SameStart(pl.Callback):
    """Checks that all processes of a training start with the same facts as the first process.

    Args:
        facts: value of each fact by name: config, split, checkpoint.

    Raises:
        DataError: a fact differs between processes.
    """

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        first = trainer.strategy.broadcast(self.facts)
        other = next((name for name in first if first[name] != self.facts[name]), None)
        refuse_together(
            other
            and f"process {trainer.global_rank} has a different {other} from process 0; start all processes "
            "by the same command, with access to the same files"
        )


class Unfreezing(pl.Callback):
    """Trains only the classifier at first, then also the layers below it; see `first_trained_layer`.

    Batch normalisation in a frozen layer uses its running statistics and does not update them.

    Args:
        freeze_epochs: see `first_trained_layer`.
        unfreeze_every: see `first_trained_layer`.
        freeze_batch_norm: whether batch normalisation does so in all layers, in all epochs; its weights and
            biases are trained.
    """

    def __init__(
        self,
        *,
        freeze_epochs: int = 0,
        unfreeze_every: int | None = None,
        freeze_batch_norm: bool = False,
    ) -> None:
        self.freeze_epochs = freeze_epochs
        self.unfreeze_every = unfreeze_every
        self.freeze_batch_norm = freeze_batch_norm

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._apply(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._apply(trainer, pl_module)

    def _apply(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        network = pl_module.network
        assert isinstance(network, nn.Module)
        layers = layer_of_parameters(network, coarse=True)
        first = first_trained_layer(
            epoch=trainer.current_epoch,
            head=max(layers.values()),
            freeze_epochs=self.freeze_epochs,
            unfreeze_every=self.unfreeze_every,
        )
        for prefix, module in network.named_modules():
            own = [f"{prefix}.{name}".lstrip(".") for name, _ in module.named_parameters(recurse=False)]
            for name, parameter in zip(own, module.parameters(recurse=False), strict=True):
                parameter.requires_grad = layers[name] >= first
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and own:
                module.train(layers[own[0]] >= first and not self.freeze_batch_norm)
