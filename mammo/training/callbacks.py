"""What is written down while a network trains."""

import csv
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from mammo.training.module import MammogramModule


class EpochRecord(pl.Callback):
    """Writes each epoch's numbers to TensorBoard, `metrics.csv` and the terminal.

    TensorBoard gets two runs, `train` and `val`, with the same tags, so that both stand in one chart.

    Args:
        tensorboard: folder of the event files.
        metrics: the CSV file.
        config: the resolved config, shown as text.
    """

    def __init__(self, *, tensorboard: Path, metrics: Path, config: dict[str, Any]) -> None:
        self.tensorboard = tensorboard
        self.metrics = metrics
        self.config = config
        self.writers: dict[str, SummaryWriter] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.writers = {stage: SummaryWriter(self.tensorboard / stage) for stage in ("train", "val")}
        text = yaml.safe_dump(self.config, sort_keys=False).replace("\n", "\n    ")
        self.writers["train"].add_text("config", f"    {text}")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = self.waiting_since = time.perf_counter()
        self.waited = self.trained = 0.0
        self.images = 0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # for the batch and its augmentation
        self.waited += time.perf_counter() - self.waiting_since

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.images += len(batch["label"])
        self.waiting_since = time.perf_counter()
        self.trained = self.waiting_since - self.started

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, MammogramModule)
        sides = {"train": pl_module.train_scores.compute(), "val": pl_module.val_scores.compute()}
        values = {f"{side}/{name}": float(v) for side, scores in sides.items() for name, v in scores.items()}
        values["train/lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        values["train/images_per_second"] = self.images / self.trained
        values["train/waiting_for_data"] = self.waited / self.trained
        epoch = trainer.current_epoch + 1
        for name, value in values.items():
            stage, _, tag = name.partition("/")
            self.writers[stage].add_scalar(tag, value, epoch)
        for writer in self.writers.values():
            writer.flush()
        self._append({"epoch": epoch} | values)
        self._say(epoch, trainer.max_epochs or epoch, values)

    def _append(self, row: dict[str, float]) -> None:
        new = not self.metrics.exists()
        with self.metrics.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)

    def _say(self, epoch: int, epochs: int, values: dict[str, float]) -> None:
        sides = ", ".join(
            f"{stage} loss {values[f'{stage}/loss']:.3f} AUC {values[f'{stage}/auc']:.3f}"
            for stage in self.writers
        )
        speed = f"{values['train/images_per_second']:.1f} images/s"
        # above the progress bar where there is one
        tqdm.write(f"epoch {epoch}/{epochs}: {sides}, {speed}", file=sys.stderr)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        for writer in self.writers.values():
            writer.close()
