"""A classifier of patches by the real commands: trained, evaluated, and refused for whole images."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.commands import command

SMALL = [
    "data.sample_unit=patch", "data.patch.size=[40,32]", "data.patch.per_lesion=4", "data.patch.per_image=4",
    "data.patients=20", "data.height=128", "data.width=96", "data.batch_size=24", "model=custom_cnn",
    "trainer=cpu", "trainer.max_epochs=3", "report=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    done = command("train", *SMALL, "task=patch_lesion_type_pathology", "run_dir=run", folder=place)
    assert done.returncode == 0, done.stderr
    assert "training and" in done.stderr
    assert "validation patches" in done.stderr
    return place / "run"


@pytest.mark.slow
def test_patches_are_scored_one_a_row(run: Path) -> None:
    table = pd.read_csv(run / "evaluation" / "val" / "predictions.csv")
    assert set(table["unit"]) == {"patch"}
    assert table["sample_id"].is_unique
    background = (table["label"] == "BACKGROUND").to_numpy()
    scores = table.filter(regex="^score_").to_numpy()
    assert scores.shape == (len(table), 5)
    # what the network has to learn first: a lesion or none
    assert np.mean(scores[background, 0]) > np.mean(scores[~background, 0])
    epochs = pd.read_csv(run / "metrics.csv")
    assert epochs["train/loss"].iloc[-1] < epochs["train/loss"].iloc[0]


@pytest.mark.slow
def test_patches_are_evaluated_with_a_report_and_without_heat(run: Path) -> None:
    done = command("evaluate", "run=run", "split=val", "resamples=20", folder=run.parent)
    assert done.returncode == 0, done.stderr
    evaluation = run / "evaluation" / "val"
    metrics = json.loads((evaluation / "metrics.json").read_text())
    assert metrics["n"]["patches"] == len(pd.read_csv(evaluation / "predictions.csv"))
    assert "localisation" not in metrics
    assert "BACKGROUND" in (evaluation / "report.html").read_text()
    assert not (evaluation / "heatmaps").exists()


MARGINS = """\
name: margins
column: mass_margins
classes: {NONE: none, SMOOTH: [CIRCUMSCRIBED, OBSCURED], SPICULATED: [SPICULATED, ILL_DEFINED-SPICULATED]}
positive: [SPICULATED]
background: NONE
unlabelled: leave_out  # calcifications have no margins
"""


@pytest.mark.slow
def test_classes_of_a_column_of_the_lesions(place: Path) -> None:
    (place / "own" / "task").mkdir(parents=True)
    (place / "own" / "task" / "margins.yaml").write_text(MARGINS)
    options = ["--config-dir=own", "task=margins", "run_dir=margins", "data.val_fraction=0.4"]
    done = command("train", *SMALL, *options, folder=place)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(place / "margins" / "evaluation" / "val" / "predictions.csv")
    assert set(table["label"]) == {"NONE", "SMOOTH", "SPICULATED"}


@pytest.mark.slow
def test_hard_negatives_of_a_run(run: Path) -> None:
    more = [*SMALL, "task=patch_pathology", "data.patch.hard_negatives=run", "run_dir=mined"]
    first = command("train", *more, "data.height=96", folder=run.parent)
    assert first.returncode == 1
    assert "data.patch.hard_negatives=run: was trained with data.height=128; give that too" in first.stderr
    done = command("train", *more, folder=run.parent)
    assert done.returncode == 0, done.stderr
    assert json.loads((run.parent / "mined" / "run.json").read_text())["status"] == "finished"


@pytest.mark.slow
def test_hard_negatives_of_a_run_with_a_map(run: Path) -> None:
    """The map of a run of whole images, which starts from the patches."""
    images = [key for key in SMALL if "patch" not in key] + ["trainer.max_epochs=1"]
    images += ["model=timm", "model.name=test_resnet"]
    for head in ("global", "patch_map"):
        given = [*images, f"model/head={head}", f"run_dir={head}"]
        done = command("train", *given, folder=run.parent)
        assert done.returncode == 0, done.stderr
    more = [*SMALL, "task=patch_pathology", "trainer.max_epochs=1"]
    refused = command("train", *more, "data.patch.hard_negatives=global", folder=run.parent)
    assert refused.returncode == 1
    assert "data.patch.hard_negatives=global: is neither a run of patches nor one of" in refused.stderr
    done = command("train", *more, "data.patch.hard_negatives=patch_map", folder=run.parent)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_whole_images_are_refused(run: Path) -> None:
    done = command("predict", "run=run", "input=cache", "output=scores.csv", folder=run.parent)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "error: run=run: scores patches of images, not whole images"
    )
    assert not (run.parent / "scores.csv").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mistakes", "sentence"),
    [
        (["task=pathology"], "data.sample_unit=patch: task=pathology has no class for patches without"),
        (["data.patch.hard_negatives=no"], "data.patch.hard_negatives=no: no run with checkpoints/best.ckpt"),
        (["data.patch.size=130"], "data.patch.size=130 x 130: is larger than the images, data.height=128"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(place: Path, mistakes: list[str], sentence: str) -> None:
    done = command("train", "task=patch_pathology", *SMALL, *mistakes, folder=place)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {sentence}")
