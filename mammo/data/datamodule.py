"""Batches from the prepared store: fetched whole from the memory map, augmented on the device."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, SequentialSampler

from mammo.data.augment import BatchAugment, mixup
from mammo.data.breast import BOX_COLUMNS
from mammo.data.splits import Split
from mammo.data.store import Store
from mammo.data.tasks import CLASSES, labels


class Batch(TypedDict):
    """Images with their labels, as the network gets them; `weight` in training, the last two when mixed."""

    image: Tensor  # B 1 H W, float in [0, 1] on the device; uint8 or uint16 before
    label: Tensor  # B, index of the class
    boxes: Tensor  # B K 4, lesions in pixels, NaN where there are fewer than K
    row: Tensor  # B, row in the store
    weight: NotRequired[float]  # of its mean loss, 1 where it is the whole batch of an optimiser step
    partner: NotRequired[Tensor]  # B, index of the class of the image mixed in
    share: NotRequired[float]  # of the image itself, from 0.5 to 1


class StoreDataset(Dataset[Batch]):
    """Some of a store's images; a batch is one look into the memory map.

    Args:
        store: the prepared store.
        table: those rows of its table that belong to the dataset.
        task: which labels.
    """

    def __init__(self, *, store: Store, table: pd.DataFrame, task: str) -> None:
        self.store = store
        self.rows = table["row"].to_numpy(dtype=np.int64)
        self.labels = labels(table, store.lesions, task=task)
        self.boxes = lesion_boxes(store.lesions, table["image_id"])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        rows = self.rows[indices]
        return Batch(
            image=torch.from_numpy(self.store.images[rows][:, None]),
            label=torch.from_numpy(self.labels[indices]),
            boxes=torch.from_numpy(self.boxes[indices]),
            row=torch.from_numpy(rows),
        )


def lesion_boxes(lesions: pd.DataFrame, image_ids: pd.Series) -> NDArray[np.float32]:
    """N K 4 boxes of the images' lesions, K the most that one image has, NaN elsewhere."""
    known = lesions.dropna(subset=BOX_COLUMNS)
    known = known[known["image_id"].isin(image_ids)]
    place = known.groupby("image_id").cumcount().to_numpy()
    boxes = np.full((len(image_ids), 1 + max(place, default=-1), 4), np.nan, dtype=np.float32)
    position = pd.Series(np.arange(len(image_ids)), index=image_ids.to_numpy())
    boxes[position[known["image_id"]].to_numpy(), place] = known[BOX_COLUMNS].to_numpy(dtype=np.float32)
    return boxes


class EpochSampler(Sampler[int]):
    """A new order each epoch that depends on seed and epoch alone, so that a resumed run sees the same.

    Args:
        labels: N class indices.
        seed: of the order.
        balanced: draws N images with replacement, each class as often, instead of each image once.
        epoch: the first one.
        seen: how many of its images were trained on before the run was interrupted.
    """

    def __init__(
        self, *, labels: NDArray[np.int64], seed: int, balanced: bool, epoch: int = 0, seen: int = 0
    ) -> None:
        self.seed = seed
        self.epoch = epoch
        self.seen = seen
        self.count = len(labels)
        share = 1 / np.bincount(labels)[labels]
        self.share = share / share.sum() if balanced else None

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        if epoch != self.epoch:
            self.epoch, self.seen = epoch, 0

    def __len__(self) -> int:
        return self.count  # of a whole epoch, for Lightning adds what was seen before

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch])
        if self.share is None:
            order = rng.permutation(self.count)
        else:
            order = rng.choice(self.count, self.count, p=self.share)
        yield from order[self.seen :].tolist()


def share(count: int, *, rank: int, processes: int) -> slice:
    """Which of `count` things in a row fall to a process, shared out as evenly as can be.

    Example:
        >>> [share(5, rank=rank, processes=2) for rank in (0, 1)]
        [slice(0, 3, None), slice(3, 5, None)]
    """
    each, left = divmod(count, processes)
    first = rank * each + min(rank, left)
    return slice(first, first + each + (rank < left))


class PartSampler(Sampler[list[int]]):
    """Cuts an epoch's order into parts, and gives this process's share of each that is not empty.

    The parts are the same however many processes there are.

    Args:
        sampler: the order; Lightning tells it the epoch.
        size: images of a part, over all processes.
        least: images that a last, smaller part needs, or it is left out; where it is not below `processes`,
            all processes get as many batches.
        rank: of this process.
        processes: among which a part is shared.
    """

    def __init__(self, sampler: Sampler[int], *, size: int, least: int, rank: int, processes: int) -> None:
        self.sampler = sampler
        self.size = size
        self.least = least
        self.rank = rank
        self.processes = processes

    def __len__(self) -> int:
        whole, rest = divmod(len(self.sampler), self.size)  # type: ignore[arg-type]
        return whole + bool(self._share(rest))

    def __iter__(self) -> Iterator[list[int]]:
        order = list(self.sampler)
        for first in range(0, len(order), self.size):
            part = order[first : first + self.size]
            if mine := self._share(len(part)):
                yield part[mine.start : mine.stop]

    def _share(self, images: int) -> range:
        mine = share(images, rank=self.rank, processes=self.processes)
        return range(mine.start, mine.stop) if images >= self.least else range(0)


class MammogramDataModule(pl.LightningDataModule):
    """The train, validation and test images of one split of a prepared store.

    Args:
        store: the prepared store.
        split: image ids of the three sides.
        task: which labels, a key of `CLASSES`.
        batch_size: images of an optimiser step, over all processes.
        accumulate: parts that a training batch comes in, to need less memory.
        processes: that train together, each with its share of a part; `accumulate * processes` divides
            `batch_size`.
        loader_workers: processes that read ahead; 0 reads in the main one.
        balance: `sampling` draws each class as often; `weights` is for the loss, see `class_weights`.
        augment: for training batches; None leaves them as they are.
        seed: of the order and the augmentation.
        mixup: alpha of the Beta distribution of the shares in which training images are mixed; 0 mixes none.
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
        """For the loss: inverse to the class's count, mean 1 over the images; None unless asked for."""
        if self.balance != "weights":
            return None
        counts = np.bincount(self.train.labels, minlength=len(self.classes))
        return torch.from_numpy(len(self.train) / (len(self.classes) * np.maximum(counts, 1))).float()

    def statistics(self, *, most: int = 512) -> tuple[float, float]:
        """Mean and deviation of the training pixels in [0, 1], from at most `most` images spread evenly."""
        rows = self.train.rows[np.linspace(0, len(self.train) - 1, min(most, len(self.train))).astype(int)]
        scale = np.iinfo(self.store.images.dtype).max
        images = (self.store.images[row] / scale for row in rows)
        mean, square = np.mean([(image.mean(), np.square(image).mean()) for image in images], axis=0)
        return float(mean), max(math.sqrt(max(square - mean**2, 0.0)), 1e-6)

    @property
    def part_size(self) -> int:
        """Images that go through the network at once, in a process."""
        return self.batch_size // (self.accumulate * self.processes)

    @property
    def images_per_epoch(self) -> int:
        """Training images, without the last few that would be too small a part."""
        rest = len(self.train) % (self.part_size * self.processes)
        return len(self.train) - (rest if rest < self._least() else 0)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps; to be had before the training begins, unlike those of Lightning's loader."""
        return math.ceil(self.images_per_epoch / self.batch_size)

    def image_ids(self, rows: NDArray[np.int64]) -> list[str]:
        """Names of the images in rows of the store."""
        return self.store.table.set_index("row").loc[rows, "image_id"].tolist()

    def train_dataloader(self) -> DataLoader[Batch]:
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
        """Epoch and batches done in it, where the training begins or goes on."""
        if self.trainer is None:
            return 0, 0
        # Any, for Lightning types them more narrowly than they are
        epochs: Any = self.trainer.fit_loop.epoch_progress.current
        batches: Any = self.trainer.fit_loop.epoch_loop.batch_progress.current
        return epochs.processed, batches.processed if epochs.started > epochs.processed else 0

    def _least(self) -> int:
        # no process may go without; and a batch of one image would have no variance to normalise by
        return self.processes * min(2, self.part_size)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.val, SequentialSampler(self.val))

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.test, SequentialSampler(self.test))

    def _loader(self, dataset: StoreDataset, order: Sampler[int], *, least: int = 0) -> DataLoader[Batch]:
        # one alone scores what several have trained
        rank, processes = (
            (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        )
        size = self.part_size * processes
        return DataLoader(
            dataset,
            batch_sampler=PartSampler(order, size=size, least=least, rank=rank, processes=processes),
            collate_fn=_as_it_is,
            num_workers=self.loader_workers,
            persistent_workers=self.loader_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Scales to [0, 1] on the device and, in training, augments and mixes."""
        image = batch["image"].float() / torch.iinfo(batch["image"].dtype).max
        batch = Batch(image=image, label=batch["label"], boxes=batch["boxes"], row=batch["row"])
        if self.trainer is None or not self.trainer.training:
            return batch
        loop = self.trainer.fit_loop
        size = self.part_size * self.processes
        first = (loop.batch_idx + 1) * size
        part = min(size, self.images_per_epoch - first)  # images of it, over all processes
        step = min(self.batch_size, self.images_per_epoch - first // self.batch_size * self.batch_size)
        # makes the mean over processes and parts of an optimiser step the mean over its images
        batch["weight"] = len(image) * self.accumulate * self.processes / step
        # of this part alone, whatever was drawn before it, and for all processes
        place = [self.seed, 0, loop.total_batch_idx + 1]
        seed = np.random.SeedSequence(place).generate_state(1)[0]
        generator = torch.Generator().manual_seed(int(seed))
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
    """The data module that a trainer was given."""
    module = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(module, MammogramDataModule)
    return module


def _as_it_is(batch: Any) -> Any:
    return batch
