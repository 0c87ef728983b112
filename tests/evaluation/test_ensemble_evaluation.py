"""How the AUC varies between runs on the same images."""

import json

import numpy as np
import pytest
from helpers.cohorts import predictions

from mammo.evaluation.ensemble_evaluation import describe_runs
from mammo.evaluation.predictions import Predictions
from mammo.evaluation.statistics.weighted_metrics import expit, logit
from mammo.metrics import clustered_auc

MADE = predictions(np.random.default_rng(0), patients=200)


def seeds(count: int, *, noise: float) -> list[Predictions]:
    """Scores of one network and noise of training for each seed."""
    rng = np.random.default_rng(1)
    given = []
    for _ in range(count):
        malignant = expit(logit(MADE.malignancy) + noise * rng.normal(size=len(MADE.samples)))
        given.append(MADE.with_scores(np.stack([1 - malignant, malignant], axis=1)))
    return given


def test_seeds_of_one_setting_have_a_mean_and_a_spread() -> None:
    given = seeds(4, noise=1.0)
    configs = [{"seed": seed, "name": f"run{seed}", "optim": {"lr": 0.1}} for seed in range(4)]
    found = describe_runs(given, configs)
    areas = [clustered_auc(run.malignancy, run.malignant, run.patients) for run in given]
    values = [area.value for area in areas]
    assert found["mean"] == pytest.approx(np.mean(values))
    assert found["sd"] == pytest.approx(np.std(values, ddof=1))
    assert [area["low"] for area in found["auc"]] == [area.low for area in areas]
    error = np.mean([area.standard_error**2 for area in areas])
    assert found["training_share"] == pytest.approx(found["sd"] ** 2 / (found["sd"] ** 2 + error))
    assert found["differ"] == []
    assert f"{found['mean']:.3f} on average" in found["notes"][0]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_noise_of_training_raises_its_share() -> None:
    configs = [{"seed": seed} for seed in range(4)]
    little, much = (describe_runs(seeds(4, noise=n), configs)["training_share"] for n in (0.05, 2.0))
    assert little < 0.05 < much < 1


def test_runs_of_different_settings_are_no_repetition() -> None:
    found = describe_runs(
        seeds(2, noise=1.0), [{"seed": 0, "optim": {"lr": 0.1}}, {"seed": 1, "optim": {"lr": 1}}]
    )
    assert found["differ"] == ["optim.lr"]
    assert found["training_share"] is None
    assert found["notes"] == []


def test_images_of_one_class_have_no_spread() -> None:
    benign = [run.take(run.malignant == 0) for run in seeds(2, noise=1.0)]
    found = describe_runs(benign, [{"seed": 0}, {"seed": 1}])
    assert (found["mean"], found["sd"], found["training_share"], found["notes"]) == (None, None, None, [])
