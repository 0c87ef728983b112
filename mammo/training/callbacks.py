"""Callbacks that record a training, seed and check it, and unfreeze layers."""

import csv
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from mammo.data.loading.datamodule import datamodule_of
from mammo.data.loading.loader import Batch
from mammo.data.loading.samplers import batch_seed
from mammo.models.layer_depth import layer_of_parameters
from mammo.runs.run_lock import RunLock
from mammo.training.distributed import refuse_together
from mammo.training.module import MammogramModule
from mammo.training.optim import first_trained_layer
from mammo.training.optional_output import OptionalOutput


class EpochRecord(pl.Callback):
    """Writes each epoch's numbers to TensorBoard, `metrics.csv` and the terminal.

    TensorBoard gets two runs, `train` and `val`, with the same tags, so that each chart shows both. With
    several processes, all of them gather the numbers and only the first one writes.

    Args:
        tensorboard: folder of the event files.
        metrics: path of `metrics.csv`.
        config: resolved config, written to TensorBoard as text.
        lock: lock of the run; nothing is written once another process is the run's writer.
    """

    def __init__(self, *, tensorboard: Path, metrics: Path, config: dict[str, Any], lock: RunLock) -> None:
        self.tensorboard = tensorboard
        self.metrics = metrics
        self.config = config
        self.lock = lock
        self.writers: dict[str, SummaryWriter] = {}
        self.curves = OptionalOutput("TensorBoard curves")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start_epoch()  # Lightning calls no on_train_epoch_start for a resumed epoch
        if not trainer.is_global_zero:
            return
        done = trainer.current_epoch
        self._forget_after(done)
        with self.curves:
            self.writers = {
                stage: SummaryWriter(self.tensorboard / stage, purge_step=done + 1 if done else None)
                for stage in ("train", "val")
            }
            if done == 0:
                text = yaml.safe_dump(self.config, sort_keys=False).replace("\n", "\n    ")
                self.writers["train"].add_text("config", f"    {text}")

    def _forget_after(self, epoch: int) -> None:
        """Remove the rows of later epochs from the CSV file; the resumed training writes them again."""
        if epoch == 0:
            self.metrics.unlink(missing_ok=True)
        else:
            lines = self.metrics.read_text().splitlines(keepends=True)
            self.metrics.write_text("".join(lines[: 1 + epoch]))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start_epoch()

    def _start_epoch(self) -> None:
        self.started = time.perf_counter()
        self.trained = 0.0
        self.images = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # the number of images differs between processes by at most one, in the last batch of an epoch
        self.images += len(batch["label"]) * trainer.world_size
        self.trained = time.perf_counter() - self.started

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, MammogramModule)
        sides = {"train": pl_module.train_scores.compute(), "val": pl_module.val_scores.compute()}
        values = {f"{side}/{name}": float(v) for side, scores in sides.items() for name, v in scores.items()}
        values["train/lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        if self.trained:
            values["train/images_per_second"] = self.images / self.trained
            loader: Any = trainer.train_dataloader
            values["train/waiting_for_data"] = loader.waited / self.trained
        if not trainer.is_global_zero:
            return
        self.lock.check()
        epoch = trainer.current_epoch + 1
        with self.curves:
            for name, value in values.items():
                stage, _, tag = name.partition("/")
                self.writers[stage].add_scalar(tag, value, epoch)
            for writer in self.writers.values():
                writer.flush()
        self._append({"epoch": epoch} | values)
        self._print(epoch, trainer.max_epochs or epoch, values)

    def _append(self, row: dict[str, float]) -> None:
        new = not self.metrics.exists()
        with self.metrics.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)

    def _print(self, epoch: int, epochs: int, values: dict[str, float]) -> None:
        sides = ", ".join(
            f"{stage} loss {values[f'{stage}/loss']:.3f} AUC {values[f'{stage}/auc']:.3f}"
            for stage in ("train", "val")
        )
        speed = f"{values['train/images_per_second']:.1f} images/s"
        # tqdm writes above the progress bar, if there is one
        tqdm.write(f"epoch {epoch}/{epochs}: {sides}, {speed}", file=sys.stderr)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        with self.curves:
            for writer in self.writers.values():
                writer.close()


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
    "check the images, lower optim.lr or give trainer.precision=float32; the last good checkpoint is kept"
)


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

    Batch normalisation in a frozen layer does not update its running statistics.
    """

    def __init__(self, *, freeze_epochs: int = 0, unfreeze_every: int | None = None) -> None:
        self.freeze_epochs = freeze_epochs
        self.unfreeze_every = unfreeze_every

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
                module.train(layers[own[0]] >= first)
