from itertools import pairwise

import pytest
import torch
from torch import nn

from mammo.training.optim import adamw, warmup_cosine


def test_norms_and_biases_do_not_decay() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    decaying, others = adamw(model, lr=1e-3, weight_decay=0.1).param_groups
    assert [p.ndim for p in decaying["params"]] == [4, 2]
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert len(others["params"]) == 4


def test_learning_rate_rises_then_falls_to_its_fraction() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = warmup_cosine(optimizer, steps=100, warmup_steps=10, final_lr_fraction=0.01)
    rates = []
    for _ in range(101):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert all(a < b for a, b in pairwise(rates[:11]))
    assert rates[10] == pytest.approx(2.0)
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[100] == pytest.approx(0.02)
