"""Pools of maps against references in NumPy, and by their properties."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from mammo.models.heads.map_pools import (
    cell_count,
    lesion_weighted,
    log_mean_exp,
    noisy_or,
    positive_evidence,
    positive_odds,
    top_k_mean,
    window_mean,
)

Array = NDArray[np.float64]
VALUES = st.floats(-8, 8, allow_subnormal=False)


def reference_top_k(maps: Array, top_k: int) -> Array:
    return np.asarray([[sorted(c.ravel())[-top_k:] for c in image] for image in maps]).mean(axis=2)


def reference_lse(maps: Array, sharpness: float) -> Array:
    return np.asarray(np.log(np.exp(sharpness * maps).mean(axis=(2, 3))) / sharpness)


def reference_noisy_or(maps: Array, positive: int) -> Array:
    """The probability of each class, B 2."""
    p = np.exp(maps[:, positive]) / np.exp(maps).sum(axis=1)
    none = (1 - p).prod(axis=(1, 2))
    return np.stack([none, 1 - none] if positive else [1 - none, none], axis=1)


def reference_lesion_weighted(scores: Array, power: float) -> Array:
    """The score of each lesion class minus that of the first, B C - 1, by loops over images and cells."""
    found = []
    for image in scores:
        total, weight = np.zeros(len(image) - 2), 0.0
        for cell in image.reshape(len(image), -1).T:
            lesion = (np.exp(cell[1:]).sum() / np.exp(cell[0])) ** power
            total += lesion * (cell[2:] - cell[1])
            weight += lesion
        found.append(total / weight)
    return np.array(found)


@st.composite
def maps_of(draw: st.DrawFn, classes: int = 2) -> Tensor:
    shape = (draw(st.integers(1, 3)), classes, draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    count = math.prod(shape)
    values = draw(st.lists(VALUES, min_size=count, max_size=count))
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "top_k": lambda maps: top_k_mean(maps, top_k=3),
    "share": lambda maps: top_k_mean(maps, top_k=0.3),
    "lse": lambda maps: log_mean_exp(maps, sharpness=2),
    "noisy_or": lambda maps: noisy_or(maps, positive=1),
    "lesion_weighted": lambda maps: lesion_weighted(torch.cat([maps[:, :1] * 0, maps], dim=1))[0],
}


@pytest.mark.parametrize("name", POOLS)
@given(maps=maps_of(), seed=st.integers(0, 999))
def test_the_order_of_the_cells_changes_nothing(name: str, maps: Tensor, seed: int) -> None:
    order = torch.randperm(maps[0, 0].numel(), generator=torch.Generator().manual_seed(seed))
    shuffled = maps.flatten(2)[:, :, order].view_as(maps)
    torch.testing.assert_close(POOLS[name](shuffled), POOLS[name](maps))


@pytest.mark.parametrize("name", ["top_k", "share", "lse"])
@given(maps=maps_of(), cell=st.integers(0, 15), more=st.floats(0, 5))
def test_more_evidence_in_a_cell_is_never_less_in_the_image(
    name: str, maps: Tensor, cell: int, more: float
) -> None:
    raised = maps.clone()
    raised.flatten(2)[:, :, cell % maps[0, 0].numel()] += more
    assert (POOLS[name](raised) >= POOLS[name](maps) - 1e-9).all()


@given(maps=maps_of(), cell=st.integers(0, 15), more=st.floats(0, 5))
def test_a_more_positive_cell_makes_noisy_or_more_positive(maps: Tensor, cell: int, more: float) -> None:
    raised = maps.clone()
    raised[:, 1].flatten(1)[:, cell % maps[0, 0].numel()] += more
    none, after = noisy_or(maps, positive=1)[:, 0], noisy_or(raised, positive=1)[:, 0]
    assert (after <= none + 1e-9).all()


@given(maps=maps_of(), top_k=st.integers(1, 16), sharpness=st.floats(0.1, 8))
def test_pools_against_numpy(maps: Tensor, top_k: int, sharpness: float) -> None:
    cells = maps[0, 0].numel()
    assert np.allclose(
        top_k_mean(maps, top_k=top_k), reference_top_k(maps.numpy(), min(top_k, cells)), atol=1e-9
    )
    assert np.allclose(log_mean_exp(maps, sharpness=sharpness), reference_lse(maps.numpy(), sharpness))
    for positive in (0, 1):
        found = noisy_or(maps, positive=positive).softmax(dim=1)
        assert np.allclose(found, reference_noisy_or(maps.numpy(), positive), atol=1e-12)


@given(scores=maps_of(classes=4), power=st.floats(0.1, 5))
def test_lesion_weighted_against_numpy(scores: Tensor, power: float) -> None:
    logits, maps = lesion_weighted(scores, odds_power=power)
    found = (logits[:, 1:] - logits[:, :1]).numpy()
    assert np.allclose(found, reference_lesion_weighted(scores.numpy(), power), atol=1e-9)
    torch.testing.assert_close(maps.mean(dim=(2, 3)), logits)


@given(scores=maps_of(classes=3), top_k=st.integers(1, 16), positive=st.integers(0, 1))
def test_positive_odds_against_numpy(scores: Tensor, top_k: int, positive: int) -> None:
    odds = positive_odds(scores, positive=positive, top_k=top_k)
    chance = softmax(scores.numpy(), axis=1)[:, 1 + positive]
    expected = np.log(chance / (1 - chance))
    assert np.allclose(positive_evidence(scores, positives=[1 + positive]), expected, atol=1e-6)
    assert np.allclose(odds, np.sort(expected.reshape(len(expected), -1))[:, -top_k:].mean(axis=1), atol=1e-6)


@given(maps=maps_of(), window=st.sampled_from([1, 3, 5]))
def test_window_mean_against_numpy(maps: Tensor, window: int) -> None:
    reach = window // 2
    padded = np.pad(maps.numpy(), ((0, 0), (0, 0), (reach, reach), (reach, reach)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (window, window), axis=(2, 3))
    assert np.allclose(window_mean(maps, window=window), np.nanmean(windows, axis=(4, 5)), atol=1e-9)


@given(maps=maps_of())
def test_the_ends_of_the_pools_are_mean_and_maximum(maps: Tensor) -> None:
    mean, highest = maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))
    torch.testing.assert_close(top_k_mean(maps, top_k=maps[0, 0].numel()), mean)
    torch.testing.assert_close(top_k_mean(maps, top_k=1), highest)
    for sharpness in (1e-3, 1.0, 30.0):
        pooled = log_mean_exp(maps, sharpness=sharpness)
        assert (pooled >= mean - 1e-9).all()
        assert (pooled <= highest + 1e-9).all()
    torch.testing.assert_close(log_mean_exp(maps, sharpness=1e-4), mean, rtol=0, atol=0.01)
    torch.testing.assert_close(log_mean_exp(maps, sharpness=1e4), highest, rtol=0, atol=0.01)


@pytest.mark.parametrize("value", [-300.0, -30.0, 0.0, 30.0, 300.0])
def test_noisy_or_of_extreme_cells_is_finite_and_learns(value: float) -> None:
    """In float32, where products of probabilities of many cells underflow."""
    maps = torch.zeros(1, 2, 36, 28)
    maps[:, 1] = value
    maps.requires_grad_()
    logits = noisy_or(maps, positive=1)
    assert logits.isfinite().all()
    torch.nn.functional.cross_entropy(logits, torch.tensor([0])).backward()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()
    if value >= 0:
        assert (maps.grad[:, 1] > 0).all()


def test_a_lesion_counts_more_than_the_background() -> None:
    """Two cells with opposite evidence: the one that is no background decides."""
    scores = torch.tensor([[[[9.0, -9.0]], [[2.0, -2.0]], [[-2.0, 2.0]]]])
    logits, maps = lesion_weighted(scores)
    assert logits[0, 1] > logits[0, 0] + 3.9
    assert maps[0, 1, 0, 1] > 0
    assert maps[0, 1].abs().argmax() == 1


def test_a_share_of_the_cells_is_one_cell_at_least() -> None:
    assert [cell_count(top_k, 20) for top_k in (0.001, 0.1, 0.99, 1, 7, 50)] == [1, 2, 20, 1, 7, 20]
