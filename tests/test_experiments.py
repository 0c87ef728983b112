"""Every experiment of `conf/experiment`, on small phantoms."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
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


SMALL = [
    "data=phantom", "data.patients=24", "data.film_scale=2", "data.height=80", "data.width=80",
    "data.sample=[8,4,2]", "trainer.max_epochs=1", "report=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def runs(place: Path) -> dict[str, Path]:
    """Each experiment of the study, trained to its end."""
    for name in sorted(STUDY):
        # there is no network to download weights from
        offline = [] if "custom" in name else ["model.pretrained=false"]
        result = command("train", f"experiment={name}", *SMALL, *offline, f"run_dir={name}", folder=place)
        assert result.returncode == 0, result.stderr
    return {name: place / name for name in STUDY}


def test_the_studys_experiments_are_all_there() -> None:
    assert set(EXPERIMENTS) >= STUDY


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(STUDY))
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


@pytest.mark.slow
def test_whole_images_start_from_patches_and_learn_where_the_lesions_are(place: Path) -> None:
    def train(name: str, *more: str) -> str:
        result = command("train", f"experiment={name}", *SMALL, *more, f"run_dir={name}", folder=place)
        assert result.returncode == 0, result.stderr
        return result.stderr

    missing = command("train", "experiment=whole_from_patches", *SMALL, folder=place)
    assert missing.returncode == 1
    assert missing.stderr.startswith("error: model.weights=runs/patches: no such file, nor a run")
    assert len(missing.stderr.splitlines()) == 1
    train("plain")
    train("patches", "data.patch.size=48")
    said = train("whole_from_patches", "model.weights=patches", "data.batch_masks=true")
    # all but the scale of the map, which the classifier of patches has not
    assert "; not: scale (not in the file)" in said
    # the patients of the patches are known, so that no run scores them as new
    pretrained, trained = (
        set((place / name / "split" / f"{side}.txt").read_text().split())
        for name, side in (("whole_from_patches", "pretrained"), ("patches", "train"))
    )
    assert pretrained >= trained
    others = ["data.split=kfold", "data.folds=2", "data.sample=null"]
    weights = "model.weights=whole_from_patches"
    leak = command("train", "experiment=two_views_from_whole", *SMALL, *others, weights, folder=place)
    assert leak.returncode == 1
    assert re.search(
        r"^error: model\.weights=whole_from_patches: \d+ of the \d+ validation images are of \d+ patients "
        r"that these weights were trained on; give the data\.split, .* of that run, or other weights$",
        leak.stderr.splitlines()[-1],
    )
    train("two_views_from_whole", weights)
    assert set((place / "two_views_from_whole/split/pretrained.txt").read_text().split()) == pretrained
    curves = pd.read_csv(place / "whole_from_patches" / "metrics.csv")
    terms = curves["train/loss_cross_entropy"] + curves["train/loss_cells"]
    assert curves["train/loss"].to_numpy() == pytest.approx(terms.to_numpy(), abs=1e-5)
    weights = [
        torch.load(place / name / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
        for name in ("patches", "whole_from_patches")
    ]
    for name, tensor in weights[0].items():
        if "running" in name:
            assert torch.equal(tensor, weights[1][name.replace("network.", "network.network.", 1)])


@pytest.mark.slow
def test_whole_images_start_from_the_patches_of_shen(place: Path) -> None:
    small = [*SMALL, "data.sample=null", "data.batch_size=8"]
    patches = ["data.patch.size=48", "data.patch.per_lesion=1", "data.patch.per_image=1"]
    for choices in (
        ["experiment=shen2019_patches", *patches, "model.pretrained=false", "run_dir=first"],
        ["experiment=shen2019", "model.weights=first"],
    ):
        then = command("train", *choices, *small, folder=place)
        assert then.returncode == 0, then.stderr
    # all of ResNet-50 but its classifier, which the blocks replace
    assert "318 of 368 tensors matched; not: blocks.0." in then.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "choices",
    [
        ["experiment=mil", "model.head.crop=32", "data.batch_size=4"],
        ["experiment=petrini2025", "data.batch_size=4", "model.name=efficientnet_lite0"],
        ["experiment=rsna2023", "model.name=test_convnext"],
    ],
    ids=lambda choices: choices[0],
)
def test_published_recipe_runs_to_its_end(choices: list[str], place: Path) -> None:
    result = command("train", *choices, *SMALL, "model.pretrained=false", folder=place)
    assert result.returncode == 0, result.stderr


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
