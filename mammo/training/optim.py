"""Optimisers and learning rates: of the layers, over the steps, and which layers are trained at all."""

import math
from collections.abc import Callable
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
    """The optimiser of a network's parameters, grouped by learning rate and decay.

    Args:
        network: whose parameters are trained.
        name: Adam (Kingma and Ba 2015), AdamW (Loshchilov and Hutter 2019), SGD with Nesterov's momentum, or
            RMSprop (Tieleman and Hinton 2012).
        lr: learning rate of the last layer below the classifier.
        head_lr: of the classifier; None for `lr`.
        layer_decay: a layer's learning rate is so many times that of the next (Clark et al. 2020, ELECTRA).
        weight_decay: of the weights of convolutions and linear layers, not of norms and biases.
        beta1: of Adam and AdamW, like `beta2`.
        beta2: see there.
        momentum: of SGD and RMSprop.
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
    """Parameters that share learning rate and decay, in the form that torch's optimisers take."""
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


def learning_rate_factor(
    *,
    name: Literal["constant", "step", "cosine", "onecycle"],
    steps_per_epoch: int,
    epochs: int,
    warmup_epochs: float = 0.0,
    step_epochs: int = 1,
    factor: float = 1.0,
    initial_lr_fraction: float = 0.0,
    final_lr_fraction: float = 0.0,
) -> Callable[[int], float]:
    """What the learning rates are multiplied by at an optimiser step, counted from 0.

    Args:
        name: `constant`; `step`: times `factor` every `step_epochs`; `cosine`: a half cosine down to
            `final_lr_fraction` at the last step (Loshchilov and Hutter 2017); `onecycle`: a half cosine up
            from `initial_lr_fraction` during the warm-up, then one down (Smith and Topin 2019).
        steps_per_epoch: optimiser steps.
        epochs: of the whole training.
        warmup_epochs: linear from zero, but for `onecycle`.
        step_epochs: see `name`.
        factor: see `name`.
        initial_lr_fraction: see `name`.
        final_lr_fraction: see `name`.
    """
    steps, warmup = epochs * steps_per_epoch, round(warmup_epochs * steps_per_epoch)

    def half_cosine(start: float, end: float, progress: float) -> float:
        return end + (start - end) * (1 + math.cos(math.pi * min(1.0, progress))) / 2

    def at(step: int) -> float:
        if step < warmup and name == "onecycle":
            return half_cosine(initial_lr_fraction, 1.0, step / warmup)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if name in ("cosine", "onecycle"):
            return half_cosine(1.0, final_lr_fraction, (step - warmup) / max(1, steps - warmup))
        if name == "step":
            return float(factor ** (step // (steps_per_epoch * step_epochs)))
        return 1.0

    return at


def first_trained_layer(
    *, epoch: int, head: int, freeze_epochs: int = 0, unfreeze_every: int | None = None
) -> int:
    """The layer from which on everything is trained in an epoch (counted from 0); `head` is the classifier's.

    For `freeze_epochs` the classifier alone is trained, then one layer more every `unfreeze_every` epochs
    (Howard and Ruder 2018), or all at once.
    """
    if epoch < freeze_epochs:
        return head
    if unfreeze_every is None or freeze_epochs == 0:
        return 0
    return max(0, head - 1 - (epoch - freeze_epochs) // unfreeze_every)
