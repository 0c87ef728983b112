"""The node `model.head`: which head a network has above its feature map."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from mammo.config.choices import WITH_BACKGROUND
from mammo.config.instantiation import TARGET, Role, build

HEAD = Role("head of a network", base=(nn.Module,))
# what a head may ask for
FOR_HEADS = ("network", "num_classes", "image_size", "positives")


def global_head(*, network: nn.Module) -> nn.Module:
    """Return the network as it is, with its own global pooling and classifier."""
    return network


GLOBAL = {TARGET: f"{global_head.__module__}.{global_head.__name__}"}


def network_classes(node: Mapping[str, Any], num_classes: int) -> int:
    """Return the number of classes of the network below the head: one more if it needs the background."""
    return num_classes + (node.get("pool") in WITH_BACKGROUND)


def build_head(
    node: Mapping[str, Any],
    *,
    network: nn.Module,
    num_classes: int,
    image_size: tuple[int, int],
    positives: Sequence[int] = (),
) -> nn.Module:
    """Build the head of the node `model.head` around a network.

    Args:
        node: `_target_` and keyword arguments.
        network: network of B 1 H W to B `network_classes` logits.
        num_classes: number of classes of the task.
        image_size: H and W of the images.
        positives: indices of the positive classes.

    Returns:
        Module of B 1 H W to logits, B C, or to an `Output`.

    Raises:
        ConfigError: it is no head, see `check_node`, or does not suit the network or the task.
    """
    offered = dict(zip(FOR_HEADS, (network, num_classes, image_size, positives), strict=True))
    head: nn.Module = build(node, key="model.head", role=HEAD, offered=offered)
    return head
