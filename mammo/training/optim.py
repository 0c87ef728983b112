"""The optimiser and the learning-rate schedule."""

import math

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR


def adamw(model: nn.Module, *, lr: float, weight_decay: float) -> AdamW:
    """AdamW (Loshchilov and Hutter 2019) that leaves norms and biases without decay.

    Args:
        model: whose parameters are trained.
        lr: learning rate.
        weight_decay: of the weights of convolutions and linear layers.
    """
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return AdamW(groups, lr=lr)


def warmup_cosine(
    optimizer: Optimizer, *, steps: int, warmup_steps: int, final_lr_fraction: float
) -> LambdaLR:
    """Rises linearly over `warmup_steps`, then falls by a half cosine until `steps`."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
        return final_lr_fraction + (1 - final_lr_fraction) * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, factor)
