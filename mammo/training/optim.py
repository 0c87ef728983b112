"""Optimisers, learning rates of the layers, and the gradual unfreezing of layers."""

from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from mammo.models.layer_depth import layer_of_parameters


def build_optimizer(
    network: nn.Module,
    *,
    name: Literal["adam", "adamw", "sgd", "rmsprop"],
    lr: float,
    head_lr: float | None = None,
    layer_decay: float = 1.0,
    weight_decay: float = 0.0,
    beta1: float = 0.9,
    beta2: float = 0.999,
    momentum: float = 0.0,
) -> Optimizer:
    """Build the optimiser of a network's parameters, grouped by learning rate and weight decay.

    Args:
        network: network to train.
        name: Adam (Kingma and Ba 2015), AdamW (Loshchilov and Hutter 2019), SGD with Nesterov's momentum, or
            RMSprop (Tieleman and Hinton 2012).
        lr: learning rate of the last layer below the classifier.
        head_lr: learning rate of the classifier; None for `lr`.
        layer_decay: ratio of a layer's learning rate to that of the next (Clark et al. 2020, ELECTRA).
        weight_decay: weight decay of convolutions and linear layers; 0 for norms and biases.
        beta1: decay rate of the first moment in Adam and AdamW.
        beta2: decay rate of the second moment in Adam and AdamW.
        momentum: momentum of SGD and RMSprop.
    """
    groups = parameter_groups(
        network, lr=lr, head_lr=head_lr, layer_decay=layer_decay, weight_decay=weight_decay
    )
    if name == "adam":
        return torch.optim.Adam(groups, lr=lr, betas=(beta1, beta2))
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=(beta1, beta2))
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)
    return torch.optim.RMSprop(groups, lr=lr, momentum=momentum)


def parameter_groups(
    network: nn.Module, *, lr: float, head_lr: float | None, layer_decay: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Group parameters by learning rate and weight decay, in the format of PyTorch's optimisers."""
    layers = layer_of_parameters(network, coarse=False)
    head = max(layers.values())
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if layers[name] == head:
            rate = lr if head_lr is None else head_lr
        else:
            rate = lr * layer_decay ** (head - 1 - layers[name])
        decay = weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": params, "lr": lr, "weight_decay": decay} for (lr, decay), params in groups.items()]


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
