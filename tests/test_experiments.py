"""Every experiment of `conf/experiment`, on small phantoms."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from helpers.commands import REPOSITORY, command

from mammo.config.instantiation import part_name
from mammo.data.sources.reader import source_name

EXPERIMENTS = sorted(
    file.stem for file in (REPOSITORY / "conf" / "experiment").glob("*.yaml") if not file.name.startswith("_")
)
STUDY = {
    f"study2019_{name}"
    for name in (
        "resnet18", "resnet34", "resnet50", "inception_resnet_v2", "custom_cnn", "custom_cnn_prelu",
        "resnet18_4class", "custom_cnn_4class", "inception_resnet_v2_4class",
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(place: Path) -> dict[str, Path]:
    """Each experiment, trained to its end."""
    small = ["data=phantom", "data.patients=24", "data.film_scale=2", "data.height=80", "data.width=80"]
    small += ["data.sample=[8,4,2]", "trainer.max_epochs=1", "report=false"]
    for name in EXPERIMENTS:
        # there is no network to download weights from
        offline = [] if "custom" in name else ["model.pretrained=false"]
        result = command("train", f"experiment={name}", *small, *offline, f"run_dir={name}", folder=place)
        assert result.returncode == 0, result.stderr
    return {name: place / name for name in EXPERIMENTS}


def test_the_studys_experiments_are_all_there() -> None:
    assert set(EXPERIMENTS) >= STUDY


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_runs_to_its_end(name: str, runs: dict[str, Path]) -> None:
    facts = json.loads((runs[name] / "run.json").read_text())
    config = yaml.safe_load((runs[name] / "config.yaml").read_text())
    assert facts["status"] == "finished"
    assert facts["epochs"] == 1
    assert config["name"] == name
    predictions = pd.read_csv(runs[name] / "evaluation" / "val" / "predictions.csv")
    scores = predictions.filter(like="score_")
    assert len(predictions) == 4
    assert scores.shape[1] == (4 if config["task"]["name"] == "lesion_type_pathology" else 2)
    assert scores.sum(axis=1).to_numpy() == pytest.approx(1.0, abs=1e-5)
    curves = pd.read_csv(runs[name] / "metrics.csv")
    assert ("val/auc_micro" in curves) == (scores.shape[1] == 4)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_opens_with_its_command(name: str) -> None:
    first, second, *_ = (REPOSITORY / "conf" / "experiment" / f"{name}.yaml").read_text().splitlines()
    assert first == "# @package _global_"
    assert second.startswith(f"# python train.py experiment={name} ")


@pytest.mark.parametrize("name", sorted(STUDY))
def test_study_is_as_it_was_described(name: str, tmp_path: Path) -> None:
    """Model, task and common settings are those of the study."""
    shown = command("train", f"experiment={name}", "data.root=x", "--cfg", "job", folder=tmp_path)
    config = yaml.safe_load(shown.stdout)
    four = "4class" in name or "prelu" in name
    model = name.removeprefix("study2019_").removesuffix("_4class").removesuffix("_prelu")
    assert part_name(config["model"]) == ("CustomCNN" if model == "custom_cnn" else model)
    assert config["task"]["name"] == ("lesion_type_pathology" if four else "pathology")
    assert config["model"].get("pretrained", False) == (model != "custom_cnn")
    assert (source_name(config["data"]), config["data"]["split"], config["data"]["sample"]) == (
        "cbis_ddsm", "random", None,
    )  # fmt: skip
    assert (part_name(config["optim"]), part_name(config["schedule"])) == ("Adam", "step")
    assert (config["data"]["normalisation"], config["data"]["crop"]) == ("none", "none")
