from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from helpers.networks import build_model
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR, StepLR

from mammo.errors import ConfigError
from mammo.training.optim import build_optimizer
from mammo.training.schedules import build_schedule, constant, cosine, step

PLAN: dict[str, Any] = {"steps_per_epoch": 5, "epochs": 6, "total_steps": 30, "mode": "max"}


def rates(name: str, steps: int, **options: Any) -> list[float]:
    """The learning rates of one of this package's schedules, starting from 1."""
    node = {"_target_": f"mammo.training.schedules.{name}"} | options
    schedule, interval = build_schedule(
        optimizer(), node=node, steps_per_epoch=5, epochs=6, total_steps=30, mode="max"
    )
    assert interval == "step"
    return reference(schedule, steps)


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
    cosine = rates("cosine", 30, final_lr_fraction=0.1, warmup_epochs=0)
    assert cosine == pytest.approx(reference(CosineAnnealingLR(optimizer(), 30, eta_min=0.1), 30))
    step = rates("step", 30, step_epochs=2, factor=0.3)
    assert step == pytest.approx(reference(StepLR(optimizer(), 10, gamma=0.3), 30))
    assert rates("constant", 30) == [1.0] * 30
    onecycle = rates("onecycle", 31, warmup_epochs=2, initial_lr_fraction=0.04, final_lr_fraction=1e-4)
    # torch's schedule turns and ends one step earlier, so it has one step more
    cycle = OneCycleLR(
        optimizer(), 1.0, total_steps=31, pct_start=11 / 31, div_factor=25, final_div_factor=400
    )
    assert onecycle == pytest.approx(reference(cycle, 31), abs=0.01)


@given(st.sampled_from([constant, step, cosine]), st.integers(1, 50), st.integers(1, 20), st.floats(0, 5))
def test_warmup_rises_and_nothing_rises_after_it(
    schedule: Callable[..., LambdaLR], steps_per_epoch: int, epochs: int, warmup: float
) -> None:
    options: dict[str, Any] = {"steps_per_epoch": steps_per_epoch, "warmup_epochs": warmup}
    options |= {"total_steps": epochs * steps_per_epoch} if schedule is cosine else {}
    options |= {"step_epochs": 2, "factor": 0.5} if schedule is step else {}
    factor = schedule(optimizer(), **options).lr_lambdas[0]
    values = [factor(index) for index in range(epochs * steps_per_epoch)]
    turn = round(warmup * steps_per_epoch)
    assert all(0 < value <= 1 for value in values)
    assert all(a < b for a, b in pairwise(values[:turn]))
    assert all(a >= b for a, b in pairwise(values[turn:]))


def test_a_schedule_of_torch_gets_what_it_asks_for() -> None:
    node = {"_target_": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 0.5}
    cycle, interval = build_schedule(
        optimizer(), node=node, steps_per_epoch=5, epochs=6, total_steps=30, mode="max"
    )
    assert (cycle.total_steps, interval) == (30, "step")
    node = {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "patience": 2}
    plateau, interval = build_schedule(
        optimizer(), node=node, steps_per_epoch=5, epochs=6, total_steps=30, mode="max"
    )
    assert (plateau.mode, plateau.patience, interval) == ("max", 2, "epoch")
    node = {"_target_": "torch.optim.lr_scheduler.StepLR"}
    with pytest.raises(ConfigError, match=r"StepLR needs step_size; give \+schedule\.step_size="):
        build_schedule(optimizer(), node=node, **PLAN)


def test_lambda_multiplies_every_groups_rate() -> None:
    network = build_model(name="custom_cnn", num_classes=2)
    made = build_optimizer(network, node={"_target_": "torch.optim.SGD", "lr": 1.0, "head_lr": 3.0})
    schedule = step(made, steps_per_epoch=1, step_epochs=1, factor=0.1)
    made.step()
    schedule.step()
    assert {round(group["lr"], 9) for group in made.param_groups} == {0.1, 0.3}
