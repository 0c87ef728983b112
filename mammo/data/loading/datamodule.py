"""The batches of one split: read from the prepared store, scaled and augmented on the device."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler, SequentialSampler

from mammo.data.loading.augment import mixup
from mammo.data.loading.image_transforms import Augmentation
from mammo.data.loading.loader import Batch, StoreDataset, StoreLoader, scaled
from mammo.data.loading.patch_dataset import dataset_of
from mammo.data.loading.samplers import EpochSampler, PartSampler, batch_seed, share
from mammo.data.samples import SampleUnit, views_of
from mammo.data.splits import Split
from mammo.data.store.store import Store
from mammo.data.tasks import Task


class MammogramDataModule(pl.LightningDataModule):
    """The train, validation and test samples of one split of a prepared store.

    Args:
        store: the prepared store.
        split: image ids of the three sets.
        task: the task.
        sample_unit: what a sample is, see `StoreDataset`.
        views: views of a breast or exam, in the order of its images.
        patch: node `data.patch`, for patches.
        batch_size: number of samples of a batch, over all processes.
        micro_batches: number of parts into which a training batch is divided, to need less memory; a batch of
            Lightning is such a part.
        accumulate_grad_batches: number of whole batches of an optimiser step.
        processes: number of processes that train together, each with its share of a part; `batch_size` is a
            multiple of `micro_batches * processes`.
        loader_workers: number of threads that read ahead; 0: each batch is read when it is requested.
        balance: `sampling` draws each class equally often; `weights` is for the loss, see `class_weights`.
        augment: augmentation of the training batches; None: no augmentation.
        seed: seed of the order and the augmentation.
        mixup: alpha of the Beta distribution of mixup; 0: no mixing.
        limit_train_batches: number of parts in an epoch, or their share as a float; None: all.
        limit_val_batches: the same for the validation.
        same_order: whether each epoch has the order of the first one.
        batch_masks: whether the batches have the masks of lesions, see `StoreDataset.class_masks`.
    """

    def __init__(
        self,
        *,
        store: Store,
        split: Split,
        task: Task,
        batch_size: int,
        sample_unit: SampleUnit = "image",
        views: Sequence[str] | None = None,
        patch: Mapping[str, Any] | None = None,
        loader_workers: int,
        balance: Literal["none", "weights", "sampling"],
        augment: Augmentation | None,
        seed: int,
        mixup: float = 0.0,
        micro_batches: int = 1,
        accumulate_grad_batches: int = 1,
        processes: int = 1,
        limit_train_batches: int | float | None = None,
        limit_val_batches: int | float | None = None,
        same_order: bool = False,
        batch_masks: bool = False,
    ) -> None:
        super().__init__()
        self.store = store
        self.task = task
        self.classes = task.classes
        self.batch_size = batch_size
        self.micro_batches = micro_batches
        self.accumulate_grad_batches = accumulate_grad_batches
        self.processes = processes
        self.loader_workers = loader_workers
        self.balance = balance
        self.augment = augment
        self.seed = seed
        self.mixup = mixup
        self.limit_train_batches = limit_train_batches
        self.limit_val_batches = limit_val_batches
        self.same_order = same_order
        table = store.table.set_index("image_id", drop=False)
        self.sample_unit = sample_unit

        def dataset(image_ids: list[str], *, seed: int | None = None) -> StoreDataset:
            return dataset_of(
                store=store,
                table=table.loc[image_ids],
                task=task,
                unit=sample_unit,
                views=views_of(sample_unit, views) or (),
                patch=patch,
                seed=seed,
                batch_masks=batch_masks,
            )

        self.train = dataset(split.train, seed=seed)
        self.val, self.test = dataset(split.val), dataset(split.test)

    def class_weights(self) -> Tensor | None:
        """Returns class weights for the loss, or None unless `balance` is `weights`.

        A weight is inverse to the number of samples of the class; the mean over the samples is 1.
        """
        if self.balance != "weights":
            return None
        counts = np.bincount(self.train.labels, minlength=len(self.classes))
        return torch.from_numpy(len(self.train) / (len(self.classes) * np.maximum(counts, 1))).float()

    def statistics(self, *, most: int = 512) -> tuple[float, float]:
        """Returns mean and standard deviation of the training pixels in [0, 1].

        They are computed from at most `most` images, evenly spaced in the training set.
        """
        rows = self.train.image_rows
        rows = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]
        scale = np.iinfo(self.store.images.dtype).max
        images = (self.store.read(rows[place : place + 1]) / scale for place in range(len(rows)))
        mean, square = np.mean([(image.mean(), np.square(image).mean()) for image in images], axis=0)
        return float(mean), max(math.sqrt(max(square - mean**2, 0.0)), 1e-6)

    @property
    def part_size(self) -> int:
        """Number of samples that pass through the network together, in each process."""
        return self.batch_size // (self.micro_batches * self.processes)

    @property
    def samples_per_step(self) -> int:
        """Number of samples of an optimiser step, over all processes."""
        return self.batch_size * self.accumulate_grad_batches

    @property
    def samples_per_epoch(self) -> int:
        """Number of training samples of an epoch, without a last part that is too small."""
        size = self.part_size * self.processes
        rest = len(self.train) % size
        samples = len(self.train) - (rest if rest < self._least() else 0)
        return min(samples, _limited(math.ceil(samples / size), self.limit_train_batches) * size)

    @property
    def batches_per_epoch(self) -> int:
        """Number of training batches of `batch_size` samples."""
        return math.ceil(self.samples_per_epoch / self.batch_size)

    @property
    def validated_samples(self) -> int:
        """Number of validation samples that are scored in a validation."""
        size = self.part_size * self.processes
        samples = len(self.val)
        return min(samples, _limited(math.ceil(samples / size), self.limit_val_batches) * size)

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimiser steps; known before the training begins, unlike that of Lightning's loader."""
        return math.ceil(self.samples_per_epoch / self.samples_per_step)

    def image_ids(self, rows: NDArray[np.int64]) -> list[str]:
        """Returns the ids of the images in these rows of the store; -1 is no image."""
        return self.store.table.set_index("row").loc[rows[rows >= 0], "image_id"].tolist()

    def train_dataloader(self) -> StoreLoader:
        epoch, batches = self._place()
        order = EpochSampler(
            labels=self.train.labels,
            seed=self.seed,
            balanced=self.balance == "sampling",
            epoch=epoch,
            seen=batches * self.part_size * self.processes,
            same=self.same_order,
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
        batch = scaled(batch)
        if self.trainer is None or not self.trainer.training:
            return batch
        loop = self.trainer.fit_loop
        size = self.part_size * self.processes
        first = (loop.batch_idx + 1) * size
        part = min(size, self.samples_per_epoch - first)  # samples of the part, over all processes
        of_step = self.samples_per_step
        step = min(of_step, self.samples_per_epoch - first // of_step * of_step)
        # with it, the mean over processes and parts of an optimiser step is the mean over its samples
        parts = self.micro_batches * self.accumulate_grad_batches
        batch["weight"] = len(batch["label"]) * parts * self.processes / step
        # depends on this part only, not on earlier random numbers; the same for all processes
        seed = batch_seed(self.seed, rank=0, batch=loop.total_batch_idx + 1, purpose=0)
        generator = torch.Generator().manual_seed(seed)
        if self.augment is not None:
            mine = share(part, rank=self.trainer.global_rank, processes=self.processes)
            batch = augmented(batch, self.augment, generator=generator, first=mine.start, among=part)
        if self.mixup:
            batch = mixed(batch, alpha=self.mixup, generator=generator)
        return batch


def augmented(
    batch: Batch,
    augment: Augmentation,
    *,
    generator: torch.Generator,
    first: int = 0,
    among: int | None = None,
) -> Batch:
    """Returns a batch whose images are augmented, each by itself.

    Args:
        batch: batch of samples.
        augment: augmentation of a batch of images.
        generator: random generator on the CPU.
        first: index of the first sample of the batch among the `among` samples.
        among: number of samples that numbers are drawn for; None: those of this batch.
    """
    views = batch["image"].shape[1]
    fields: dict[str, Tensor] = {key: batch[key] for key in ("image", "boxes", "mask") if key in batch}
    moved = augment(
        {key: field.flatten(0, 1) for key, field in fields.items()},
        generator=generator,
        first=first * views,
        among=None if among is None else among * views,
    )
    return cast(Batch, {**batch, **{key: moved[key].reshape(field.shape) for key, field in fields.items()}})


def mixed(batch: Batch, *, alpha: float, generator: torch.Generator) -> Batch:
    """Returns a batch of single images that are mixed, see `mixup`."""
    image, partner, share = mixup(batch["image"].squeeze(1), batch["label"], alpha=alpha, generator=generator)
    return cast(Batch, {**batch, "image": image.unsqueeze(1), "partner": partner, "share": share})


def _limited(batches: int, limit: int | float | None) -> int:
    """Returns the number of batches that a limit of Lightning leaves."""
    if limit is None:
        return batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def datamodule_of(trainer: pl.Trainer) -> MammogramDataModule:
    """Returns the data module of a trainer."""
    module = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(module, MammogramDataModule)
    return module
