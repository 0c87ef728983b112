import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from mammo.metrics import EpochScores, auc, clustered_auc, clustered_multiclass_auc, multiclass_auc

LABELS = arrays(int, st.integers(2, 40), elements=st.integers(0, 1)).filter(
    lambda labels: 0 < labels.mean() < 1
)


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    labels = draw(LABELS)
    scores = draw(arrays(float, labels.shape, elements=st.integers(0, 10).map(lambda n: n / 10)))
    return scores, labels


@pytest.mark.slow
@given(scored())
def test_auc_is_that_of_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = case
    assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


@given(scored())
def test_auc_depends_on_the_order_of_the_scores_alone(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = case
    assert auc(np.exp(3 * scores), labels) == pytest.approx(auc(scores, labels))
    assert auc(-scores, labels) == pytest.approx(1 - auc(scores, labels))


@pytest.mark.parametrize("labels", [[0, 0], [1, 1], []])
def test_auc_of_one_class_is_undefined(labels: list[int]) -> None:
    assert math.isnan(auc([0.5] * len(labels), labels))
    assert math.isnan(clustered_auc([0.5] * len(labels), labels, list(range(len(labels)))).standard_error)


def delong_error(scores: np.ndarray, labels: np.ndarray) -> float:
    """DeLong et al. 1988, from the definition."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    psi = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    return math.sqrt(psi.mean(1).var(ddof=1) / positive.size + psi.mean(0).var(ddof=1) / negative.size)


def test_clustered_auc_is_delongs_where_each_patient_has_one_image() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    scores = rng.normal(size=200) + labels
    estimate = clustered_auc(scores, labels, np.arange(200))
    # with one image per cluster, positives and negatives have no covariance
    assert estimate.standard_error == pytest.approx(delong_error(scores, labels), rel=1e-9)
    assert estimate.low < estimate.value < estimate.high


def test_an_image_shown_twice_says_nothing_new() -> None:
    rng = np.random.default_rng(1)
    labels = np.arange(100) % 2
    scores = rng.normal(size=100) + labels
    once = clustered_auc(scores, labels, np.arange(100))
    twice = clustered_auc(np.tile(scores, 2), np.tile(labels, 2), np.tile(np.arange(100), 2))
    assert twice.value == pytest.approx(once.value)
    assert twice.standard_error == pytest.approx(once.standard_error, rel=1e-9)


def test_interval_covers_the_truth_with_correlated_images() -> None:
    """4 images of each patient share most of their score; the naive interval is too narrow."""
    rng = np.random.default_rng(2)
    truth = 0.7602499389  # AUC of normals one standard deviation apart: Phi(1 / sqrt(2))
    covered, naive = 0, 0
    for _ in range(400):
        patients = np.repeat(np.arange(80), 4)
        labels = (patients % 2).astype(int)
        shared = rng.normal(size=80)[patients]
        scores = np.sqrt(0.8) * shared + np.sqrt(0.2) * rng.normal(size=320) + labels
        by_patient = clustered_auc(scores, labels, patients)
        by_image = clustered_auc(scores, labels, np.arange(320))
        covered += by_patient.low <= truth <= by_patient.high
        naive += by_image.low <= truth <= by_image.high
    assert 0.91 <= covered / 400 <= 0.98
    assert naive / 400 < 0.85


def test_perfect_scores_have_no_interval() -> None:
    estimate = clustered_auc([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], [0, 1, 2, 3])
    assert estimate.value == 1
    assert math.isnan(estimate.low)


@st.composite
def multiclass(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N C) with ties, and labels of at least two classes."""
    classes = draw(st.integers(2, 5))
    labels = draw(arrays(int, st.integers(2, 30), elements=st.integers(0, classes - 1)))
    labels[:2] = 0, classes - 1
    shares = draw(arrays(float, (labels.size, classes), elements=st.integers(1, 4)))
    return shares / shares.sum(1, keepdims=True), labels


@given(multiclass())
def test_micro_auc_is_that_of_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    probability, labels = case
    if probability.shape[1] == 2:  # scikit-learn treats two columns as one binary label
        expected = roc_auc_score(np.eye(2)[labels].ravel(), probability.ravel())
    else:
        columns = range(probability.shape[1])
        expected = roc_auc_score(labels, probability, multi_class="ovr", average="micro", labels=columns)
    assert multiclass_auc(probability, labels) == pytest.approx(expected)


@pytest.mark.slow
@given(multiclass())
def test_macro_auc_is_that_of_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    probability, labels = case
    there = np.unique(labels)
    hits = np.eye(probability.shape[1])[labels]
    expected = np.mean([roc_auc_score(hits[:, c], probability[:, c]) for c in there])
    assert multiclass_auc(probability, labels, average="macro") == pytest.approx(expected)
    if there.size == probability.shape[1] > 2:
        by_sklearn = roc_auc_score(labels, probability, multi_class="ovr", average="macro")
        assert expected == pytest.approx(by_sklearn)


def test_macro_auc_of_one_class_is_undefined() -> None:
    assert math.isnan(multiclass_auc([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]], [2, 2], average="macro"))


def test_multiclass_interval_covers_the_truth() -> None:
    """The 2 images of each patient share most of their scores and may differ in class."""
    rng = np.random.default_rng(3)
    truth = 0.7602499389  # AUC of each class, normals one standard deviation apart: Phi(1 / sqrt(2))
    covered, naive, patients = 0, 0, np.repeat(np.arange(100), 2)
    for _ in range(400):
        labels = rng.integers(4, size=100)[patients]
        labels = np.where(rng.random(200) < 0.2, rng.integers(4, size=200), labels)
        shared = rng.normal(size=(100, 4))[patients]
        scores = np.sqrt(0.8) * shared + np.sqrt(0.2) * rng.normal(size=(200, 4)) + np.eye(4)[labels]
        by_patient = clustered_multiclass_auc(scores, labels, patients)
        by_image = clustered_multiclass_auc(scores, labels, np.arange(200))
        assert by_patient.value == multiclass_auc(scores, labels)
        covered += by_patient.low <= truth <= by_patient.high
        naive += by_image.low <= truth <= by_image.high
    assert 0.92 <= covered / 400 <= 0.98
    assert naive / 400 < 0.92


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
        "auc_macro": multiclass_auc(probability, labels, average="macro"),
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
    assert len(snapshot["row"]) == sum(len(batch[3]) for batch in batches)
    assert float(snapshot["loss"]) == sum(float(batch[0]) * len(batch[3]) for batch in batches)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_epoch_of_nothing_is_undefined() -> None:
    scores = EpochScores(num_classes=4)
    assert scores.gathered()[0].shape == (0, 4)
    assert all(math.isnan(value) for value in values(scores).values())
    assert not scores.state_dict()
