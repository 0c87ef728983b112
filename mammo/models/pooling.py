"""Pooling of a feature map to one vector, and gated attention over instances such as views and crops."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from torch import Tensor, nn

from mammo.config.instantiation import TARGET, Role, build, part_name
from mammo.errors import ConfigError

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


class GatedAttention(nn.Module):
    """Score of each instance, a view or a crop, from its features h: w · (tanh(V h) ⊙ sigmoid(U h)).

    Ilse, Tomczak and Welling 2018, Attention-based deep multiple instance learning,
    equation 9 before the softmax.

    Args:
        channels: number of features D.
        hidden: number of rows of V and of U; 128 in the paper.
    """

    def __init__(self, channels: int, *, hidden: int = 128) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, hidden)
        self.gate = nn.Linear(channels, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)  # the softmax would cancel a bias

    def forward(self, features: Tensor) -> Tensor:
        """B N D to B N."""
        scores: Tensor = self.score(self.hidden(features).tanh() * self.gate(features).sigmoid())
        return scores.squeeze(-1)


def attention_weights(scores: Tensor, present: Tensor) -> Tensor:
    """Return the softmax of scores (B N) over the present instances (B N), 0 for the others."""
    lowest = torch.finfo(scores.dtype).min  # minus infinity would give NaN where none is present
    return scores.masked_fill(~present, lowest).softmax(dim=1) * present


class OtherPool(_Pool):
    """A pool of the user's own, in the axis order and with the axes of the network.

    Args:
        pool: module of B C H W to B C.
        flatten: whether the output is B C rather than a map with H = W = 1.
        layout: axis order of the features, B C H W or B H W C.
    """

    def __init__(self, pool: nn.Module, *, flatten: bool, layout: Layout) -> None:
        super().__init__(flatten=flatten, layout=layout)
        self.pool = pool

    def forward(self, features: Tensor) -> Tensor:
        maps = features if self.layout == "NCHW" else features.permute(0, 3, 1, 2)
        return self.shaped(self.pool(maps).flatten(1))


POOLS = (SelectAdaptivePool2d, GeM, AttentionPool, OtherPool)
POOL = Role("pooling", base=(nn.Module,))
# what a pooling may ask for; the names of the last two are those of this package and of timm
FOR_POOLS = ("channels", "flatten", "layout", "input_fmt")
AVERAGE = {TARGET: "timm.layers.SelectAdaptivePool2d", "pool_type": "avg"}


def timm_pool_type(node: Mapping[str, Any]) -> str | None:
    """Return the name in timm of a pooling that a network of timm has by itself; None for another pooling."""
    return node["pool_type"] if node.keys() == AVERAGE.keys() and node[TARGET] == AVERAGE[TARGET] else None


def make_pool(
    node: Mapping[str, Any], *, channels: int, flatten: bool = True, layout: Layout = "NCHW"
) -> nn.Module:
    """Build the pooling of the node `model.pool`.

    Args:
        node: `_target_` and keyword arguments.
        channels: number of channels C of the features.
        flatten: whether the output is B C rather than a map with H = W = 1.
        layout: axis order of the features, B C H W or B H W C.

    Raises:
        ConfigError: it is no pooling, see `check_node`, or gives no B C of B C H W.
    """
    offered = dict(zip(FOR_POOLS, (channels, flatten, layout, layout), strict=True))
    pool: nn.Module = build(node, key="model.pool", role=POOL, offered=offered)
    if isinstance(pool, POOLS):
        return pool
    _try(pool, channels, name=node[TARGET])
    return OtherPool(pool, flatten=flatten, layout=layout)


def _try(pool: nn.Module, channels: int, *, name: str) -> None:
    """Refuse a module that does not map B C H W to B C."""
    try:
        with torch.no_grad():
            shape = tuple(pool(torch.rand(2, channels, 4, 3)).flatten(1).shape)
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        raise ConfigError(
            f"model.pool: {name} fails on features of 2 x {channels} x 4 x 3: {type(error).__name__}: "
            f"{reason}; a pooling maps B C H W to B C"
        ) from error
    if shape != (2, channels):
        raise ConfigError(
            f"model.pool: {name} gives {shape[-1]} numbers for {channels} channels; give one number for each"
        )


def replace_pool(
    model: nn.Module, node: Mapping[str, Any], *, name: str, dry_run: Callable[[], None]
) -> None:
    """Replace the pool of a timm network; all other tensors keep timm's names.

    Args:
        model: network with one `SelectAdaptivePool2d` of type average, changed in place.
        node: `_target_` and keyword arguments of the new pool.
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
            f"model.pool: {name} has no single pool of a feature map to replace by {part_name(node)}; "
            "give model/pool=avg or model/pool=max"
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
    model.set_submodule(path, make_pool(node, channels=channels, flatten=len(pooled) == 2, layout=layout))
