"""Batches read from a prepared store, ahead of the training and into memory that is reused."""

import math
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, NotRequired, TypedDict, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammo.data.lesion_table import LesionTable, largest_lesions, lesion_regions, with_boxes
from mammo.data.loading.samplers import PartSampler
from mammo.data.samples import (
    Samples,
    SampleUnit,
    facts_of_groups,
    group_samples,
    label_of_groups,
    side_labels,
)
from mammo.data.store.store import Store
from mammo.data.tasks import Task, labels, lesion_labels

NO_CLASS = 255  # in a mask, a pixel of a lesion without a class
_AHEAD = 2  # number of batches per thread that are read or being read


class Batch(TypedDict):
    """B samples of V images, with their labels; an image that is missing in its sample is black.

    `mask` only with `data.batch_masks`, `side_label` only of exams, `weight` only in training, `partner` and
    `share` only with mixup.
    """

    image: Tensor  # B V 1 H W, float in [0, 1] on the device; uint8 or uint16 before
    present: Tensor  # B V, whether the sample has the image
    label: Tensor  # B, index of the class
    boxes: Tensor  # B V K 4, lesions in pixels, NaN where there are fewer than K
    box_label: Tensor  # B V K, index of the class of each lesion, -1 for no class
    mask: NotRequired[Tensor]  # B V 1 H W, see `StoreDataset.class_masks`
    row: Tensor  # B V, row in the store, -1 for a missing image
    unit: Tensor  # B, index of the breast, or whatever a sample is, in the table of the dataset
    side_label: NotRequired[Tensor]  # B 2, index of the class of each side, -1 for a side without images
    weight: NotRequired[float]  # weight of the mean loss; 1 for the whole batch of an optimiser step
    partner: NotRequired[Tensor]  # B, index of the class of the partner
    share: NotRequired[float]  # share of the image itself, from 0.5 to 1


class StoreDataset:
    """Samples of the images of a store: single images, breasts or exams.

    Args:
        store: the prepared store.
        table: rows of the store's table that belong to the dataset; each is in a class of the task.
        task: the task.
        unit: what a sample is.
        views: views of a breast or exam, in the order of its images.
        seed: seed of the images that make up a sample where a breast has several of one view, which are drawn
            anew in each epoch; None for the same ones in each epoch.
        batch_masks: whether the batches have `mask`.

    Attributes:
        units: one row for each image, breast or exam, see `facts_of_groups`; where lesions have boxes, with
            `lesion_size`, see `largest_lesions`.
        unit: N, row of each sample in `units`; a breast with several images of a view has several samples.
        labels: N, class of each sample.
        unit_labels: class of each row of `units`.
        rows: N V, row in the store of each image, -1 where the image is missing.
    """

    def __init__(
        self,
        *,
        store: Store,
        table: pd.DataFrame,
        task: Task,
        unit: SampleUnit = "image",
        views: Sequence[str] = (),
        seed: int | None = None,
        batch_masks: bool = False,
    ) -> None:
        self.store = store
        self.batch_masks = batch_masks
        self.sample_unit = unit
        self.views = views
        self.seed = seed
        self._images = table.reset_index(drop=True)
        image_ids = table["image_id"].tolist()
        lesions = with_boxes(store.lesions, image_ids)
        self._lesions = LesionTable.of(lesions, lesion_labels(lesions, task=task), image_ids)
        samples = self._draw(0)
        of_image = labels(table, store.lesions, task=task)
        self.unit = samples.table["group"].to_numpy(dtype=np.int64)
        self.labels = label_of_groups(of_image, task.positives, samples)
        self.side_labels = side_labels(of_image, task.positives, samples) if unit == "exam" else None
        self.unit_labels = self.labels[self.first_of_units]
        self.units = facts_of_groups(self._images, samples, unit=unit, own=store.own_columns)
        if len(lesions) and "lesion_size" not in self.units:
            sizes = largest_lesions(self.units["image_id"], lesions, height=self.shape[-2])
            self.units = self.units.assign(lesion_size=sizes)

    def _draw(self, epoch: int) -> Samples:
        draw = None if self.seed is None else (self.seed, epoch)
        samples = group_samples(self._images, unit=self.sample_unit, views=self.views, draw=draw)
        self._places = samples.rows
        self.rows = np.where(samples.rows < 0, -1, self._images["row"].to_numpy(dtype=np.int64)[samples.rows])
        return samples

    def start_epoch(self, epoch: int) -> None:
        """Draw the images of the samples of an epoch, which depend on seed and epoch only."""
        if self.seed is not None and self.sample_unit != "image":
            self._draw(epoch)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def first_of_units(self) -> NDArray[np.int64]:
        """Index of the first sample of each row of `units`."""
        return np.unique(self.unit, return_index=True)[1]

    @property
    def image_rows(self) -> NDArray[np.int64]:
        """Rows in the store of the images of all samples, one after the other."""
        return self.rows[self.rows >= 0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the images of a sample, V 1 H W."""
        return (self.rows.shape[1], 1, *self.store.images.shape[1:])

    def boxes(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the boxes of the lesions of samples, B V K 4."""
        places = self._places[indices]
        boxes = self._lesions.boxes[places]
        boxes[places < 0] = np.nan
        return boxes

    def box_labels(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the classes of the lesions of samples, B V K; -1 for no class, or no lesion."""
        places = self._places[indices]
        return np.where(places[..., None] < 0, -1, self._lesions.labels[places])

    def class_masks(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Returns the class of each pixel of samples, B V 1 H W, by the masks of the lesions.

        The value is 0 outside lesions, 1 + the index of the lesion's class, or `NO_CLASS` in a lesion without
        a class. The pixels of a lesion without a mask are those of its box. Of several lesions at a pixel,
        the one of the highest class counts.
        """
        rows, places, masks = self.rows[indices], self._places[indices], self.store.masks
        found = np.zeros((len(rows), *self.shape), np.uint8)
        for place in zip(*np.nonzero(rows >= 0), strict=True):
            mask = None if masks is None else masks[rows[place]]
            image = places[place]
            labels = self._lesions.labels[image]
            regions = lesion_regions(
                self._lesions.boxes[image], self.shape[2:], mask, self._lesions.mask_values[image]
            )
            for lesion in np.argsort(labels, kind="stable"):
                found[place][0, regions[lesion]] = NO_CLASS if labels[lesion] < 0 else 1 + labels[lesion]
        return found

    def read(self, indices: Sequence[int], image: Tensor) -> Batch:
        """Returns a batch of the samples at these indices, read into `image`, B V 1 H W, as stored."""
        rows = self.rows[indices]
        present = rows >= 0
        pixels = image.numpy().reshape(-1, *image.shape[-2:])
        if present.all():
            self.store.read(rows.ravel(), out=pixels)
        else:
            pixels[~present.ravel()] = 0
            for place in np.flatnonzero(present):
                self.store.read(rows.flat[place : place + 1], out=pixels[place : place + 1])
        batch = Batch(
            image=image,
            present=torch.from_numpy(present),
            label=torch.from_numpy(self.labels[indices]),
            boxes=torch.from_numpy(self.boxes(indices)),
            box_label=torch.from_numpy(self.box_labels(indices)),
            row=torch.from_numpy(rows),
            unit=torch.from_numpy(self.unit[indices]),
        )
        if self.batch_masks:
            batch["mask"] = torch.from_numpy(self.class_masks(indices))
        if self.side_labels is not None:
            batch["side_label"] = torch.from_numpy(self.side_labels[indices])
        return batch

    def pixels(self, index: int) -> NDArray[Any]:
        """Returns the images of a sample as stored, V H W."""
        return self.stored([index])["image"].numpy()[0, :, 0]

    def stored(self, indices: Sequence[int]) -> Batch:
        """Returns a batch of the samples at these indices, with images as stored."""
        dtype = getattr(torch, self.store.images.dtype.name)
        return self.read(indices, torch.empty(len(indices), *self.shape, dtype=dtype))

    def batch(self, indices: Sequence[int]) -> Batch:
        """Returns a batch of the samples at these indices, with images in [0, 1]."""
        return scaled(self.stored(indices))


def scaled(batch: Batch) -> Batch:
    """Returns a batch of images as stored with images in [0, 1], float32."""
    image = batch["image"]
    return cast(Batch, {**batch, "image": image.float() / torch.iinfo(image.dtype).max})


class StoreLoader:
    """Batches in the sampler's order, read ahead by threads.

    The workers are threads, not processes: reading releases the interpreter lock, and no batch is copied
    between processes. For a GPU, the threads also copy the batch to the device, on a separate stream, during
    the previous step.

    Args:
        dataset: dataset to read from.
        batch_sampler: indices of the samples of each batch.
        threads: number of threads that read; 0: each batch is read when it is requested.
        device: device to which batches are copied; None: the CPU.

    Attributes:
        waited: seconds for which the consumer of the batches has waited in this epoch.
    """

    def __init__(
        self,
        *,
        dataset: StoreDataset,
        batch_sampler: PartSampler,
        threads: int,
        device: torch.device | None = None,
    ) -> None:
        self.dataset = dataset
        self.batch_sampler = batch_sampler
        self.threads = threads
        self.device = device or torch.device("cpu")
        self.waited = 0.0
        self._memory = _Memory()
        self._stream: Any = None
        if self.device.type == "cuda":
            self._stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Batch]:
        self.dataset.start_epoch(self.batch_sampler.epoch)
        places = iter(self.batch_sampler)
        self.waited = 0.0
        if self.threads == 0:
            for part in places:
                started = time.perf_counter()
                batch = self._read(part)
                self.waited += time.perf_counter() - started
                yield self._given(batch)
            return
        with ThreadPoolExecutor(self.threads, thread_name_prefix="reader") as pool:
            pending: deque[Future[Batch]] = deque()
            try:
                for part in islice(places, _AHEAD * self.threads):
                    pending.append(pool.submit(self._read, part))
                while pending:
                    started = time.perf_counter()
                    batch = pending.popleft().result()
                    self.waited += time.perf_counter() - started
                    pending.extend(pool.submit(self._read, part) for part in islice(places, 1))
                    yield self._given(batch)
            finally:
                for future in pending:
                    future.cancel()

    def _read(self, places: Sequence[int]) -> Batch:
        shape, dtype = (len(places), *self.dataset.shape), self.dataset.store.images.dtype
        if self._stream is None:
            return self.dataset.read(places, torch.from_numpy(self._memory.take(shape, dtype)))
        with torch.cuda.stream(self._stream):  # also sets the device, which a new thread needs
            # PyTorch caches pinned memory, and reuses it when the copies from it are finished
            pinned = torch.empty(shape, dtype=getattr(torch, dtype.name), pin_memory=True)
            batch: Any = self.dataset.read(places, pinned)
            moved: Any = {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}
        self._stream.synchronize()
        return moved  # type: ignore[no-any-return]

    def _given(self, batch: Batch) -> Batch:
        """Returns the batch, after protecting its GPU memory from reuse while the step still reads it."""
        if self._stream is not None:
            values: Any = batch.values()
            for value in values:
                value.record_stream(torch.cuda.current_stream(self.device))
        return batch


class _Memory:
    """Arrays in memory that is reused when nothing refers to it.

    New memory takes longer than reading a batch into it, because the system clears it page by page.
    """

    def __init__(self) -> None:
        self.free: list[bytearray] = []

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        size = math.prod(shape) * dtype.itemsize
        memory = self.free.pop() if self.free else bytearray()
        if len(memory) < size:
            memory = bytearray(size)
        array: NDArray[Any] = np.ndarray(shape, dtype, buffer=memory)
        # a tensor or view of the array keeps a reference to the array
        weakref.finalize(array, self.free.append, memory).atexit = False
        return array
