"""Counts of images from the source to the scores, on generated images with broken files."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from helpers.commands import command
from helpers.pages import Outline

from mammo.data.sources.csv_dataset import read_csv
from mammo.data.splits import left_out, make_split
from mammo.data.store.store import Store, prepare
from mammo.data.tasks import Task
from mammo.evaluation.predictions import Predictions
from mammo.evaluation.report.evaluation_report import write_report
from mammo.evaluation.report.study_data import DataFlow, characteristics, data_flow, read_study_data
from mammo.runs import RunFolder

IMAGES = 60
FILES = {"training": "train", "validation": "val", "test": "test"}
BROKEN = {4: "missing", 5: "no image", 40: "missing"}  # no image of the patient P2 is left


def write_images(folder: Path) -> pd.DataFrame:
    """60 images of 30 patients with an official split; the first two patients are in both splits of it."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(IMAGES):
        pixels = rng.integers(1000, 60000, (48, 40)).astype(np.uint16)
        if number not in BROKEN:
            cv2.imwrite(str(folder / f"{number:02d}.png"), pixels)
        patient = number // 2
        official = "test" if patient >= 20 or (patient < 2 and number % 2) else "train"
        rows.append(
            {
                "image_path": f"{number:02d}.png",
                "patient_id": f"P{patient}",
                "pathology": "MALIGNANT" if patient % 2 else "BENIGN",
                "view": "CC" if number % 2 else "MLO",
                "laterality": "LEFT" if number % 3 else "",
                "density": patient % 4 + 1,
                "official_split": official,
            }
        )
    (folder / "05.png").write_text("nothing")
    table = pd.DataFrame(rows)
    table.to_csv(folder / "images.csv", index=False)
    return table


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder)
    catalog = read_csv(table=folder / "images.csv", root=folder)
    return prepare(catalog, store=folder / "store", height=24, width=20, crop="none", workers=0)


def scores_of(images: pd.DataFrame, *, fold: Any = pd.NA) -> Predictions:
    """Scores that are not of a network."""
    score = np.linspace(0.1, 0.9, len(images))
    table = images.drop(columns=["pathology"]).reset_index(drop=True)
    table = table.assign(sample_id=table["image_id"], unit="image")
    table = table.assign(label=images["pathology"].to_numpy(), score_BENIGN=1 - score, score_MALIGNANT=score)
    return Predictions(table.assign(fold=fold), Task.shipped("pathology"), "made")


def made_run(
    folder: Path, store: Store, settings: Mapping[str, Any], *, side: str = "test"
) -> tuple[RunFolder, Predictions]:
    """A run with the files that a training writes about its data, and scores of a set."""
    split = make_split(store.table, **settings)
    (folder / "split").mkdir(parents=True)
    for name, ids in asdict(split).items():
        (folder / "split" / f"{name}.txt").write_text("".join(f"{image}\n" for image in ids))
    left_out(store.table, split, **settings).to_csv(folder / "split" / "left_out.csv", index=False)
    (folder / "config.yaml").write_text(
        yaml.safe_dump({"name": "made", "data": {"split": settings["split"]}})
    )
    (folder / "run.json").write_text(json.dumps({"store": str(store.directory)}))
    images = store.table.set_index("image_id", drop=False).loc[asdict(split)[side]]
    fold = settings.get("fold", pd.NA) if settings["split"] == "kfold" else pd.NA
    return RunFolder(folder), scores_of(images, fold=fold)


def check_sums(flow: DataFlow) -> None:
    assert flow.rejected is not None
    assert flow.left_out is not None
    assert flow.source.images is not None
    assert flow.prepared.images is not None
    assert flow.source.images == flow.prepared.images + sum(part.images or 0 for part in flow.rejected)
    sets = flow.sides or (flow.scored,)
    assert flow.prepared.images == sum(part.images or 0 for part in (*sets, *flow.left_out))
    if flow.origins:
        assert flow.scored.images == sum(part.images or 0 for part in flow.origins)


@pytest.mark.parametrize("sample", [None, [12, 4, 4]])
@pytest.mark.parametrize("split", ["official", "clean", "random", "kfold", "file"])
def test_counts_add_up(store: Store, tmp_path: Path, split: str, sample: list[int] | None) -> None:
    settings: dict[str, Any] = {"split": split, "seed": 1, "sample": sample}
    if split == "file":
        sides = {f"P{number}": ("train", "val", "test")[number % 3] for number in range(24)}
        named = store.table.assign(split=store.table["patient_id"].map(sides)).dropna(subset="split")
        named[["image_id", "split"]].to_csv(tmp_path / "split.csv", index=False)
        settings["split_file"] = tmp_path / "split.csv"
    run, scored = made_run(tmp_path / "run", store, settings)
    flow = data_flow(read_study_data([run], scored, store=None, own=True))
    check_sums(flow)
    assert (flow.source.images, flow.source.patients) == (IMAGES, 30)
    assert (flow.prepared.images, flow.prepared.patients) == (IMAGES - len(BROKEN), 29)
    assert {part.name: part.images for part in flow.rejected or ()} == {
        "file missing": 2,
        "is not an image; supported formats: DICOM, PNG, JPEG, TIFF, BMP, WebP, JPEG 2000, PGM": 1,
    }
    assert [part.name for part in flow.origins] == ["test"]
    reasons = {part.name: part.images for part in flow.left_out or ()}
    in_both = {"official": "the patient is in the official test set too"}
    in_both |= {"kfold": in_both["official"], "clean": "the patient is in the official training set too"}
    if split in in_both:
        assert reasons[in_both[split]] == 2
    assert any(name.startswith("not drawn for data.sample=") for name in reasons) == (sample is not None)
    assert reasons.get("not named in data.split_file") == (12 if split == "file" else None)


def test_what_is_not_recorded_is_said(store: Store, tmp_path: Path) -> None:
    run, scored = made_run(tmp_path / "run", store, {"split": "official", "seed": 1})
    (run.path / "split" / "left_out.csv").unlink()
    flow = data_flow(read_study_data([run], scored, store=None, own=True))
    check_sums(flow)
    assert [part.name for part in flow.left_out or ()] == ["reason not recorded"]
    (run.path / "run.json").write_text("{}")
    flow = data_flow(read_study_data([run], scored, store=None, own=True))
    assert (flow.source.images, flow.rejected, flow.prepared.images, flow.left_out) == (None,) * 4
    assert [part.patients for part in flow.sides] == [None] * 3
    assert flow.scored.images == len(scored.samples)
    page = write_report_of(run, scored)
    assert page.count(">not recorded</text>") == 4


def write_report_of(run: RunFolder, scored: Predictions) -> str:
    folder = run.evaluation / "test"
    folder.mkdir(parents=True)
    scored.write(folder / "predictions.csv")
    return write_report([run], folder=folder).read_text()


def test_folds_and_runs_with_other_lists_add_up(store: Store, tmp_path: Path) -> None:
    settings = {"split": "kfold", "seed": 1, "folds": 3}
    made = [made_run(tmp_path / str(fold), store, settings | {"fold": fold}, side="val") for fold in range(3)]
    runs = [run for run, _ in made]
    together = replace(made[0][1], table=pd.concat([scored.table for _, scored in made], ignore_index=True))
    flow = data_flow(read_study_data(runs, together, store=None, own=True))
    check_sums(flow)
    folds = [f"validation, fold {fold}" for fold in range(3)]
    assert [part.name for part in flow.sides] == [*folds, "test"]
    assert [part.name for part in flow.origins] == folds
    _, test = made_run(tmp_path / "test", store, settings)
    flow = data_flow(read_study_data(runs, test, store=None, own=True))
    check_sums(flow)
    assert [part.name for part in flow.sides] == ["training or validation of a run", "test"]


def test_other_data_have_a_flow_of_their_own(store: Store, tmp_path: Path) -> None:
    run, scored = made_run(tmp_path / "run", store, {"split": "official", "seed": 1})
    data = read_study_data([run], scored, store=store.directory, own=False)
    flow = data_flow(data)
    check_sums(flow)
    assert flow.sides == flow.origins == ()
    assert list(characteristics(data).columns[2:]) == ["training", "validation", "test"]


def test_characteristics_count_missing_values(store: Store, tmp_path: Path) -> None:
    run, scored = made_run(tmp_path / "run", store, {"split": "official", "seed": 1})
    table = characteristics(read_study_data([run], scored, store=None, own=True))
    found = table.set_index(["characteristic", "value"])
    for side in FILES:
        ids = (run.path / "split" / f"{FILES[side]}.txt").read_text().split()
        images = store.table[store.table["image_id"].isin(ids)]
        for column in ("view", "laterality", "density"):
            assert found.loc[column, side].sum() == len(images) == found.loc[("images", "all"), side]
        assert found.loc[("laterality", "missing"), side] == images["laterality"].isna().sum() > 0
        assert found.loc[("abnormality_type", "missing"), side] == len(images)
        ill = images[images["pathology"] == "MALIGNANT"]
        assert found.loc[("images", "malignant"), side] == len(ill)
        assert found.loc[("patients", "malignant"), side] == ill["patient_id"].nunique()
    assert "assessment" not in table["characteristic"].tolist()


@pytest.mark.slow
def test_the_page_of_a_training_has_the_flow(tmp_path: Path) -> None:
    write_images(tmp_path)
    data = ["data=csv", f"data.table={tmp_path}/images.csv", f"data.root={tmp_path}", "data.height=32"]
    data += ["data.width=32", "data.split=clean", "model=custom_cnn", "trainer.max_epochs=1", "report=false"]
    lr = "optim.lr=1e-3"  # of a training on real data
    for arguments in (["train", *data, lr, "run_dir=a"], ["evaluate", "run=a", "split=test", "heatmap=none"]):
        result = command(*arguments, folder=tmp_path)
        assert result.returncode == 0, result.stderr
    folder = tmp_path / "a" / "evaluation" / "test"
    text = "\n".join(word.strip() for word in Outline((folder / "report.html").read_text()).words)
    numbers = {
        name: len((tmp_path / "a" / "split" / f"{name}.txt").read_text().split())
        for name in ("train", "val", "test")
    }
    assert sum(numbers.values()) == IMAGES - len(BROKEN) - 2
    for title, images in (
        ("In the tables of the source", IMAGES),
        ("Without a usable file", len(BROKEN)),
        ("Prepared", IMAGES - len(BROKEN)),
        ("In none of the sets", 2),
        ("Training", numbers["train"]),
        ("Validation", numbers["val"]),
        ("Test", numbers["test"]),
        ("Scored: test images", numbers["test"]),
    ):
        assert any(part.startswith(f"{images} images") for part in after(text, title)), title
    assert "2: file missing" in text
    assert "2: the patient is in the official training set too" in " ".join(text.split())
    table = pd.read_csv(folder / "characteristics.csv").set_index(["characteristic", "value"])
    assert table.loc[("images", "all")].to_dict() == {
        "training": numbers["train"], "validation": numbers["val"], "test": numbers["test"],
    }  # fmt: skip


def after(text: str, title: str) -> list[str]:
    """The texts that follow each line with this title."""
    words = [word for word in text.split("\n") if word]
    return [words[place + 1] for place, word in enumerate(words[:-1]) if word == title]
