"""Optimisers, learning rates of the layers, and the gradual unfreezing of layers."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from mammo.config.instantiation import Role, build, check_node
from mammo.errors import ConfigError
from mammo.models.layer_depth import layer_of_parameters

OPTIMIZER = Role("optimiser", base=(Optimizer,))
# keys of `optim` that are for every optimiser, whatever its signature
OF_EVERY_OPTIMIZER = ("head_lr", "layer_decay", "freeze_epochs", "unfreeze_every", "freeze_batch_norm")


def build_optimizer(network: nn.Module, *, node: Mapping[str, Any]) -> Optimizer:
    """Build the optimiser of the node `optim` for the parameters of a network.

    Args:
        network: network to train.
        node: `_target_`, its keyword arguments, and keys for every optimiser: `head_lr`, learning rate of the
            classifier, None for `lr`; `layer_decay`, ratio of a layer's learning rate to that of the next
            (Clark et al. 2020, ELECTRA); `freeze_epochs`, `unfreeze_every` and `freeze_batch_norm`, see
            `Unfreezing`. `weight_decay` is for convolutions and linear layers; that of norms and biases is 0.

    Raises:
        ConfigError: there is no such optimiser, or it refuses its arguments.
    """
    options = {name: value for name, value in node.items() if name not in OF_EVERY_OPTIMIZER}
    target = check_node(options, key="optim", role=OPTIMIZER, offered=["params"])
    default = inspect.signature(target).parameters.get("lr")
    lr = options.get("lr", None if default is None else default.default)
    layered = {key: node[key] for key in ("head_lr", "layer_decay") if node.get(key) not in (None, 1.0)}
    layers = len(set(layer_of_parameters(network, coarse=False).values()))
    wanted = list(layered) + [key for key in ("freeze_epochs",) if node.get(key)]
    if wanted and layers == 1:
        raise ConfigError(
            f"optim.{wanted[0]}={node[wanted[0]]}: the network does not name its layers; add the methods "
            "get_classifier and group_matcher of timm to it"
        )
    groups = parameter_groups(network, lr=lr, weight_decay=options.get("weight_decay"), **layered)
    optimizer: Optimizer = build(options, key="optim", role=OPTIMIZER, offered={"params": groups})
    return optimizer


def sgd(
    params: Iterable[Any], *, lr: float, momentum: float = 0.9, weight_decay: float = 0.0
) -> torch.optim.SGD:
    """Build stochastic gradient descent, with Nesterov's momentum if the momentum is not 0.

    Args:
        params: parameters, or groups of parameters.
        lr: learning rate.
        momentum: momentum coefficient.
        weight_decay: weight decay.
    """
    nesterov = momentum > 0
    return torch.optim.SGD(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)


def parameter_groups(
    network: nn.Module,
    *,
    lr: float | None,
    head_lr: float | None = None,
    layer_decay: float = 1.0,
    weight_decay: float | None = 0.0,
) -> list[dict[str, Any]]:
    """Group parameters by learning rate and weight decay, in the format of PyTorch's optimisers.

    Args:
        network: network to train.
        lr: learning rate of the last layer below the classifier; None for that of the optimiser.
        head_lr: learning rate of the classifier; None for `lr`.
        layer_decay: ratio of a layer's learning rate to that of the next.
        weight_decay: weight decay of convolutions and linear layers; None for that of the optimiser.
    """
    layers = layer_of_parameters(network, coarse=False)
    head = max(layers.values())
    groups: dict[tuple[float | None, float | None], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if layers[name] == head:
            rate = lr if head_lr is None else head_lr
        else:
            rate = None if lr is None else lr * layer_decay ** (head - 1 - layers[name])
        decay = weight_decay if parameter.ndim > 1 or weight_decay is None else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": params}
        | ({} if lr is None else {"lr": lr})
        | ({} if decay is None else {"weight_decay": decay})
        for (lr, decay), params in groups.items()
    ]


def first_trained_layer(
    *, epoch: int, head: int, freeze_epochs: int = 0, unfreeze_every: int | None = None
) -> int:
    """Return the index of the lowest layer trained in an epoch; all layers above it are trained too.

    This is the gradual unfreezing of Howard and Ruder 2018.

    Args:
        epoch: index of the epoch, counted from 0.
        head: index of the classifier's layer.
        freeze_epochs: number of epochs at the start in which only the classifier is trained.
        unfreeze_every: number of epochs after which one more layer is trained; None to train all at once.

    Example:
        >>> [first_trained_layer(epoch=e, head=3, freeze_epochs=1, unfreeze_every=1) for e in range(4)]
        [3, 2, 1, 0]
    """
    if epoch < freeze_epochs:
        return head
    if unfreeze_every is None or freeze_epochs == 0:
        return 0
    return max(0, head - 1 - (epoch - freeze_epochs) // unfreeze_every)
