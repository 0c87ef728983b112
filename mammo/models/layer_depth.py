"""Which layer a parameter belongs to, counted from the input."""

from typing import Any

from timm.models import group_parameters
from torch import nn

from mammo.models.pooling import POOLS

# name of the module that a two-headed network has beside its classifier
BOX_HEAD = "box_head"


def layer_of_parameters(model: nn.Module, *, coarse: bool) -> dict[str, int]:
    """The layer of every parameter: 0 at the input, rising by one to the classifier's and the pool's.

    Args:
        model: of `build_model`.
        coarse: a layer is a stage rather than a block, where the network makes the difference.
    """
    network: Any = model  # timm's interface, which nn.Module does not declare
    layers: dict[str, int] = group_parameters(network, network.group_matcher(coarse=coarse), reverse=True)
    # timm would number a pool with weights wherever the network lists it
    top = head_modules(model)
    body = {name: layer for name, layer in layers.items() if not within(name, top)}
    number = {layer: rank for rank, layer in enumerate(sorted(set(body.values())))}
    # what timm matches to no block, such as a norm of the head, already stands with the classifier
    last = number.get(max(layers.values()), len(number))
    return {name: number[body[name]] if name in body else last for name in layers}


def head_modules(model: nn.Module) -> tuple[str, ...]:
    """Names of the modules above the feature map: the classifier, the pool, and the box head."""
    network: Any = model
    classifier = network.get_classifier()
    heads = classifier if isinstance(classifier, tuple) else (classifier,)  # two where one is distilled
    return tuple(
        name
        for name, module in model.named_modules()
        if name == BOX_HEAD or isinstance(module, POOLS) or any(module is head for head in heads)
    )


def within(name: str, modules: tuple[str, ...]) -> bool:
    """Whether a tensor of that name lies in one of the modules."""
    return any(name.startswith(f"{module}.") for module in modules)
