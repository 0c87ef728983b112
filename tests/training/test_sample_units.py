"""Trainings and evaluations of breasts and exams from the user's side."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.commands import command
from sklearn.metrics import roc_auc_score

from mammo.data.store.store import Store

SMALL = [
    "data.patients=40", "data.height=64", "data.width=48", "data.film_scale=2", "data.batch_size=8",
    "model=custom_cnn", "trainer.max_epochs=2", "trainer.precision=32-true",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(place: Path) -> Callable[..., Path]:
    def run(*choices: str) -> Path:
        folder = place / "_".join(choices).replace("=", "-")
        if not folder.exists():
            done = command("train", *SMALL, *choices, f"run_dir={folder}", folder=place)
            assert done.returncode == 0, done.stderr
            assert "not written" not in done.stderr, done.stderr
        return folder

    return run


@pytest.mark.slow
@pytest.mark.parametrize(("unit", "fusion"), [("breast", "mean"), ("exam", "attention")])
def test_the_table_has_a_row_for_each_sample(trained: Callable[..., Path], unit: str, fusion: str) -> None:
    run = trained(f"data.sample_unit={unit}", f"model.fusion={fusion}")
    table = pd.read_csv(run / "evaluation" / "val" / "predictions.csv")
    facts = json.loads((run / "run.json").read_text())
    images = Store.open(Path(facts["store"])).table
    listed = (run / "split" / "val.txt").read_text().split()
    images = images[images["image_id"].isin(listed)]
    keys = ["patient_id", "laterality"][: 2 if unit == "breast" else 1]
    assert set(table["unit"]) == {unit}
    assert len(table) == images.groupby(keys).ngroups
    assert sorted(table["image_id"].str.split(";").explode()) == sorted(listed)
    malignant = (images["pathology"] == "MALIGNANT").groupby([images[key] for key in keys]).any()
    assert table["label"].tolist() == np.where(malignant, "MALIGNANT", "BENIGN").tolist()
    assert facts["score"]["value"] == pytest.approx(
        roc_auc_score(table["label"] == "MALIGNANT", table["score_MALIGNANT"])
    )
    places = [f"{side}_{view}" for side in ("LEFT", "RIGHT") for view in ("CC", "MLO")]
    places = places if unit == "exam" else ["CC", "MLO"]
    for place in places:  # a view has a score where the sample has its image
        has = table["image_id"].str.contains(f"{place}(?:;|$)", regex=True)
        assert table[f"score_MALIGNANT_{place}"].notna().tolist() == has.tolist()
    if fusion == "mean":  # of the logits
        views = np.log(table[[f"score_MALIGNANT_{place}" for place in places]])
        views -= np.log(table[[f"score_BENIGN_{place}" for place in places]].to_numpy())
        odds = np.log(table["score_MALIGNANT"] / table["score_BENIGN"])
        np.testing.assert_allclose(views.mean(axis=1), odds, atol=1e-5)
    if unit == "exam":
        for side in ("LEFT", "RIGHT"):
            there = table["image_id"].str.contains(f"_{side}_")
            assert table[f"label_{side}"].notna().tolist() == there.tolist()
            assert table[f"score_MALIGNANT_{side}"].notna().tolist() == there.tolist()


@pytest.mark.slow
@pytest.mark.parametrize(("unit", "fusion"), [("breast", "mean"), ("exam", "attention")])
def test_an_evaluation_has_the_units_above_the_sample(
    trained: Callable[..., Path], place: Path, unit: str, fusion: str
) -> None:
    run = trained(f"data.sample_unit={unit}", f"model.fusion={fusion}")
    done = command("evaluate", f"run={run}", "split=test", "tta=flips", "heatmap=layercam", folder=place)
    assert done.returncode == 0, done.stderr
    folder = run / "evaluation" / "test-flips"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["unit"] == unit
    assert metrics["image"] is None
    table = pd.read_csv(folder / "predictions.csv")
    assert metrics["n"][f"{unit}s"] == len(table)
    assert metrics["n"]["images"] == table["image_id"].str.split(";").explode().nunique()
    auc = roc_auc_score(table["label"] == "MALIGNANT", table["score_MALIGNANT"])
    assert metrics[unit]["auc"]["value"] == pytest.approx(auc)
    assert metrics["patient"]["auc"]["value"] is not None
    if unit == "exam":
        scores = pd.concat([table[f"score_MALIGNANT_{side}"] for side in ("LEFT", "RIGHT")])
        labels = pd.concat([table[f"label_{side}"] for side in ("LEFT", "RIGHT")])
        sides = roc_auc_score(labels.dropna() == "MALIGNANT", scores[labels.notna()])
        assert metrics["breast"]["auc"]["value"] == pytest.approx(sides)
        assert metrics["n"]["breasts"] == labels.notna().sum()
    assert metrics["localisation"]["counts"]["all"]["images"] == metrics["n"]["images"]
    gallery = json.loads((folder / "heatmaps" / "gallery.json").read_text())
    assert {entry["sample_id"] for entry in gallery} <= set(table["sample_id"])
    # the saved scores are those of a second evaluation
    again = command("evaluate", f"run={run}", "split=test", "tta=flips", "heatmap=none", folder=place)
    assert again.returncode == 0, again.stderr
    pd.testing.assert_frame_equal(pd.read_csv(folder / "predictions.csv"), table, atol=1e-6)


@pytest.mark.slow
def test_a_run_of_two_views_starts_from_the_weights_of_one(trained: Callable[..., Path], place: Path) -> None:
    first = trained("report=false")
    done = command(
        "train", *SMALL, "data.sample_unit=breast", f"model.weights={first}", "report=false",
        "trainer.max_epochs=1", "run_dir=started", folder=place,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        (
            ["data.sample_unit=breast", "augment.mixup=0.2"],
            "augment.mixup=0.2: mixes single images; give augment.mixup=0 with data.sample_unit=breast",
        ),
        (["model.fusion=max"], "model.fusion=max: one image is one view"),
        (
            ["data.sample_unit=breast", "model.box_head=true"],
            "model.box_head=true: ",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(choices: list[str], sentence: str, place: Path) -> None:
    done = command("train", *SMALL, *choices, "run_dir=refused", folder=place)
    assert done.returncode == 1
    assert sentence in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
