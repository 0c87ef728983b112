"""Cross attention between the feature maps of the views of one side."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mammo.errors import ConfigError
from mammo.models.example_input import dry_run


class CrossViewAttention(nn.Module):
    """Adds to each cell of a view's feature map what it attends to in the other views of the same side.

    Van Tulder, Tong and Marchiori 2021, Multi-view analysis of unregistered medical images using cross-view
    transformers: multi-head attention in a residual branch, with the cells of one view as queries and those
    of the other view as keys and values, in both directions. Here the map is the last one. Absent views are
    no keys; a view without another view of its side is unchanged.

    Args:
        channels: number of channels C of the feature maps.
        sides: side of the breast in each place of a view.
        channels_first: whether the maps are C h w; otherwise they are h w C, or L C for L tokens.
        width: number of channels of queries, keys and values, a multiple of `heads`.
        heads: number of heads.
    """

    def __init__(
        self, channels: int, *, sides: Sequence[int], channels_first: bool, width: int = 256, heads: int = 8
    ) -> None:
        super().__init__()
        self.sides = tuple(sides)
        self.channels_first = channels_first
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.queries, self.keys, self.values = (nn.Linear(channels, width) for _ in range(3))
        self.output = nn.Linear(width, channels)

    def forward(self, maps: Tensor, present: Tensor) -> Tensor:
        """Change the feature maps of all views.

        Args:
            maps: B V C h w, B V h w C or B V L C.
            present: B V, whether the view is present.

        Returns:
            Maps of the same shape.
        """
        last = maps.movedim(2, -1) if self.channels_first else maps
        cells = last.flatten(2, -2)  # B V L C
        normed = self.norm(cells)
        queries, keys, values = (
            layer(normed).unflatten(-1, (self.heads, -1)).transpose(2, 3)  # B V heads L c
            for layer in (self.queries, self.keys, self.values)
        )
        added = []
        for place, side in enumerate(self.sides):
            others = [other for other, its in enumerate(self.sides) if its == side and other != place]
            seen = torch.stack([present[:, other] for other in others], dim=1)  # B others
            some = seen.any(dim=1)[:, None]
            # without a key the softmax would be NaN; the result is not used then
            mask = (seen | ~some).repeat_interleave(cells.shape[2], dim=1)[:, None, None]  # B 1 1 L
            attended = F.scaled_dot_product_attention(
                queries[:, place],
                torch.cat([keys[:, other] for other in others], dim=2),
                torch.cat([values[:, other] for other in others], dim=2),
                attn_mask=mask,
            )
            result = self.output(attended.transpose(1, 2).flatten(2))  # B L C
            added.append(torch.where(some[..., None], result, torch.zeros_like(result)))
        changed = (cells + torch.stack(added, dim=1)).reshape(last.shape)
        return changed.movedim(-1, 2) if self.channels_first else changed


def cross_view_attention(
    network: nn.Module, *, sides: Sequence[int], image_size: tuple[int, int], name: str
) -> CrossViewAttention:
    """Build the cross attention for the last feature map of a network.

    Args:
        network: network with timm's methods `forward_features` and `forward_head`.
        sides: side of the breast in each place of a view.
        image_size: H and W of the images.
        name: name of the network, for the error message.

    Raises:
        ConfigError: the network has no such methods or no such map, or a side has only one view.
    """
    if any(list(sides).count(side) < 2 for side in sides):
        raise ConfigError(
            "model.fusion=cross_view: one view of a side has no other to attend to; give "
            "data.views=[CC,MLO], or another model.fusion"
        )
    if not (hasattr(network, "forward_features") and hasattr(network, "forward_head")):
        raise ConfigError(
            f"model.fusion=cross_view: {name} has no methods forward_features and forward_head; give a "
            "network of timm, or another model.fusion"
        )
    features = dry_run(_Features(network), torch.empty(1, 1, *image_size))
    if not isinstance(features, Tensor) or features.ndim not in (3, 4):
        raise ConfigError(
            f"model.fusion=cross_view: the features of {name} are no map, B C h w, or tokens, B L C; give "
            "another model.fusion"
        )
    first = features.ndim == 4 and getattr(network, "output_fmt", "NCHW") == "NCHW"
    return CrossViewAttention(features.shape[1 if first else -1], sides=sides, channels_first=first)


def last_features(network: nn.Module, images: Tensor) -> Any:
    """Return what timm's `forward_features` returns for images B 1 H W."""
    timms: Any = network  # timm's interface, which nn.Module does not declare
    # only a call of the network itself runs its hooks, one of which makes three channels of a grey image
    for hook in network._forward_pre_hooks.values():
        (images,) = hook(network, (images,))
    return timms.forward_features(images)


class _Features(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Any:
        return last_features(self.network, images)
