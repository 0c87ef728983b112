"""`python sweep.py sweep=study2019` with two short searches on phantoms."""

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from helpers.commands import command

SMALL = (
    "model=custom_cnn", "data=phantom", "data.patients=60", "data.height=64", "data.width=48",
    "trainer.max_epochs=5",
)  # fmt: skip
STUDY = (
    "sweep=study2019", "sweep_dir=study", "sweep.searches=[lr,seeds]", "sweep.trials=2",
    'sweep.train=["trainer.max_epochs=8"]', "sweep.stale_seconds=6",
)  # fmt: skip


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return command("sweep", *STUDY, *SMALL, *arguments, folder=folder)


def finished(folder: Path) -> dict[Path, str]:
    """Maps each finished run to its start time."""
    facts = {path: json.loads(path.read_text()) for path in (folder / "study").glob("*/*/trials/*/run.json")}
    return {path: fact["started"] for path, fact in facts.items() if fact["status"] == "finished"}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Path:
    folder = tmp_path_factory.mktemp("study")
    (folder / "cache").symlink_to(shared_cache)
    early = run(folder, "phase=train")
    assert early.returncode == 1
    assert "error: phase=train: phase tune has no finished trial; give phase=tune first" in early.stderr
    tuned = run(folder, "phase=tune")
    assert tuned.returncode == 0, tuned.stderr
    assert {path.parts[-5] for path in finished(folder)} == {"tune"}
    whole = run(folder)
    assert whole.returncode == 0, whole.stderr
    return folder


@pytest.mark.slow
def test_each_network_is_tuned_trained_and_tested_and_stands_in_one_table(study: Path) -> None:
    table = pd.read_csv(study / "study" / "study.csv").set_index("network")
    assert table.index.tolist() == ["lr", "seeds"]
    for name, row in table.iterrows():
        tried = pd.read_csv(study / "study" / "tune" / str(name) / "leaderboard.csv")
        assert row["tuned_auc"] == pytest.approx(tried["value"].max())
        trained = study / "study" / "train" / str(name) / "trials" / "0000"
        facts = json.loads((trained / "run.json").read_text())
        assert row["validation_auc"] == facts["score"]["value"]
        assert facts["epochs"] == 8  # set by sweep.train
        assert set(row["settings"].split()) <= set(facts["overrides"])
        metrics = json.loads((trained / "evaluation" / "test" / "metrics.json").read_text())
        assert row["test_auc"] == metrics["image"]["auc"]["value"]
        assert row["test_auc_low"] < row["test_auc"] < row["test_auc_high"]
        assert (trained / "evaluation" / "test" / "report.html").exists()
    compared = json.loads((study / "study" / "comparison.json").read_text())
    assert [model["name"] for model in compared["models"]] == ["lr", "seeds"]
    assert (study / "study" / "compare.html").exists()


@pytest.mark.slow
def test_what_is_finished_is_not_done_again_and_a_phase_can_be_alone(study: Path) -> None:
    before = finished(study)
    (study / "study" / "comparison.json").unlink()
    again = run(study, "phase=compare")
    assert again.returncode == 0, again.stderr
    assert "0 workers started" in again.stderr
    assert (study / "study" / "comparison.json").exists()
    assert finished(study) == before


@pytest.mark.slow
def test_another_study_in_the_folder_is_refused(study: Path) -> None:
    other = run(study, "optim=sgd")
    assert other.returncode == 1
    assert "the study began with overrides" in other.stderr
    assert "optim=sgd" in other.stderr
