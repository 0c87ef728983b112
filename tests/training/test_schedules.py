from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR, StepLR

from mammo.models.backbones import build_model
from mammo.training.optim import build_optimizer
from mammo.training.schedules import learning_rate_factor


def rates(factor, steps: int) -> list[float]:  # type: ignore[no-untyped-def]
    return [factor(step) for step in range(steps)]


def reference(schedule, steps: int) -> list[float]:  # type: ignore[no-untyped-def]
    """The learning rates of one of torch's schedules, starting from 1."""
    optimizer = schedule.optimizer
    values = []
    for _ in range(steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return values


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)


def test_schedules_are_torchs_where_torch_has_them() -> None:
    cosine = learning_rate_factor(name="cosine", steps_per_epoch=5, epochs=6, final_lr_fraction=0.1)
    assert rates(cosine, 30) == pytest.approx(reference(CosineAnnealingLR(optimizer(), 30, eta_min=0.1), 30))
    step = learning_rate_factor(name="step", steps_per_epoch=5, epochs=6, step_epochs=2, factor=0.3)
    assert rates(step, 30) == pytest.approx(reference(StepLR(optimizer(), 10, gamma=0.3), 30))
    constant = learning_rate_factor(name="constant", steps_per_epoch=5, epochs=6)
    assert rates(constant, 30) == [1.0] * 30
    onecycle = learning_rate_factor(
        name="onecycle", steps_per_epoch=5, epochs=6, warmup_epochs=2, initial_lr_fraction=0.04,
        final_lr_fraction=1e-4,
    )  # fmt: skip
    # torch's schedule turns and ends one step earlier, so it has one step more
    cycle = OneCycleLR(
        optimizer(), 1.0, total_steps=31, pct_start=11 / 31, div_factor=25, final_div_factor=400
    )
    assert rates(onecycle, 31) == pytest.approx(reference(cycle, 31), abs=0.01)


@given(
    st.sampled_from(["constant", "step", "cosine"]), st.integers(1, 50), st.integers(1, 20), st.floats(0, 5)
)
def test_warmup_rises_and_nothing_rises_after_it(
    name: str, steps_per_epoch: int, epochs: int, warmup: float
) -> None:
    factor = learning_rate_factor(
        name=name, steps_per_epoch=steps_per_epoch, epochs=epochs, warmup_epochs=warmup, step_epochs=2,
        factor=0.5, final_lr_fraction=0.01,
    )  # fmt: skip
    values = rates(factor, epochs * steps_per_epoch)
    turn = round(warmup * steps_per_epoch)
    assert all(0 < value <= 1 for value in values)
    assert all(a < b for a, b in pairwise(values[:turn]))
    assert all(a >= b for a, b in pairwise(values[turn:]))


def test_lambda_multiplies_every_groups_rate() -> None:
    network = build_model(name="custom_cnn", num_classes=2)
    made = build_optimizer(network, name="sgd", lr=1.0, head_lr=3.0)
    schedule = LambdaLR(made, learning_rate_factor(name="step", steps_per_epoch=1, epochs=3, factor=0.1))
    made.step()
    schedule.step()
    assert {round(group["lr"], 9) for group in made.param_groups} == {0.1, 0.3}
