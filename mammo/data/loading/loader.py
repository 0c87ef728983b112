"""Batches read from a prepared store, ahead of the training and into memory that is used again."""

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

_AHEAD = 2  # batches that each thread has read or is reading


class Batch(TypedDict):
    """Images with their labels, as the network gets them; `weight` in training, the last two when mixed."""

    image: Tensor  # B 1 H W, float in [0, 1] on the device; uint8 or uint16 before
    label: Tensor  # B, index of the class
    boxes: Tensor  # B K 4, lesions in pixels, NaN where there are fewer than K
    row: Tensor  # B, row in the store
    weight: NotRequired[float]  # of its mean loss, 1 where it is the whole batch of an optimiser step
    partner: NotRequired[Tensor]  # B, index of the class of the image mixed in
    share: NotRequired[float]  # of the image itself, from 0.5 to 1


class StoreDataset:
    """Some of a store's images.

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

    def read(self, indices: Sequence[int], image: Tensor) -> Batch:
        """A batch of the images at these places of the dataset, read into `image` (B 1 H W, as stored)."""
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

    Threads and not processes: reading leaves the interpreter to others, and a batch need not go from one
    process's memory to another's. For a GPU they also bring the batch there, on a stream of its own, while
    the step before computes.

    Args:
        dataset: to read from.
        batch_sampler: the places of each batch in it.
        threads: that read; 0 reads each batch when it is asked for.
        device: to which batches are brought.

    Attributes:
        waited: seconds that whoever took the batches of this epoch has waited for them.
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
        with torch.cuda.stream(self._stream):  # and its device, for a thread of its own begins with the first
            # PyTorch keeps pinned memory, and gives it anew once the copies from it are done
            pinned = torch.empty(shape, dtype=getattr(torch, dtype.name), pin_memory=True)
            batch: Any = self.dataset.read(places, pinned)
            moved: Any = {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}
        self._stream.synchronize()
        return moved  # type: ignore[no-any-return]

    def _given(self, batch: Batch) -> Batch:
        """The batch, whose memory on a GPU is not given to a later one while the step still reads it."""
        if self._stream is not None:
            values: Any = batch.values()
            for value in values:
                value.record_stream(torch.cuda.current_stream(self.device))
        return batch


class _Memory:
    """Arrays in memory that was used before, where nothing refers to it any more.

    Fresh memory costs more than to read a batch into it: the system hands it out page by page, cleared.
    """

    def __init__(self) -> None:
        self.free: list[bytearray] = []

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        size = math.prod(shape) * dtype.itemsize
        memory = self.free.pop() if self.free else bytearray()
        if len(memory) < size:
            memory = bytearray(size)
        array: NDArray[Any] = np.ndarray(shape, dtype, buffer=memory)
        # a tensor of the array, and every view of it, keeps the array
        weakref.finalize(array, self.free.append, memory).atexit = False
        return array


def lesion_boxes(lesions: pd.DataFrame, image_ids: pd.Series) -> NDArray[np.float32]:
    """N K 4 boxes of the images' lesions, K the most that one image has, NaN elsewhere."""
    known = lesions.dropna(subset=BOX_COLUMNS)
    known = known[known["image_id"].isin(image_ids)]
    place = known.groupby("image_id").cumcount().to_numpy()
    boxes = np.full((len(image_ids), 1 + max(place, default=-1), 4), np.nan, dtype=np.float32)
    position = pd.Series(np.arange(len(image_ids)), index=image_ids.to_numpy())
    boxes[position[known["image_id"]].to_numpy(), place] = known[BOX_COLUMNS].to_numpy(dtype=np.float32)
    return boxes
