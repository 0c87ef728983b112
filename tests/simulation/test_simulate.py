"""The simulations that check the intervals, the combination of folds and the test of a difference."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.commands import command, next_of

from mammo.evaluation.statistics.weighted_metrics import BinaryMetrics, expit
from mammo.metrics import auc, clustered_auc, delong_auc
from mammo.simulation import studies
from mammo.simulation.designs import Design, draw, midway, true_metrics


def test_a_design_has_its_auc_and_its_correlation() -> None:
    scores, labels, woman = draw(Design(20_000, 8_000, 0.85, 0.7), np.random.default_rng(0), models=2)
    for model in range(2):
        assert auc(scores[:, model], labels) == pytest.approx(0.85, abs=0.005)
    benign = pd.DataFrame({"woman": woman, "score": scores[:, 0]})[labels == 0]
    pairs = (
        benign.groupby("woman")["score"]
        .apply(lambda s: tuple(s[:2]))
        .map(lambda p: p if len(p) == 2 else None)
    )
    first, second = np.array(pairs.dropna().tolist()).T
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(0.7, abs=0.02)
    assert scores[labels == 0].std() == pytest.approx(1, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("women", "malignant", "area"), [(100, 20, 0.95), (350, 35, 0.97), (60, 30, 0.6)])
def test_interval_covers_with_few_malignant_women(women: int, malignant: int, area: float) -> None:
    rng, design = np.random.default_rng(1), Design(women, malignant, area, 0.5)
    inside, usual = 0, 0
    for _ in range(500):
        scores, labels, woman = draw(design, rng)
        found = clustered_auc(scores[:, 0], labels, woman)
        inside += found.low <= area <= found.high
        delong = delong_auc(scores[:, 0], labels, woman)
        usual += delong.low <= area <= delong.high
    assert 0.915 <= inside / 500 <= 0.98
    assert usual <= inside + 10


def test_the_metrics_of_a_population_are_those_of_a_large_sample() -> None:
    design = Design(200_000, 60_000, 0.85, 0.5)
    scores, labels, _ = draw(design, np.random.default_rng(0))
    metrics = BinaryMetrics(expit(scores[:, 0] - midway(design)), labels, threshold=0.5)
    found = metrics.discrimination(np.ones((1, len(labels))))
    for name, true in true_metrics(design).items():
        assert found[name][0] == pytest.approx(true, abs=0.004), name


@pytest.mark.slow
def test_other_metrics_cover_more_than_by_the_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "_SETS", ((40, 20),))
    monkeypatch.setattr(studies, "_FEW", ())
    for row in studies.metric_coverage(replicates=200, seed=3):
        for name in ("average_precision", "partial_auc", "ppv", "npv", "accuracy", "f1"):
            assert row[name] >= 0.9, (name, row)
            assert row[name] >= row[f"{name} bootstrap"] - 0.02, (name, row)


@pytest.mark.slow
def test_folds_are_combined_without_bias_and_labels_would_inflate_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(studies, "_FOLD_SETS", ((100, 0.4),))
    (row,) = studies.fold_bias(replicates=400, seed=2)
    for name in ("mean of folds", "pooled ranks"):
        assert row[name] == pytest.approx(0.5, abs=4 * row["error of the means"])
    assert row["calibrated on its labels"] > 0.55
    assert row["lower bound above 0.5"] <= 0.05


@pytest.mark.slow
def test_a_comparison_of_equal_models_is_seldom_significant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "_SETS", ((350, 35),))
    monkeypatch.setattr(studies, "_FEW", ())
    for row in studies.comparison_error(replicates=400, seed=3):
        assert row["paired t"] <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_command_writes_its_table(tmp_path: Path) -> None:
    ended = command("simulate", "study=folds", "replicates=1", "output=folds.csv", folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "1 replicates" in ended.stdout
    assert [each[0] for each in next_of(ended.stdout)] == ["mammo.simulate", "mammo.simulate"]
    assert pd.read_csv(tmp_path / "folds.csv")["women"].tolist() == [60, 100, 350, 350]
    refused = command("simulate", "replicates=0", folder=tmp_path)
    assert (refused.returncode, refused.stderr) == (1, "error: replicates=0: must be at least 1\n")
