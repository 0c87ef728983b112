"""Metrics of the user's own: what they are updated with, and what is refused."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score, f1_score
from torchmetrics import Metric

from mammo.errors import ConfigError
from mammo.metrics.epoch_scores import EpochScores
from mammo.metrics.own_metrics import OwnMetrics

RNG = np.random.default_rng(0)
F1 = {"_target_": "torchmetrics.classification.MulticlassF1Score", "average": "macro"}
KAPPA = {"_target_": "torchmetrics.classification.BinaryCohenKappa"}


class Fails(Metric):
    """Fails for more than ten images."""

    def update(self, probability: torch.Tensor, labels: torch.Tensor) -> None:
        if len(labels) > 10:
            raise RuntimeError("too many images")

    def compute(self) -> torch.Tensor:
        return torch.tensor(1.0)


def scores(classes: int, images: int = 60) -> tuple[np.ndarray, np.ndarray]:
    probability = RNG.dirichlet(np.ones(classes), images).astype(np.float32)
    return probability, RNG.integers(classes, size=images)


@pytest.mark.parametrize("classes", [2, 4])
def test_a_metric_that_asks_for_the_number_of_classes_gets_all_probabilities(classes: int) -> None:
    probability, labels = scores(classes)
    found = OwnMetrics({"f1": F1}, num_classes=classes)
    for _ in range(2):  # each call is computed anew
        expected = f1_score(labels, probability.argmax(axis=1), average="macro")
        assert found(probability, labels)["f1"] == pytest.approx(expected)


def test_a_binary_metric_gets_the_second_class() -> None:
    probability, labels = scores(2)
    expected = cohen_kappa_score(labels, probability[:, 1] > 0.5)
    assert OwnMetrics({"k": KAPPA}, num_classes=2)(probability, labels)["k"] == pytest.approx(expected)
    with pytest.raises(ConfigError, match=r"metrics\.k: .*BinaryCohenKappa gives no number .* \(N x 4\)"):
        OwnMetrics({"k": KAPPA}, num_classes=4)


def test_an_epoch_has_them_beside_its_own_scores_which_stay_the_same() -> None:
    probability, labels = scores(4)
    plain, more = EpochScores(4), EpochScores(4, ordered=True, own=OwnMetrics({"f1": F1}, num_classes=4))
    for part in (slice(0, 25), slice(25, 60)):
        for each in (plain, more):
            batch = torch.from_numpy(probability[part]), torch.from_numpy(labels[part])
            each.update(torch.tensor(0.5), *batch, torch.arange(len(batch[1])))
    before, after = plain.compute(), more.compute()
    assert {name: float(value) for name, value in before.items()} == {
        name: float(after[name]) for name in before
    }
    assert set(after) - set(before) == {"f1", "kappa"}
    expected = cohen_kappa_score(labels, probability.argmax(axis=1), weights="quadratic")
    assert float(after["kappa"]) == pytest.approx(expected)


def test_a_metric_that_fails_is_undefined_and_says_so_once(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = OwnMetrics({"f": {"_target_": f"{__name__}.Fails"}}, num_classes=2)
    for _ in range(2):
        assert math.isnan(metrics(*scores(2))["f"])
    assert capsys.readouterr().err == "metrics.f is undefined: too many images\n"
