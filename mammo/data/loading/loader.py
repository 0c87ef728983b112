"""Batches read from a prepared store, ahead of the training and into memory that is reused."""

import math
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, NotRequired, TypedDict

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammo.data.images.breast import BOX_COLUMNS
from mammo.data.loading.samplers import PartSampler
from mammo.data.store.store import Store
from mammo.data.tasks import labels

_AHEAD = 2  # number of batches per thread that are read or being read


class Batch(TypedDict):
    """Images with their labels; `weight` only in training, `partner` and `share` only with mixup."""

    image: Tensor  # B 1 H W, float in [0, 1] on the device; uint8 or uint16 before
    label: Tensor  # B, index of the class
    boxes: Tensor  # B K 4, lesions in pixels, NaN where there are fewer than K
    row: Tensor  # B, row in the store
    weight: NotRequired[float]  # weight of the mean loss; 1 for the whole batch of an optimiser step
    partner: NotRequired[Tensor]  # B, index of the class of the partner
    share: NotRequired[float]  # share of the image itself, from 0.5 to 1


class StoreDataset:
    """A subset of the images of a store.

    Args:
        store: the prepared store.
        table: rows of the store's table that belong to the dataset.
        task: name of the task.
    """

    def __init__(self, *, store: Store, table: pd.DataFrame, task: str) -> None:
        self.store = store
        self.rows = table["row"].to_numpy(dtype=np.int64)
        self.labels = labels(table, store.lesions, task=task)
        self.boxes = lesion_boxes(store.lesions, table["image_id"])

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, indices: Sequence[int], image: Tensor) -> Batch:
        """Returns a batch of the images at these indices, read into `image` (B 1 H W, dtype of the store)."""
        rows = self.rows[indices]
        self.store.read(rows, out=image.numpy()[:, 0])
        return Batch(
            image=image,
            label=torch.from_numpy(self.labels[indices]),
            boxes=torch.from_numpy(self.boxes[indices]),
            row=torch.from_numpy(rows),
        )


class StoreLoader:
    """Batches in the sampler's order, read ahead by threads.

    The workers are threads, not processes: reading releases the interpreter lock, and no batch is copied
    between processes. For a GPU, the threads also copy the batch to the device, on a separate stream, during
    the previous step.

    Args:
        dataset: dataset to read from.
        batch_sampler: indices of the images of each batch.
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
        images = self.dataset.store.images
        shape, dtype = (len(places), 1, *images.shape[1:]), images.dtype
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


def lesion_boxes(lesions: pd.DataFrame, image_ids: pd.Series) -> NDArray[np.float32]:
    """Returns the boxes of the lesions of each image, N K 4.

    K is the largest number of lesions with a box in one image; missing boxes are NaN.
    """
    known = lesions.dropna(subset=BOX_COLUMNS)
    known = known[known["image_id"].isin(image_ids)]
    place = known.groupby("image_id").cumcount().to_numpy()
    boxes = np.full((len(image_ids), 1 + max(place, default=-1), 4), np.nan, dtype=np.float32)
    position = pd.Series(np.arange(len(image_ids)), index=image_ids.to_numpy())
    boxes[position[known["image_id"]].to_numpy(), place] = known[BOX_COLUMNS].to_numpy(dtype=np.float32)
    return boxes
