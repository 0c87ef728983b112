"""From a feature map to one vector: average, maximum, generalised mean or attention."""

from collections.abc import Callable
from typing import Literal

import torch
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from torch import Tensor, nn

from mammo.errors import ConfigError

Pool = Literal["avg", "max", "gem", "attention"]
Layout = Literal["NCHW", "NHWC"]


class _Pool(nn.Module):
    """Takes B C H W, or B H W C, to B C; or, where `flatten` is false, to that layout with H = W = 1."""

    def __init__(self, *, flatten: bool, layout: Layout) -> None:
        super().__init__()
        self.flatten = flatten
        self.layout = layout

    def positions(self, features: Tensor) -> Tensor:  # to B P C, a row for each position
        return features.flatten(2).transpose(1, 2) if self.layout == "NCHW" else features.flatten(1, 2)

    def shaped(self, pooled: Tensor) -> Tensor:  # of B C
        if self.flatten:
            return pooled
        return pooled[:, :, None, None] if self.layout == "NCHW" else pooled[:, None, None, :]


class GeM(_Pool):
    """Generalised mean with a learned exponent p: the average at p = 1, towards the maximum as p grows.

    Radenović, Tolias and Chum 2019, Fine-tuning CNN image retrieval with no human annotation. As there,
    features below nought count as (almost) nought; p starts at 3.
    """

    def __init__(self, *, flatten: bool = True, layout: Layout = "NCHW") -> None:
        super().__init__(flatten=flatten, layout=layout)
        self.p = nn.Parameter(torch.full((1,), 3.0))

    def forward(self, features: Tensor) -> Tensor:
        # in float32: a power of a half-precision number leaves its range soon
        positive = self.positions(features).float().clamp(min=1e-6)
        return self.shaped(positive.pow(self.p).mean(dim=1).pow(1 / self.p).to(features.dtype))


class AttentionPool(_Pool):
    """Mean over the positions, weighted by a softmax of w · tanh(V features).

    Ilse, Tomczak and Welling 2018, Attention-based deep multiple instance learning: the positions are
    the instances of the bag.

    Args:
        channels: C.
        hidden: rows of V; the paper's 128.
        flatten: gives B C.
        layout: of the features.
    """

    def __init__(
        self, *, channels: int, hidden: int = 128, flatten: bool = True, layout: Layout = "NCHW"
    ) -> None:
        super().__init__(flatten=flatten, layout=layout)
        self.hidden = nn.Linear(channels, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)  # the softmax would cancel a bias

    def forward(self, features: Tensor) -> Tensor:
        positions = self.positions(features)
        weights = self.score(self.hidden(positions).tanh()).softmax(dim=1)  # B P 1
        return self.shaped((weights * positions).sum(dim=1))


POOLS = (SelectAdaptivePool2d, GeM, AttentionPool)


def make_pool(
    pool: Pool, *, channels: int, flatten: bool = True, layout: Layout = "NCHW"
) -> SelectAdaptivePool2d | GeM | AttentionPool:
    """The pool by its name, for a map of so many channels."""
    if pool == "gem":
        return GeM(flatten=flatten, layout=layout)
    if pool == "attention":
        return AttentionPool(channels=channels, flatten=flatten, layout=layout)
    return SelectAdaptivePool2d(pool_type=pool, flatten=flatten, input_fmt=layout)


def replace_pool(model: nn.Module, pool: Pool, *, name: str, dry_run: Callable[[], None]) -> None:
    """Puts a pool in the place of a timm network's own; all other tensors keep timm's names.

    Args:
        model: with one `SelectAdaptivePool2d`, of an average.
        pool: to put there.
        name: of the network, for the error.
        dry_run: runs the network once, to see how many channels come to the pool.

    Raises:
        ConfigError: the network pools tokens, or in several places.
    """
    own = [
        (path, module) for path, module in model.named_modules() if isinstance(module, SelectAdaptivePool2d)
    ]
    if len(own) != 1:
        raise ConfigError(f"model.pool={pool}: {name} has no feature map to pool so; choose avg or max")
    [(path, module)] = own
    seen: list[torch.Size] = []
    handle = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    dry_run()
    handle.remove()
    # the module does not tell its layout, but its answer to a map of 2 channels (or of 5, channels last) does
    answer = module(torch.zeros(1, 2, 3, 5)).shape
    layout: Layout = "NCHW" if answer[1] == 2 else "NHWC"
    channels = seen[0][1 if layout == "NCHW" else 3]
    model.set_submodule(path, make_pool(pool, channels=channels, flatten=len(answer) == 2, layout=layout))
