"""The order of the images in an epoch, and its division into batches and among processes."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler


def batch_seed(seed: int, *, rank: int, batch: int, purpose: int) -> int:
    """The seed of what one batch draws.

    It depends on nothing that was drawn before, so that a resumed training draws the same.

    Args:
        seed: seed of the run.
        rank: process of a distributed training, from 0.
        batch: number of the batch, counted from the start of the training.
        purpose: 0 for augmentation, 1 for the network's own draws (dropout, drop path).

    Example:
        >>> batch_seed(0, rank=0, batch=1, purpose=0)
        3831201730
    """
    return int(np.random.SeedSequence([seed, rank, batch, purpose]).generate_state(1)[0])


class EpochSampler(Sampler[int]):
    """A new order each epoch that depends on seed and epoch alone, so that a resumed run sees the same.

    Args:
        labels: N class indices.
        seed: seed of the order.
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
        sampler: order of the images; Lightning sets its epoch.
        size: images of a part, over all processes.
        least: images that a last, smaller part needs, or it is left out; where it is not below `processes`,
            all processes get the same number of batches.
        rank: rank of this process.
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
