"""Metrics of tasks without a positive class."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.cohorts import table
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from mammo.errors import ConfigError, DataError
from mammo.evaluation.predictions import Predictions
from mammo.evaluation.statistics.class_performance import kappa_estimate
from mammo.evaluation.statistics.comparison import compare, comparison_table
from mammo.evaluation.statistics.performance import measure_performance, performance_table


def graded(seed: int, *, patients: int = 80, signal: float = 1.2, task: str = "density") -> Predictions:
    """Two images of each patient, with the same class."""
    rng = np.random.default_rng(7)
    labels = np.repeat(rng.integers(4, size=patients), 2)
    names = np.char.mod("P_%05d", np.repeat(np.arange(patients), 2))
    noise = np.random.default_rng(seed).normal(size=(2 * patients, 4))
    powers = np.exp(noise - signal * np.abs(np.arange(4) - labels[:, None]))
    return table(
        names, labels, powers / powers.sum(axis=1, keepdims=True), rng, task=task, source=f"run {seed}"
    )


def test_the_metrics_are_those_of_scikit_learn() -> None:
    made = graded(1)
    found = measure_performance(made, calibration=None)["multiclass"]
    called = made.scores.argmax(axis=1)
    assert found["accuracy"]["value"] == pytest.approx((called == made.labels).mean())
    assert found["kappa"]["value"] == pytest.approx(
        cohen_kappa_score(made.labels, called, weights="quadratic")
    )
    macro = roc_auc_score(made.labels, made.scores, multi_class="ovr", average="macro")
    assert found["auc_macro"]["value"] == pytest.approx(macro)
    assert found["auc_B"]["value"] == pytest.approx(roc_auc_score(made.labels == 1, made.scores[:, 1]))
    assert np.sum(found["confusion"]) == len(called)
    for name in ("accuracy", "kappa", "auc_macro", "auc_A"):
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]


def test_only_an_ordered_task_has_kappa() -> None:
    made = graded(1)
    unordered = replace(made, task=replace(made.task, ordered=False))
    assert "kappa" not in measure_performance(unordered, calibration=None)["multiclass"]
    printed = performance_table(measure_performance(made, calibration=None))
    assert "Quadratic weighted kappa" in printed
    assert "malignant" not in printed


def test_the_interval_of_kappa_covers_and_respects_the_patients() -> None:
    """The true value is that of very many images; two equal images of a patient count as one."""

    def drawn(rng: np.random.Generator, patients: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(4, size=patients)
        called = np.clip(labels + rng.choice([-1, 0, 0, 0, 1], size=patients), 0, 3)
        return labels, called

    truth = cohen_kappa_score(*drawn(np.random.default_rng(0), 200_000), weights="quadratic")
    covered = 0
    for seed in range(200):
        labels, called = drawn(np.random.default_rng(100 + seed), 60)
        once = kappa_estimate(labels, called, np.arange(60).astype(str))
        covered += once.low <= truth <= once.high
        if seed == 0:
            twice = kappa_estimate(
                np.tile(labels, 2), np.tile(called, 2), np.tile(np.arange(60), 2).astype(str)
            )
            assert (twice.low, twice.high) == pytest.approx((once.low, once.high), abs=1e-9)
    assert 0.90 <= covered / 200 <= 0.99


def test_runs_are_compared_by_their_macro_auc() -> None:
    good, poor = graded(1), graded(2, signal=0.3)
    found = compare({"good": good, "poor": poor})
    areas = [roc_auc_score(run.labels, run.scores, multi_class="ovr") for run in (good, poor)]
    pair = found["pairs"][0]
    assert pair["difference"]["value"] == pytest.approx(areas[0] - areas[1])
    assert pair["p"] < 0.001
    assert compare({"a": good, "b": good})["pairs"][0]["p"] == 1
    assert "AUC by image: 160 images of 80 patients" in comparison_table(found)
    with pytest.raises(ConfigError, match="unit=breast: the task density has no positive class"):
        compare({"good": good, "poor": poor}, unit="breast")
    with pytest.raises(DataError, match="run 1 and run 2 have different classes"):
        compare({"a": good, "b": graded(2, task="lesion_type_pathology")})


@pytest.mark.slow
def test_the_test_of_macro_aucs_keeps_its_level() -> None:
    equal = [
        compare({"a": graded(seed, patients=40), "b": graded(seed + 500, patients=40)}) for seed in range(120)
    ]
    assert np.mean([found["pairs"][0]["p"] < 0.05 for found in equal]) <= 0.1
