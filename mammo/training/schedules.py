"""Schedules of the learning rate over the optimiser steps."""

import math
from collections.abc import Callable
from typing import Literal


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
    """Build a function that returns the factor of the learning rates at each optimiser step.

    Args:
        name: `constant`; `step`: multiplied by `factor` every `step_epochs`; `cosine`: a half cosine down to
            `final_lr_fraction` at the last step (Loshchilov and Hutter 2017); `onecycle`: a half cosine up
            from `initial_lr_fraction` during the warm-up, then as `cosine` (Smith and Topin 2019).
        steps_per_epoch: number of optimiser steps in an epoch.
        epochs: number of epochs of the whole training.
        warmup_epochs: number of epochs of the warm-up, which is linear from near 0 except in `onecycle`.
        step_epochs: number of epochs between two reductions of `step`.
        factor: factor of each reduction of `step`.
        initial_lr_fraction: factor at the first step of `onecycle`.
        final_lr_fraction: factor at the end of `cosine` and `onecycle`.

    Returns:
        Function from the index of a step, counted from 0, to the factor.

    Example:
        >>> factor = learning_rate_factor(name="step", steps_per_epoch=1, epochs=3, factor=0.5)
        >>> [factor(step) for step in range(3)]
        [1.0, 0.5, 0.25]
    """
    steps, warmup = epochs * steps_per_epoch, round(warmup_epochs * steps_per_epoch)

    def half_cosine(start: float, end: float, progress: float) -> float:
        return end + (start - end) * (1 + math.cos(math.pi * min(1.0, progress))) / 2

    def factor_at(step: int) -> float:
        if step < warmup and name == "onecycle":
            return half_cosine(initial_lr_fraction, 1.0, step / warmup)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if name in ("cosine", "onecycle"):
            return half_cosine(1.0, final_lr_fraction, (step - warmup) / max(1, steps - warmup))
        if name == "step":
            return float(factor ** (step // (steps_per_epoch * step_epochs)))
        return 1.0

    return factor_at
