"""Pooling of a feature map to one vector: average, maximum, generalised mean or attention."""

from collections.abc import Callable
from typing import Literal

import torch
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from torch import Tensor, nn

from mammo.errors import ConfigError

Pool = Literal["avg", "max", "gem", "attention"]
Layout = Literal["NCHW", "NHWC"]


class _Pool(nn.Module):
    """Base of pools of B C H W or B H W C to B C, or to the same layout with H = W = 1 if not `flatten`."""

    def __init__(self, *, flatten: bool, layout: Layout) -> None:
        super().__init__()
        self.flatten = flatten
        self.layout = layout

    def positions(self, features: Tensor) -> Tensor:  # B P C, one row per position
        return features.flatten(2).transpose(1, 2) if self.layout == "NCHW" else features.flatten(1, 2)

    def shaped(self, pooled: Tensor) -> Tensor:  # from B C
        if self.flatten:
            return pooled
        return pooled[:, :, None, None] if self.layout == "NCHW" else pooled[:, None, None, :]


class GeM(_Pool):
    """Generalised mean with a learned exponent p: the average at p = 1, towards the maximum as p grows.

    Radenović, Tolias and Chum 2019, Fine-tuning CNN image retrieval with no human annotation. As there,
    features are clamped to at least 1e-6 and p starts at 3.
    """

    def __init__(self, *, flatten: bool = True, layout: Layout = "NCHW") -> None:
        super().__init__(flatten=flatten, layout=layout)
        self.p = nn.Parameter(torch.full((1,), 3.0))

    def forward(self, features: Tensor) -> Tensor:
        # in float32, because powers overflow or underflow in half precision
        positive = self.positions(features).float().clamp(min=1e-6)
        return self.shaped(positive.pow(self.p).mean(dim=1).pow(1 / self.p).to(features.dtype))


class AttentionPool(_Pool):
    """Mean over the positions, weighted by a softmax of w · tanh(V features).

    Ilse, Tomczak and Welling 2018, Attention-based deep multiple instance learning: the positions are
    the instances of the bag.

    Args:
        channels: number of channels C of the features.
        hidden: number of rows of V; 128 in the paper.
        flatten: whether the output is B C rather than a map with H = W = 1.
        layout: axis order of the features, B C H W or B H W C.
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
    """Build a pool by its name.

    Args:
        pool: name of the pool.
        channels: number of channels C of the features.
        flatten: whether the output is B C rather than a map with H = W = 1.
        layout: axis order of the features, B C H W or B H W C.
    """
    if pool == "gem":
        return GeM(flatten=flatten, layout=layout)
    if pool == "attention":
        return AttentionPool(channels=channels, flatten=flatten, layout=layout)
    return SelectAdaptivePool2d(pool_type=pool, flatten=flatten, input_fmt=layout)


def replace_pool(model: nn.Module, pool: Pool, *, name: str, dry_run: Callable[[], None]) -> None:
    """Replace the pool of a timm network; all other tensors keep timm's names.

    Args:
        model: network with one `SelectAdaptivePool2d` of type average, changed in place.
        pool: name of the new pool.
        name: name of the network, for the error message.
        dry_run: function that runs the network once, which shows the channels of the pool's input.

    Raises:
        ConfigError: the network pools tokens, or has several pools.
    """
    own = [
        (path, module) for path, module in model.named_modules() if isinstance(module, SelectAdaptivePool2d)
    ]
    if len(own) != 1:
        raise ConfigError(
            f"model.pool={pool}: {name} has no single pool of a feature map to replace; "
            "give model.pool=avg or model.pool=max"
        )
    [(path, module)] = own
    shapes: list[torch.Size] = []
    handle = module.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape))
    dry_run()
    handle.remove()
    # the module has no public layout, but its output for a map of 2 channels (5, channels last) shows it
    pooled = module(torch.zeros(1, 2, 3, 5)).shape
    layout: Layout = "NCHW" if pooled[1] == 2 else "NHWC"
    channels = shapes[0][1 if layout == "NCHW" else 3]
    model.set_submodule(path, make_pool(pool, channels=channels, flatten=len(pooled) == 2, layout=layout))
