"""The batches of one split: read from the prepared store, scaled and augmented on the device."""

import math
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler, SequentialSampler

from mammo.data.loading.augment import BatchAugment, mixup
from mammo.data.loading.loader import Batch, StoreDataset, StoreLoader
from mammo.data.loading.samplers import EpochSampler, PartSampler, batch_seed, share
from mammo.data.splits import Split
from mammo.data.store.store import Store
from mammo.data.tasks import CLASSES


class MammogramDataModule(pl.LightningDataModule):
    """The train, validation and test images of one split of a prepared store.

    Args:
        store: the prepared store.
        split: image ids of the three sets.
        task: name of the task, a key of `CLASSES`.
        batch_size: number of images of an optimiser step, over all processes.
        accumulate: number of parts into which a training batch is divided, to need less memory.
        processes: number of processes that train together, each with its share of a part; `batch_size` is a
            multiple of `accumulate * processes`.
        loader_workers: number of threads that read ahead; 0: each batch is read when it is requested.
        balance: `sampling` draws each class equally often; `weights` is for the loss, see `class_weights`.
        augment: augmentation of the training batches; None: no augmentation.
        seed: seed of the order and the augmentation.
        mixup: alpha of the Beta distribution of mixup; 0: no mixing.
    """

    def __init__(
        self,
        *,
        store: Store,
        split: Split,
        task: str,
        batch_size: int,
        loader_workers: int,
        balance: Literal["none", "weights", "sampling"],
        augment: BatchAugment | None,
        seed: int,
        mixup: float = 0.0,
        accumulate: int = 1,
        processes: int = 1,
    ) -> None:
        super().__init__()
        self.store = store
        self.classes = CLASSES[task]
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.processes = processes
        self.loader_workers = loader_workers
        self.balance = balance
        self.augment = augment
        self.seed = seed
        self.mixup = mixup
        table = store.table.set_index("image_id", drop=False)
        self.train, self.val, self.test = (
            StoreDataset(store=store, table=table.loc[side], task=task)
            for side in (split.train, split.val, split.test)
        )

    def class_weights(self) -> Tensor | None:
        """Returns class weights for the loss, or None unless `balance` is `weights`.

        A weight is inverse to the number of images of the class; the mean over the images is 1.
        """
        if self.balance != "weights":
            return None
        counts = np.bincount(self.train.labels, minlength=len(self.classes))
        return torch.from_numpy(len(self.train) / (len(self.classes) * np.maximum(counts, 1))).float()

    def statistics(self, *, most: int = 512) -> tuple[float, float]:
        """Returns mean and standard deviation of the training pixels in [0, 1].

        They are computed from at most `most` images, evenly spaced in the training set.
        """
        rows = self.train.rows[np.linspace(0, len(self.train) - 1, min(most, len(self.train))).astype(int)]
        scale = np.iinfo(self.store.images.dtype).max
        images = (self.store.read(rows[place : place + 1]) / scale for place in range(len(rows)))
        mean, square = np.mean([(image.mean(), np.square(image).mean()) for image in images], axis=0)
        return float(mean), max(math.sqrt(max(square - mean**2, 0.0)), 1e-6)

    @property
    def part_size(self) -> int:
        """Number of images that pass through the network together, in each process."""
        return self.batch_size // (self.accumulate * self.processes)

    @property
    def images_per_epoch(self) -> int:
        """Number of training images, without a last part that is too small."""
        rest = len(self.train) % (self.part_size * self.processes)
        return len(self.train) - (rest if rest < self._least() else 0)

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimiser steps; known before the training begins, unlike that of Lightning's loader."""
        return math.ceil(self.images_per_epoch / self.batch_size)

    def image_ids(self, rows: NDArray[np.int64]) -> list[str]:
        """Returns the ids of the images in these rows of the store."""
        return self.store.table.set_index("row").loc[rows, "image_id"].tolist()

    def train_dataloader(self) -> StoreLoader:
        epoch, batches = self._place()
        order = EpochSampler(
            labels=self.train.labels,
            seed=self.seed,
            balanced=self.balance == "sampling",
            epoch=epoch,
            seen=batches * self.part_size * self.processes,
        )
        return self._loader(self.train, order, least=self._least())

    def _place(self) -> tuple[int, int]:
        """Returns the epoch where the training starts or resumes, and the number of its finished batches."""
        if self.trainer is None:
            return 0, 0
        # Any, because the types of Lightning are too narrow
        epochs: Any = self.trainer.fit_loop.epoch_progress.current
        batches: Any = self.trainer.fit_loop.epoch_loop.batch_progress.current
        return epochs.processed, batches.processed if epochs.started > epochs.processed else 0

    def _least(self) -> int:
        # every process needs an image, and batch normalisation needs at least two
        return self.processes * min(2, self.part_size)

    def val_dataloader(self) -> StoreLoader:
        return self._loader(self.val, SequentialSampler(self.val))

    def test_dataloader(self) -> StoreLoader:
        return self._loader(self.test, SequentialSampler(self.test))

    def _loader(self, dataset: StoreDataset, order: Sampler[int], *, least: int = 0) -> StoreLoader:
        # of this trainer: one process evaluates, even if several have trained
        rank, processes = (
            (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        )
        size = self.part_size * processes
        return StoreLoader(
            dataset=dataset,
            batch_sampler=PartSampler(order, size=size, least=least, rank=rank, processes=processes),
            threads=self.loader_workers,
            device=None if self.trainer is None else self.trainer.strategy.root_device,
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Scales images to [0, 1] on the device and, in training, augments and mixes them."""
        image = batch["image"].float() / torch.iinfo(batch["image"].dtype).max
        batch = Batch(image=image, label=batch["label"], boxes=batch["boxes"], row=batch["row"])
        if self.trainer is None or not self.trainer.training:
            return batch
        loop = self.trainer.fit_loop
        size = self.part_size * self.processes
        first = (loop.batch_idx + 1) * size
        part = min(size, self.images_per_epoch - first)  # images of the part, over all processes
        step = min(self.batch_size, self.images_per_epoch - first // self.batch_size * self.batch_size)
        # with it, the mean over processes and parts of an optimiser step is the mean over its images
        batch["weight"] = len(image) * self.accumulate * self.processes / step
        # depends on this part only, not on earlier random numbers; the same for all processes
        seed = batch_seed(self.seed, rank=0, batch=loop.total_batch_idx + 1, purpose=0)
        generator = torch.Generator().manual_seed(seed)
        if self.augment is not None:
            mine = share(part, rank=self.trainer.global_rank, processes=self.processes)
            batch["image"], batch["boxes"] = self.augment(
                image, batch["boxes"], generator=generator, first=mine.start, among=part
            )
        if self.mixup:
            batch["image"], batch["partner"], batch["share"] = mixup(
                batch["image"], batch["label"], alpha=self.mixup, generator=generator
            )
        return batch


def datamodule_of(trainer: pl.Trainer) -> MammogramDataModule:
    """Returns the data module of a trainer."""
    module = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(module, MammogramDataModule)
    return module
