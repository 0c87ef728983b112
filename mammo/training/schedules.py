"""Schedules of the learning rate: this package's, over the optimiser steps, and any of PyTorch."""

import inspect
import math
from collections.abc import Mapping
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from mammo.config.instantiation import Role, build, check_node

SCHEDULE = Role("schedule", base=(LRScheduler,))
# what a schedule may ask for
FOR_SCHEDULES = ("optimizer", "steps_per_epoch", "epochs", "total_steps", "mode")
# a schedule that asks for one of these is advanced at each step, another one at each epoch
_OF_STEPS = ("total_steps", "steps_per_epoch")


def build_schedule(
    optimizer: Optimizer,
    *,
    node: Mapping[str, Any],
    steps_per_epoch: int,
    epochs: int,
    total_steps: int,
    mode: Literal["max", "min"],
) -> tuple[LRScheduler, Literal["step", "epoch"]]:
    """Build the schedule of the node `schedule`.

    Args:
        optimizer: optimiser of the training.
        node: `_target_` and its keyword arguments.
        steps_per_epoch: number of optimiser steps in an epoch.
        epochs: number of epochs of the whole training.
        total_steps: number of optimiser steps of the whole training.
        mode: whether a better validation score is greater or smaller.

    Returns:
        The schedule, and when it is advanced: after each `step` if it asks for `total_steps` or
        `steps_per_epoch`, else after each `epoch`.

    Raises:
        ConfigError: there is no such schedule, or it refuses its arguments.
    """
    values = (optimizer, steps_per_epoch, epochs, total_steps, mode)
    offered: dict[str, Any] = dict(zip(FOR_SCHEDULES, values, strict=True))
    target = check_node(node, key="schedule", role=SCHEDULE, offered=offered)
    asked = inspect.signature(target).parameters
    schedule: LRScheduler = build(node, key="schedule", role=SCHEDULE, offered=offered)
    return schedule, "step" if any(name in asked for name in _OF_STEPS) else "epoch"


def constant(optimizer: Optimizer, *, steps_per_epoch: int, warmup_epochs: float = 0.0) -> LambdaLR:
    """Build a constant learning rate after a linear warm-up from near 0.

    Args:
        optimizer: optimiser of the training.
        steps_per_epoch: number of optimiser steps in an epoch.
        warmup_epochs: number of epochs of the warm-up.
    """
    warmup = round(warmup_epochs * steps_per_epoch)
    return LambdaLR(optimizer, lambda step: _risen(step, warmup))


def step(
    optimizer: Optimizer,
    *,
    steps_per_epoch: int,
    warmup_epochs: float = 0.0,
    step_epochs: int = 5,
    factor: float = 0.1,
) -> LambdaLR:
    """Build a learning rate that falls in steps, after a linear warm-up from near 0.

    Args:
        optimizer: optimiser of the training.
        steps_per_epoch: number of optimiser steps in an epoch.
        warmup_epochs: number of epochs of the warm-up.
        step_epochs: number of epochs between two reductions.
        factor: factor of each reduction.
    """
    warmup = round(warmup_epochs * steps_per_epoch)

    def factor_at(step: int) -> float:
        if step < warmup:
            return _risen(step, warmup)
        return float(factor ** (step // (steps_per_epoch * step_epochs)))

    return LambdaLR(optimizer, factor_at)


def cosine(
    optimizer: Optimizer,
    *,
    steps_per_epoch: int,
    total_steps: int,
    warmup_epochs: float = 1.0,
    final_lr_fraction: float = 0.01,
) -> LambdaLR:
    """Build a half cosine down to the last step, after a linear warm-up from near 0.

    Loshchilov and Hutter 2017, SGDR: stochastic gradient descent with warm restarts; without restarts.

    Args:
        optimizer: optimiser of the training.
        steps_per_epoch: number of optimiser steps in an epoch.
        total_steps: number of optimiser steps of the whole training.
        warmup_epochs: number of epochs of the warm-up.
        final_lr_fraction: factor at the end.
    """
    steps, warmup = total_steps, round(warmup_epochs * steps_per_epoch)

    def factor_at(step: int) -> float:
        if step < warmup:
            return _risen(step, warmup)
        return _half_cosine(1.0, final_lr_fraction, (step - warmup) / max(1, steps - warmup))

    return LambdaLR(optimizer, factor_at)


def onecycle(
    optimizer: Optimizer,
    *,
    steps_per_epoch: int,
    total_steps: int,
    warmup_epochs: float = 4.0,
    initial_lr_fraction: float = 0.04,
    final_lr_fraction: float = 0.0001,
) -> LambdaLR:
    """Build a half cosine up during the warm-up, and another one down to the last step.

    Smith and Topin 2019, Super-convergence: very fast training of neural networks using large learning rates;
    at constant momentum.

    Args:
        optimizer: optimiser of the training.
        steps_per_epoch: number of optimiser steps in an epoch.
        total_steps: number of optimiser steps of the whole training.
        warmup_epochs: number of epochs until the learning rate is reached.
        initial_lr_fraction: factor at the first step.
        final_lr_fraction: factor at the end.
    """
    steps, warmup = total_steps, round(warmup_epochs * steps_per_epoch)

    def factor_at(step: int) -> float:
        if step < warmup:
            return _half_cosine(initial_lr_fraction, 1.0, step / warmup)
        return _half_cosine(1.0, final_lr_fraction, (step - warmup) / max(1, steps - warmup))

    return LambdaLR(optimizer, factor_at)


def _risen(step: int, warmup: int) -> float:
    """Return the factor of a linear warm-up, which ends at 1."""
    return min(1.0, (step + 1) / (warmup + 1))


def _half_cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, progress))) / 2
