"""The scores of an epoch, collected over batches and processes."""

import io
import math

import numpy as np
import pytest
import torch

from mammo.metrics import multiclass_auc
from mammo.metrics.epoch_scores import EpochScores

TWO = (torch.tensor(1.0), torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 0]), torch.tensor([0, 1]))
ONE = (torch.tensor(4.0), torch.tensor([[0.4, 0.6]]), torch.tensor([0]), torch.tensor([2]))


def values(scores: EpochScores) -> dict[str, float]:
    return {name: float(value) for name, value in scores.compute().items()}


def test_epoch_scores_gather_batches() -> None:
    scores = EpochScores()
    scores.update(*TWO)
    scores.update(*ONE)
    assert values(scores) == pytest.approx({"loss": 2.0, "auc": 1.0, "accuracy": 2 / 3})
    probability, label, row = scores.gathered()
    assert probability.tolist() == torch.cat([TWO[1], ONE[1]]).tolist()
    assert label.tolist() == [1, 0, 0]
    assert row.tolist() == [0, 1, 2]


def test_epoch_scores_of_four_classes() -> None:
    rng = np.random.default_rng(4)
    probability, labels = rng.dirichlet([1.0] * 4, size=12).astype(np.float32), np.arange(12) % 4
    scores = EpochScores(num_classes=4)
    for part in np.split(np.arange(12), [5]):
        batch = (probability[part], labels[part], part)
        scores.update(torch.tensor(1.0), *map(torch.from_numpy, batch))
    expected = {
        "loss": 1.0,
        "auc": multiclass_auc(probability, labels),
        "auc_micro": multiclass_auc(probability, labels, average="micro"),
        "accuracy": (probability.argmax(1) == labels).mean(),
    }
    assert values(scores) == pytest.approx(expected)


def test_epoch_scores_of_all_processes() -> None:
    """A second process saw only the same first image; gathering is simulated."""
    scores = EpochScores()
    scores.update(*TWO)
    scores.update(*ONE)

    def gather(state: torch.Tensor, group: object) -> list[torch.Tensor]:
        return [state, state[:1] if state.ndim else torch.tensor(8.0)]

    with scores.sync_context(dist_sync_fn=gather, distributed_available=lambda: True):
        assert scores.gathered()[2].tolist() == [0, 1, 2, 0]
        synced = EpochScores()
        synced.restore(scores.snapshot())
    assert values(synced) == pytest.approx({"loss": 14 / 4, "auc": 1.0, "accuracy": 3 / 4})
    assert scores.gathered()[2].tolist() == [0, 1, 2]


@pytest.mark.parametrize("batches", [[], [TWO], [TWO, ONE]])
def test_interrupted_epoch_goes_on(batches: list[tuple[torch.Tensor, ...]]) -> None:
    scores = EpochScores()
    for batch in batches:
        scores.update(*batch)
    file = io.BytesIO()
    torch.save(scores.snapshot(), file)
    file.seek(0)
    snapshot = torch.load(file, weights_only=True)
    later = EpochScores()
    later.update(*ONE)  # discarded by restore
    later.restore(snapshot)
    for both in (scores, later):
        both.update(*ONE)
        both.update(*TWO)
    assert values(later) == values(scores)
    assert [a.tolist() for a in later.gathered()] == [a.tolist() for a in scores.gathered()]
    # the snapshot does not change with the metric
    assert len(snapshot["unit"]) == sum(len(batch[3]) for batch in batches)
    assert float(snapshot["loss"]) == sum(float(batch[0]) * len(batch[3]) for batch in batches)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_epoch_of_nothing_is_undefined() -> None:
    scores = EpochScores(num_classes=4)
    assert scores.gathered()[0].shape == (0, 4)
    assert all(math.isnan(value) for value in values(scores).values())
    assert not scores.state_dict()
