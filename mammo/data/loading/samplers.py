"""The order of the samples in an epoch, and its division into batches and among processes."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler


def batch_seed(seed: int, *, rank: int, batch: int, purpose: int) -> int:
    """Returns the seed of the random numbers of one batch.

    It does not depend on earlier random numbers, so a resumed training draws the same numbers.

    Args:
        seed: seed of the run.
        rank: rank of the process in a distributed training, from 0.
        batch: number of the batch, counted from the start of the training.
        purpose: 0 for augmentation, 1 for the network's own draws (dropout, drop path).

    Example:
        >>> batch_seed(0, rank=0, batch=1, purpose=0)
        3831201730
    """
    return int(np.random.SeedSequence([seed, rank, batch, purpose]).generate_state(1)[0])


class EpochSampler(Sampler[int]):
    """A new order in each epoch. It depends only on seed and epoch, so it is the same in a resumed run.

    Args:
        labels: N class indices.
        seed: seed of the order.
        balanced: whether to draw N samples with replacement, each class equally often, not each sample once.
        epoch: first epoch.
        seen: number of samples of the first epoch that the run trained on before it was interrupted.
        same: whether each epoch has the order of the first one.
    """

    def __init__(
        self,
        *,
        labels: NDArray[np.int64],
        seed: int,
        balanced: bool,
        epoch: int = 0,
        seen: int = 0,
        same: bool = False,
    ) -> None:
        self.seed = seed
        self.epoch = epoch
        self.seen = seen
        self.same = same
        self.count = len(labels)
        share = 1 / np.bincount(labels)[labels]
        self.share = share / share.sum() if balanced else None

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch; Lightning calls this before each epoch."""
        if epoch != self.epoch:
            self.epoch, self.seen = epoch, 0

    def __len__(self) -> int:
        return self.count  # of a whole epoch, because Lightning counts the part seen before

    @property
    def drawn_epoch(self) -> int:
        """Epoch whose order is drawn."""
        return 0 if self.same else self.epoch

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.drawn_epoch])
        if self.share is None:
            order = rng.permutation(self.count)
        else:
            order = rng.choice(self.count, self.count, p=self.share)
        yield from order[self.seen :].tolist()


def share(count: int, *, rank: int, processes: int) -> slice:
    """Returns the slice of `count` items that belongs to a process; the shares are as equal as possible.

    Example:
        >>> [share(5, rank=rank, processes=2) for rank in (0, 1)]
        [slice(0, 3, None), slice(3, 5, None)]
    """
    each, left = divmod(count, processes)
    first = rank * each + min(rank, left)
    return slice(first, first + each + (rank < left))


class PartSampler(Sampler[list[int]]):
    """Divides the order of an epoch into parts, and yields this process's share of each part, if not empty.

    The parts do not depend on the number of processes.

    Args:
        sampler: order of the samples; Lightning sets its epoch.
        size: number of samples of a part, over all processes.
        least: smallest number of samples of the last part, which is left out if it has fewer; if `least` is
            at least `processes`, all processes get the same number of batches.
        rank: rank of this process.
        processes: number of processes that share a part.
    """

    def __init__(self, sampler: Sampler[int], *, size: int, least: int, rank: int, processes: int) -> None:
        self.sampler = sampler
        self.size = size
        self.least = least
        self.rank = rank
        self.processes = processes

    @property
    def epoch(self) -> int:
        """Epoch of the order; 0 for an order that is the same in each epoch."""
        return self.sampler.drawn_epoch if isinstance(self.sampler, EpochSampler) else 0

    def __len__(self) -> int:
        whole, rest = divmod(len(self.sampler), self.size)  # type: ignore[arg-type]
        return whole + bool(self._share(rest))

    def __iter__(self) -> Iterator[list[int]]:
        order = list(self.sampler)
        for first in range(0, len(order), self.size):
            part = order[first : first + self.size]
            if mine := self._share(len(part)):
                yield part[mine.start : mine.stop]

    def _share(self, samples: int) -> range:
        mine = share(samples, rank=self.rank, processes=self.processes)
        return range(mine.start, mine.stop) if samples >= self.least else range(0)
