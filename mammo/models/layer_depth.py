"""Layer index of each parameter, counted from the input."""

from typing import Any

from timm.models import group_parameters
from torch import nn

from mammo.models.pooling import POOLS

# module name of the second head of a two-headed network
BOX_HEAD = "box_head"


def layer_of_parameters(model: nn.Module, *, coarse: bool) -> dict[str, int]:
    """Layer index of each parameter, from 0 at the input to the last one, of classifier and pool.

    Args:
        model: network; without timm's `group_matcher`, all below the classifier is one layer, and without
            `get_classifier` the whole network.
        coarse: whether a layer is a stage rather than a block, in networks that distinguish the two.
    """
    network: Any = model  # timm's interface, which nn.Module does not declare
    if not hasattr(network, "group_matcher"):
        above = head_modules(model)
        return {name: int(bool(above) and within(name, above)) for name, _ in model.named_parameters()}
    layers: dict[str, int] = group_parameters(network, network.group_matcher(coarse=coarse), reverse=True)
    # timm numbers a pool with weights by its position in the network's list of modules
    head = head_modules(model)
    body = {name: layer for name, layer in layers.items() if not within(name, head)}
    rank_of = {layer: rank for rank, layer in enumerate(sorted(set(body.values())))}
    # parameters that timm assigns to no block, such as a norm of the head, are in the classifier's layer
    last = rank_of.get(max(layers.values()), len(rank_of))
    return {name: rank_of[body[name]] if name in body else last for name in layers}


def head_modules(model: nn.Module) -> tuple[str, ...]:
    """Names of the modules above the feature map: the classifier, the pool, and the box head."""
    network: Any = model
    classifier = network.get_classifier() if hasattr(network, "get_classifier") else ()
    heads = classifier if isinstance(classifier, tuple) else (classifier,)  # two in distilled networks
    return tuple(
        name
        for name, module in model.named_modules()
        if name == BOX_HEAD or isinstance(module, POOLS) or any(module is head for head in heads)
    )


def within(name: str, modules: tuple[str, ...]) -> bool:
    """Whether the tensor `name` belongs to one of the modules."""
    return any(name.startswith(f"{module}.") for module in modules)
