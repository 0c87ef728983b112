"""Scores equal scikit-learn, torchmetrics and hand calculations; weights equal repetition."""

import math
import warnings

import numpy as np
import pytest
import sklearn.metrics as reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.linear_model import LogisticRegression
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_calibration_error,
    binary_sensitivity_at_specificity,
    binary_specificity_at_sensitivity,
)

from mammo.evaluation.statistics.weighted_metrics import (
    AucOnly,
    BinaryMetrics,
    MulticlassMetrics,
    expit,
    logistic_fit,
    logit,
)
from mammo.metrics import multiclass_auc

THRESHOLD = 0.5


@st.composite
def weighted(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (with ties, none at the edge of a bin), labels, and three rows of weights for both classes."""
    count = draw(st.integers(2, 25))
    labels = draw(arrays(int, count, elements=st.integers(0, 1)))
    labels[:2] = 0, 1
    scores = (2 * draw(arrays(int, count, elements=st.integers(0, 10))) + 1) / 22
    weights = draw(arrays(float, (3, count), elements=st.integers(0, 3)))
    weights[:, :2] += 1
    return scores, labels, weights


def plain(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The scores of unweighted images by scikit-learn and torchmetrics."""
    called = scores >= THRESHOLD
    preds, target = torch.from_numpy(scores), torch.from_numpy(labels)
    return {
        "auc": reference.roc_auc_score(labels, scores),
        "partial_auc": reference.roc_auc_score(labels, scores, max_fpr=0.2),
        "average_precision": reference.average_precision_score(labels, scores),
        "accuracy": reference.accuracy_score(labels, called),
        "balanced_accuracy": reference.balanced_accuracy_score(labels, called),
        "sensitivity": reference.recall_score(labels, called),
        "specificity": reference.recall_score(labels, called, pos_label=0),
        "f1": reference.f1_score(labels, called),
        **decided(scores, labels),
        "brier": reference.brier_score_loss(labels, scores),
        "ece": float(binary_calibration_error(preds, target, n_bins=15)),
        **{
            f"sensitivity_at_{goal}_specificity": best(scores, labels, least_specificity=goal)
            for goal in (80, 90)
        },
        **{
            f"specificity_at_{goal}_sensitivity": best(-scores, 1 - labels, least_specificity=goal)
            for goal in (80, 90)
        },
    }


def decided(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Predictive values and likelihood ratios by scikit-learn, NaN where it has no value."""
    called = (scores >= THRESHOLD).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        positive, negative = reference.class_likelihood_ratios(labels, called)
    return {
        "ppv": reference.precision_score(labels, called, zero_division=np.nan),
        "npv": reference.precision_score(labels, called, pos_label=0, zero_division=np.nan),
        "positive_likelihood_ratio": positive,
        "negative_likelihood_ratio": negative,
    }


def best(scores: np.ndarray, labels: np.ndarray, *, least_specificity: int) -> float:
    """Highest sensitivity over all thresholds with at least this specificity (whole percent)."""
    negatives = int((labels == 0).sum())
    found = 0.0
    for threshold in np.unique(scores):
        called = scores >= threshold
        if 100 * int((~called & (labels == 0)).sum()) >= least_specificity * negatives:
            found = max(found, float(called[labels == 1].mean()))
    return found


@pytest.mark.slow
@given(weighted())
@settings(max_examples=60)
def test_weights_are_repetitions(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    scores, labels, weights = case
    found = BinaryMetrics(scores, labels, threshold=THRESHOLD)(weights)
    for row, weight in enumerate(weights.astype(int)):
        for name, expected in plain(np.repeat(scores, weight), np.repeat(labels, weight)).items():
            assert found[name][row] == pytest.approx(expected, abs=1e-6, nan_ok=True), name


def test_scores_of_many_images_are_those_of_the_references() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=613)
    scores = expit(rng.normal(size=613) + labels)
    found = BinaryMetrics(scores, labels, threshold=THRESHOLD)(np.ones((1, 613)))
    for name, expected in plain(scores, labels).items():
        assert found[name][0] == pytest.approx(expected, abs=1e-6), name
    preds, target = torch.from_numpy(scores), torch.from_numpy(labels)
    assert found["partial_auc"][0] == pytest.approx(float(binary_auroc(preds, target, max_fpr=0.2)), abs=1e-5)
    for goal in (0.8, 0.9):
        sensitivity, _ = binary_sensitivity_at_specificity(preds, target, min_specificity=goal)
        specificity, _ = binary_specificity_at_sensitivity(preds, target, min_sensitivity=goal)
        name = f"{goal * 100:.0f}"
        assert found[f"sensitivity_at_{name}_specificity"][0] == pytest.approx(float(sensitivity), abs=1e-6)
        assert found[f"specificity_at_{name}_sensitivity"][0] == pytest.approx(float(specificity), abs=1e-6)


def test_a_case_worked_by_hand() -> None:
    """One of the six pairs is in the wrong order; at 0.5 one benign image is classified as malignant."""
    scores, labels = np.array([0.9, 0.81, 0.6, 0.4, 0.2]), np.array([1, 0, 1, 0, 0])
    found = BinaryMetrics(scores, labels, threshold=0.5)(np.ones((1, 5)))
    expected = {
        "auc": 5 / 6,
        # the area up to a false positive rate of 0.2 is 0.1; that of chance is 0.02
        "partial_auc": 0.5 * (1 + (0.1 - 0.02) / (0.2 - 0.02)),
        "average_precision": 1 / 2 * 1 + 1 / 2 * 2 / 3,
        "sensitivity_at_80_specificity": 1 / 2,
        "sensitivity_at_90_specificity": 1 / 2,
        "specificity_at_80_sensitivity": 2 / 3,
        "specificity_at_90_sensitivity": 2 / 3,
        "accuracy": 4 / 5,
        "balanced_accuracy": (1 + 2 / 3) / 2,
        "sensitivity": 1,
        "specificity": 2 / 3,
        "f1": 2 * 2 / (2 * 2 + 1 + 0),
        "ppv": 2 / 3,
        "npv": 1,
        "positive_likelihood_ratio": 1 / (1 / 3),
        "negative_likelihood_ratio": 0,
        "brier": (0.01 + 0.6561 + 0.16 + 0.16 + 0.04) / 5,
        "ece": (0.1 + 0.81 + 0.4 + 0.4 + 0.2) / 5,  # each image in a bin of its own
    }
    assert {name: found[name][0] for name in expected} == pytest.approx(expected)


def test_the_last_bin_holds_one_and_a_bin_its_lower_edge() -> None:
    scores, labels = np.array([1.0, 14 / 15, 0.9]), np.array([0, 1, 1])
    found = BinaryMetrics(scores, labels)(np.ones((1, 3)))["ece"][0]
    assert found == pytest.approx((1 - 1 / 15 + 0.1) / 3)


def test_calibration_of_two_scores_by_hand() -> None:
    """The log odds are 0 at the score 0.25 and log 3 at 0.75, which halves the slope; weights restore it."""
    scores, labels = np.array([0.25] * 2 + [0.75] * 4), np.array([0, 1, 0, 1, 1, 1])
    found = BinaryMetrics(scores, labels)(np.array([[1.0] * 6, [3, 1, 1, 1, 1, 1]]))
    assert found["calibration_slope"] == pytest.approx([0.5, 1])


def test_calibration_is_logistic_regression() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(2, size=150)
    scores = expit(3 * rng.normal(size=150) + 2 * labels + 1)
    scores[:3] = 0, 1, 1e-30  # clipped to 1e-7 and 1 - 1e-7
    weights = rng.integers(0, 4, size=(8, 150)).astype(float)
    found = BinaryMetrics(scores, labels, calibrated=expit(0.5 * logit(scores) - 1))(weights)
    for row, weight in enumerate(weights):
        model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(logit(scores)[:, None], labels, sample_weight=weight)
        slope = float(model.coef_[0, 0])
        assert found["calibration_slope"][row] == pytest.approx(slope, abs=1e-4)
        assert found["calibration_slope_calibrated"][row] == pytest.approx(slope / 0.5, abs=1e-3)


@pytest.mark.parametrize(
    ("predictor", "target"),
    [
        ([-1, -1, 1, 1], [0, 0, 1, 1]),  # separated
        ([-1, 0, 0, 1], [0, 0, 1, 1]),  # separated except for a tie
        ([1, 1, 1, 1], [0, 1, 0, 1]),
        ([-1, 0, 1, 2], [0, 0, 0, 0]),
    ],
)
def test_a_logistic_regression_without_solution_is_undefined(
    predictor: list[float], target: list[float]
) -> None:
    fitted = logistic_fit(np.array(predictor, float), np.array(target, float), np.ones((2, 4)))
    assert np.isnan(fitted).all()


def test_a_resample_without_solution_leaves_the_others_alone() -> None:
    predictor, target = np.array([-1.0, 0, 1, 2]), np.array([0.0, 1, 0, 1])
    slopes, _ = logistic_fit(predictor, target, np.array([[1.0, 1, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]]))
    assert np.isnan(slopes).tolist() == [False, True, False]
    assert slopes[0] == slopes[2]


RANKS = ["auc", "partial_auc", "average_precision", "sensitivity_at_80_specificity"]
RANKS += ["sensitivity_at_90_specificity", "specificity_at_80_sensitivity", "specificity_at_90_sensitivity"]


@given(weighted())
def test_ranks_alone_decide(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    scores, labels, weights = case
    found = BinaryMetrics(scores, labels)(weights)
    moved = BinaryMetrics(expit(4 * scores**3 - 1), labels)(weights)
    for name in RANKS:
        assert np.array_equal(found[name], moved[name]), name


@given(weighted(), st.randoms())
def test_the_order_of_the_rows_changes_nothing(case: tuple[np.ndarray, ...], random) -> None:
    scores, labels, weights = case
    order = list(range(len(scores)))
    random.shuffle(order)
    found = BinaryMetrics(scores, labels, threshold=THRESHOLD)(weights)
    moved = BinaryMetrics(scores[order], labels[order], threshold=THRESHOLD)(weights[:, order])
    for name, values in found.items():
        if not name.startswith("calibration"):
            assert moved[name] == pytest.approx(values, abs=1e-12, nan_ok=True), name


@pytest.mark.parametrize("label", [0, 1])
def test_of_one_class_what_compares_is_undefined(label: int) -> None:
    scores, labels = np.array([0.2, 0.6, 0.7]), np.full(3, label)
    found = BinaryMetrics(scores, labels, threshold=0.5)(np.ones((2, 3)))
    undefined = {name for name, values in found.items() if np.isnan(values).all()}
    one_sided = {"specificity"} if label else {"sensitivity"}
    assert undefined == {
        *RANKS,
        *one_sided,
        "balanced_accuracy",
        "positive_likelihood_ratio",
        "negative_likelihood_ratio",
        "calibration_slope",
    }
    assert found["accuracy"].tolist() == pytest.approx([2 / 3 if label else 1 / 3] * 2)


def test_without_threshold_decisions_are_undefined() -> None:
    found = BinaryMetrics(np.array([0.2, 0.6]), np.array([0, 1]))(np.ones((1, 2)))
    assert all(math.isnan(found[name][0]) for name in ("accuracy", "sensitivity", "specificity", "f1"))


def test_auc_alone_of_several_models() -> None:
    rng = np.random.default_rng(2)
    labels, weights = rng.integers(2, size=50), rng.integers(0, 3, size=(4, 50)).astype(float)
    models = {"a": rng.random(50), "b": rng.random(50)}
    found = AucOnly(models, labels)(weights)
    for name, scores in models.items():
        assert np.array_equal(found[name], BinaryMetrics(scores, labels)(weights)["auc"])


@st.composite
def multiclass(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count = draw(st.integers(4, 20))
    labels = draw(arrays(int, count, elements=st.integers(0, 3)))
    labels[:2] = 0, 3
    shares = draw(arrays(float, (count, 4), elements=st.integers(1, 4)))
    weights = draw(arrays(float, (2, count), elements=st.integers(0, 3)))
    weights[:, :2] += 1
    return shares / shares.sum(1, keepdims=True), labels, weights


@given(multiclass())
def test_four_classes_with_weights_are_repetitions(case: tuple[np.ndarray, ...]) -> None:
    scores, labels, weights = case
    found = MulticlassMetrics(scores, labels, tuple("abcd"))(weights)
    for row, weight in enumerate(weights.astype(int)):
        repeated, classes = np.repeat(scores, weight, axis=0), np.repeat(labels, weight)
        for average in ("micro", "macro"):
            expected = multiclass_auc(repeated, classes, average=average)
            assert found[f"auc_{average}"][row] == pytest.approx(expected)
        assert found["accuracy"][row] == pytest.approx((repeated.argmax(1) == classes).mean())
        assert found["auc_a"][row] == pytest.approx(reference.roc_auc_score(classes == 0, repeated[:, 0]))
