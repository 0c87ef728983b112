"""`python -m mammo.evaluate` and `mammo.compare` from the user's side."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from helpers.commands import command, next_of
from helpers.networks import build_model
from helpers.pages import Outline
from sklearn.metrics import roc_auc_score

from mammo.errors import ConfigError
from mammo.evaluation.scoring import Scorer
from mammo.models.classifier import Classifier

SMALL = [
    "data.patients=60", "data.height=64", "data.width=48", "data.film_scale=2", "data.batch_size=8",
    "model=custom_cnn", "trainer.max_epochs=2", "trainer.precision=32-true", "report=false",
]  # fmt: skip


def told(door: str, *arguments: str, folder: Path) -> str:
    """The error message of a command that must fail."""
    result = command(door, *arguments, folder=folder)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    return last


def words(page: Path) -> str:
    """The words of a page, with single spaces."""
    return " ".join(" ".join(Outline(page.read_text()).words).split())


@pytest.fixture(scope="module")
def place(place: Path) -> Path:
    """A working folder with two finished runs, a and b, that differ in their seed."""
    for seed, name in enumerate("ab"):
        result = command("train", *SMALL, f"seed={seed}", f"run_dir=runs/{name}", folder=place)
        assert result.returncode == 0, result.stderr
    return place


@pytest.fixture(scope="module")
def evaluated(place: Path) -> Path:
    for split in ("val", "test"):
        result = command("evaluate", "run=runs/a", f"split={split}", folder=place)
        assert result.returncode == 0, result.stderr
        assert f"\n\nwritten to runs/a/evaluation/{split}\n" in result.stdout
        first, second = next_of(result.stdout)
        assert first[:2] == ["mammo.evaluate" if split == "val" else "mammo.export", "run=runs/a"]
        assert second == ["mammo.runs", "folder=runs"]
        # the last map of the custom CNN has one pixel for images of this size
        assert "heatmap=gradcam: The heat is of the layer features.7" in result.stderr
    return place / "runs" / "a" / "evaluation"


@pytest.mark.slow
def test_validation_figures_are_the_trainings(evaluated: Path, place: Path) -> None:
    metrics = json.loads((evaluated / "val" / "metrics.json").read_text())
    score = json.loads((place / "runs" / "a" / "run.json").read_text())["score"]["value"]
    assert metrics["image"]["auc"]["value"] == pytest.approx(score, abs=1e-6)
    assert {"image", "breast", "patient", "n", "subgroups", "method"} <= set(metrics)


@pytest.mark.slow
def test_test_images_are_those_of_the_split_and_scored_by_the_best_weights(
    evaluated: Path, place: Path
) -> None:
    predictions = pd.read_csv(evaluated / "test" / "predictions.csv")
    names = (place / "runs" / "a" / "split" / "test.txt").read_text().split()
    assert predictions["image_id"].tolist() == names
    metrics = json.loads((evaluated / "test" / "metrics.json").read_text())
    area = roc_auc_score(predictions["label"] == "MALIGNANT", predictions["score_MALIGNANT"])
    assert metrics["image"]["auc"]["value"] == pytest.approx(area)
    assert metrics["n"]["images"] == len(names)


@pytest.mark.slow
def test_threshold_and_calibration_are_of_the_validation_images(evaluated: Path, place: Path) -> None:
    fixed = json.loads((place / "runs" / "a" / "calibration.json").read_text())
    for split in ("val", "test"):
        metrics = json.loads((evaluated / split / "metrics.json").read_text())
        assert metrics["image"]["threshold"] == fixed["thresholds"]["image"]
        assert metrics["patient"]["threshold"] == fixed["thresholds"]["patient_mean"]


@pytest.mark.slow
def test_a_target_fixes_the_threshold_of_this_evaluation_alone(evaluated: Path, place: Path) -> None:
    before = (place / "runs" / "a" / "calibration.json").read_text()
    result = command(
        "evaluate", "run=runs/a", "split=test", "target_sensitivity=0.8", "output=target", "heatmap=none",
        folder=place,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (place / "runs" / "a" / "calibration.json").read_text() == before
    metrics = json.loads((place / "target" / "metrics.json").read_text())
    assert metrics["method"]["calibration"]["rule"] == "sensitivity"
    table = pd.read_csv(evaluated / "val" / "predictions.csv")
    called = table["score_MALIGNANT"] >= metrics["image"]["threshold"]
    assert called[table["label"] == "MALIGNANT"].mean() >= 0.8
    assert metrics["image"]["sensitivity_validation"]["value"] >= 0.8


@pytest.mark.slow
def test_file_alone_gives_the_same_figures(evaluated: Path, place: Path) -> None:
    file = "runs/a/evaluation/test/predictions.csv"
    result = command("evaluate", f"predictions={file}", "output=again", folder=place)
    assert result.returncode == 0, result.stderr
    assert [each[0] for each in next_of(result.stdout)] == ["mammo.evaluate", "mammo.simulate"]
    again = json.loads((place / "again" / "metrics.json").read_text())
    first = json.loads((evaluated / "test" / "metrics.json").read_text())
    for part in ("n", "image", "breast", "patient", "subgroups"):
        assert again[part] == first[part]


@pytest.mark.slow
def test_clean_test_holds_no_patient_of_the_training_set(evaluated: Path, place: Path) -> None:
    result = command("evaluate", "run=runs/a", "split=clean_test", folder=place)
    assert result.returncode == 0, result.stderr
    clean = pd.read_csv(evaluated / "clean_test" / "predictions.csv")
    official = pd.read_csv(evaluated / "test" / "predictions.csv")
    assert set(clean["image_id"]) < set(official["image_id"])


def test_flipped_scores_are_the_mean_over_the_flips() -> None:
    torch.manual_seed(0)
    network = build_model(name="custom_cnn", num_classes=2).eval()
    classifier = Classifier(network=network, mean=0.2, std=0.3)
    images = torch.rand(3, 1, 64, 48)
    plain, flipped = (
        Scorer(classifier, size=(64, 48), precision="32-true", tta=tta) for tta in ("none", "flips")
    )
    mean = torch.stack([plain(images.flip(axes)).probability for axes in ([], [2], [3], [2, 3])]).mean(dim=0)
    torch.testing.assert_close(flipped(images).probability, mean)
    torch.testing.assert_close(flipped(images[:, None]).probability, mean)
    assert not torch.allclose(mean, plain(images).probability, atol=1e-7)


def test_scores_of_scales_are_the_mean_over_resized_images() -> None:
    torch.manual_seed(0)
    network = build_model(name="custom_cnn", num_classes=2).eval()
    classifier = Classifier(network=network, mean=0.2, std=0.3)
    images = torch.rand(3, 1, 64, 48)
    plain, scales, both = (
        Scorer(classifier, size=(64, 48), precision="32-true", tta=tta)
        for tta in ("none", "scales", "flips_scales")
    )
    sizes = [
        F.interpolate(images, size=size, mode="bilinear", antialias=True) for size in ((58, 43), (70, 53))
    ]
    mean = torch.stack([plain(each).probability for each in (images, *sizes)]).mean(dim=0)
    torch.testing.assert_close(scales(images).probability, mean)
    torch.testing.assert_close(scales(images[:, None]).probability, mean)
    flips = [each.flip(axes) for each in (images, *sizes) for axes in ([], [2], [3], [2, 3])]
    mean = torch.stack([plain(each).probability for each in flips]).mean(dim=0)
    torch.testing.assert_close(both(images).probability, mean)


def test_scales_of_a_network_of_one_size_are_refused() -> None:
    network = build_model(name="vit_tiny_patch16_224", num_classes=2, image_size=(64, 48)).eval()
    with pytest.raises(
        ConfigError, match=r"tta=scales: the network takes no images of 58 x 43 beside 64 x 48"
    ):
        Scorer(Classifier(network=network, mean=0.2, std=0.3), size=(64, 48), tta="scales")


@pytest.mark.slow
def test_flips_and_ensemble_have_folders_of_their_own(evaluated: Path, place: Path) -> None:
    for arguments in (["run=runs/a", "tta=flips"], ["run=[runs/a,runs/b]", "output=both"]):
        result = command("evaluate", *arguments, "split=test", folder=place)
        assert result.returncode == 0, result.stderr
    plain = pd.read_csv(evaluated / "test" / "predictions.csv")["score_MALIGNANT"]
    flips = pd.read_csv(evaluated / "test-flips" / "predictions.csv")["score_MALIGNANT"]
    assert (plain - flips).abs().max() > 0
    both = json.loads((place / "both" / "metrics.json").read_text())
    assert both["n"]["images"] == len(plain)
    # both runs have these validation images, so the means of their scores there are the calibrated ones
    images = len((place / "runs" / "a" / "split" / "val.txt").read_text().splitlines())
    assert both["method"]["calibration"]["images"] == images
    assert len(both["provenance"]) == 2
    text = words(place / "both" / "report.html")
    assert "Ensemble of 2 runs: report of the test images" in text
    assert "mean of the scores of 2 networks" in text
    assert f"mean AUC {both['runs']['mean']:.3f}, standard deviation {both['runs']['sd']:.3f}" in text
    assert "These are seeds of one setting" in text
    assert "images is in the training or validation set of run b" in text
    assert f"Scored: test images {len(plain)} images" in text


@pytest.mark.slow
def test_folds_are_put_together_out_of_fold(place: Path) -> None:
    for fold in range(3):
        folds = ["data.split=kfold", "data.folds=3", f"data.fold={fold}", f"run_dir=runs/cv/{fold}"]
        result = command("train", *SMALL, *folds, folder=place)
        assert result.returncode == 0, result.stderr
    runs = "run=[runs/cv/0,runs/cv/1,runs/cv/2]"
    result = command("evaluate", runs, "output=cv", folder=place)
    assert result.returncode == 0, result.stderr
    table = pd.read_csv(place / "cv" / "predictions.csv")
    assert sorted(table["fold"].unique()) == [0, 1, 2]
    assert table["image_id"].is_unique
    metrics = json.loads((place / "cv" / "metrics.json").read_text())
    assert metrics["method"]["calibration"] is None  # it would need the labels of the very images
    assert metrics["method"]["auc"].startswith("mean of the folds' AUCs")
    areas = []
    for fold in range(3):
        scored = pd.read_csv(place / "runs" / "cv" / str(fold) / "evaluation" / "val" / "predictions.csv")
        malignant = scored["score_MALIGNANT"]
        areas.append(roc_auc_score(scored["label"] == "MALIGNANT", malignant))
        together = table.set_index("image_id").loc[scored["image_id"], "score_MALIGNANT"]
        np.testing.assert_allclose(together, malignant, atol=1e-3)
    assert metrics["image"]["auc"]["value"] == pytest.approx(np.mean(areas), abs=1e-6)
    assert metrics["image"]["auc_pooled"]["value"] is not None
    text = words(place / "cv" / "report.html")
    assert f"AUC {metrics['image']['auc']['value']:.3f} , mean of folds" in text
    assert f"Pooled AUC {metrics['image']['auc_pooled']['value']:.3f}" in text
    assert f"pooled AUC {metrics['image']['auc_pooled']['value']:.3f}" in text  # in the ROC
    assert f"Scored: validation images {len(table)} images" in text

    # the heat of each image is that of the network of its fold, as in the evaluation of the fold alone
    found, parts = metrics["localisation"], []
    for fold in range(3):
        one = [f"run=runs/cv/{fold}", "report=false", f"output=cv{fold}"]
        alone = command("evaluate", *one, folder=place)
        assert alone.returncode == 0, alone.stderr
        parts.append(json.loads((place / f"cv{fold}" / "metrics.json").read_text())["localisation"])
    for name, number in found["counts"]["malignant"].items():
        assert number == sum(part["counts"]["malignant"][name] for part in parts)
    shown = [part["counts"]["malignant"]["with_lesions"] for part in parts]
    assert min(shown) > 0
    for method in ("gradcam", "brightest", "centre"):
        hits = sum(
            count * part["malignant"][method]["pointing"]["value"]
            for count, part in zip(shown, parts, strict=True)
        )
        assert found["malignant"][method]["pointing"]["value"] == pytest.approx(hits / sum(shown))
    gallery = json.loads((place / "cv" / "heatmaps" / "gallery.json").read_text())
    score_of = table.set_index("sample_id")["score_MALIGNANT"]
    assert {table.set_index("sample_id")["fold"][entry["sample_id"]] for entry in gallery} == {0, 1, 2}
    for entry in gallery:
        assert entry["score"] == pytest.approx(score_of[entry["sample_id"]])
    assert f"of the {sum(shown)} images that have one" in text
    for area in areas:
        assert f"{area:.3f}" in text
    assert "mean of the folds" in result.stdout
    assert len(next_of(result.stdout)) == 2
    # two sets of folds are compared out of fold, by their ranks within the folds
    shutil.copytree(place / "runs" / "cv", place / "runs" / "again")
    result = command("compare", "runs=[runs/cv,runs/again]", "output=both_folds", folder=place)
    assert result.returncode == 0, result.stderr
    with_pictures = ["runs=[runs/cv,runs/again]", "pictures=2", "output=both_folds"]
    assert "pictures=2: heat is that of one network" in told("compare", *with_pictures, folder=place)
    compared = json.loads((place / "both_folds" / "comparison.json").read_text())
    assert [model["run"] for model in compared["models"]] == ["runs/cv", "runs/again"]
    assert compared["n"]["units"] == len(table)
    ranked = pd.concat(
        [
            scored["score_MALIGNANT"].rank(pct=True).where(table["fold"] == fold)
            for fold, scored in table.groupby("fold")
        ],
        axis=1,
    ).max(axis=1)
    area = roc_auc_score(table["label"] == "MALIGNANT", ranked)
    assert compared["models"][0]["auc"]["value"] == pytest.approx(area, abs=2e-3)  # of other ranks for ties
    assert compared["pairs"][0]["difference"]["value"] == 0
    means = ["runs=[runs/cv,[runs/cv,runs/again]]", "output=mean_of_folds"]
    result = command("compare", *means, folder=place)
    assert result.returncode == 0, result.stderr
    compared = json.loads((place / "mean_of_folds" / "comparison.json").read_text())
    assert [model["run"] for model in compared["models"]] == ["runs/cv", "runs/cv, runs/again"]
    assert compared["pairs"][0]["difference"]["value"] == 0
    # no image is a validation image of all folds, so the mean of their scores cannot be calibrated
    result = command("evaluate", runs, "split=test", "output=mean", folder=place)
    assert result.returncode == 0, result.stderr
    assert "the scores are not calibrated" in result.stdout
    mean = json.loads((place / "mean" / "metrics.json").read_text())
    assert mean["method"]["calibration"] is None
    assert mean["image"]["threshold"] == 0.5
    assert "brier_calibrated" not in mean["image"]


@pytest.mark.slow
def test_transfer_keeps_the_runs_preprocessing(place: Path) -> None:
    data = ["data=phantom", "data.patients=24", "data.seed=9", "data.height=96", "data.width=64"]
    data += ["data.film_scale=2"]
    result = command("evaluate", "run=runs/a", "split=all", *data, folder=place)
    assert result.returncode == 0, result.stderr
    metrics = json.loads((place / "runs/a/evaluation/all-phantom/metrics.json").read_text())
    assert metrics["n"]["patients"] > 15


@pytest.mark.slow
def test_a_run_is_compared_with_the_mean_of_several(evaluated: Path, place: Path) -> None:
    result = command("evaluate", "run=[runs/a,runs/b]", "split=test", "output=m", folder=place)
    assert result.returncode == 0, result.stderr
    mean = json.loads((place / "m" / "metrics.json").read_text())["image"]["auc"]["value"]
    result = command("compare", "runs=[runs/a,[runs/a,runs/b]]", "split=test", "output=with_m", folder=place)
    assert result.returncode == 0, result.stderr
    found = json.loads((place / "with_m" / "comparison.json").read_text())
    first, second = found["models"]
    assert second["auc"]["value"] == pytest.approx(mean)
    assert second["name"] == "mean of seed=0 and seed=1"
    assert second["run"] == "runs/a, runs/b"
    pair = found["pairs"][0]["difference"]["value"]
    assert abs(pair) == pytest.approx(abs(first["auc"]["value"] - mean))
    best = "run=[runs/a,runs/b]" if "run=[" in result.stdout else "run=runs/a"
    assert next_of(result.stdout)[0] == ["mammo.evaluate", best, "split=test"]
    for runs, problem in (
        ("runs=[[runs/a,runs/b]]", "give at least two different runs"),
        ("runs=[runs/a,[runs/b]]", "a mean is of at least two different runs, not of ['runs/b']"),
        ("runs=[runs/a,[runs/b,runs/b]]", "a mean is of at least two different runs"),
        ("runs=[[runs/a,runs/b],[runs/b,runs/a]]", "give at least two different runs"),
    ):
        assert problem in told("compare", runs, folder=place)


@pytest.mark.slow
def test_runs_are_compared_on_the_same_images(evaluated: Path, place: Path) -> None:
    choices = [
        "runs=[runs/a,runs/b]",
        "split=test",
        "pictures=3",
        "subgroups=[view,{lesion_size:[0.1]}]",
        "output=c",
    ]
    result = command("compare", *choices, folder=place)
    assert result.returncode == 0, result.stderr
    found = json.loads((place / "c" / "comparison.json").read_text())
    single = json.loads((evaluated / "test" / "metrics.json").read_text())["image"]["auc"]["value"]
    assert found["models"][0]["auc"]["value"] == pytest.approx(single)
    columns = [group["column"] for group in found["subgroups"]]
    assert columns == ["view", "view", *["lesion_size"] * columns.count("lesion_size")]
    assert 2 <= columns.count("lesion_size") <= 3
    page = (place / "c" / "compare.html").read_text()
    assert "runs/a" in page
    assert "view CC" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    for kind in ("png", "svg"):
        assert (place / "c" / f"forest.{kind}").stat().st_size > 3000
    # the same samples with lesions, with the heat of each run
    scored = pd.read_csv(evaluated / "test" / "predictions.csv").set_index("image_id")["score_MALIGNANT"]
    heads = re.findall(r"<h3>(\S+), (BENIGN|MALIGNANT)</h3>", page)
    assert len(heads) == 3
    assert [name for name, _ in heads] == sorted(name for name, _ in heads)
    for name, _ in heads:
        assert f"score {scored[name]:.3f}" in page
    assert page.count("data:image/jpeg;base64,") == 6
    assert len(list((place / "c" / "pictures").iterdir())) == 6


@pytest.mark.slow
def test_mistakes_are_told_in_one_sentence(evaluated: Path, place: Path, tmp_path: Path) -> None:
    assert "give either run=FOLDER or predictions=FILE" in told("evaluate", folder=place)
    assert "run=runs/none: holds no run" in told("evaluate", "run=runs/none", folder=place)
    targeted = told("evaluate", "predictions=scores.csv", "target_sensitivity=0.9", folder=place)
    assert "target_sensitivity=0.9: the threshold is fixed on validation images" in targeted
    assert "split=test" not in told("evaluate", "split=tset", folder=place)
    assert "give at least two different runs" in told("compare", "runs=[runs/a,runs/a]", folder=place)
    shutil.copytree(place / "runs" / "a", tmp_path / "r")
    best = tmp_path / "r" / "checkpoints" / "best.ckpt"
    content = best.read_bytes()
    best.write_bytes(content[:1000])
    assert "best.ckpt is damaged" in told("evaluate", f"run={tmp_path}/r", "split=test", folder=place)
    best.unlink()
    assert "best.ckpt is not there" in told("evaluate", f"run={tmp_path}/r", "split=test", folder=place)
    checkpoint = torch.load(place / "runs" / "a" / "checkpoints" / "best.ckpt", weights_only=True)
    checkpoint["state_dict"]["network.features.0.weight"] = torch.zeros(3)
    torch.save(checkpoint, best)
    assert "holds another network" in told("evaluate", f"run={tmp_path}/r", "split=test", folder=place)
    layer = told("evaluate", "run=runs/a", "split=val", "heatmap_layer=featurs", "output=h", folder=place)
    assert "heatmap_layer=featurs: no such module; the nearest are features" in layer
    table = pd.read_csv(evaluated / "test" / "predictions.csv")
    for name, changed, sentence in (
        ("nan", table.assign(score_MALIGNANT=float("nan")), "score_malignant"),
        ("column", table.drop(columns="patient_id"), "patient_id"),
    ):
        changed.to_csv(tmp_path / f"{name}.csv", index=False)
        assert sentence in told("evaluate", f"predictions={tmp_path}/{name}.csv", folder=place)
    (tmp_path / "file").write_text("")
    one = told("evaluate", "run=runs/a", "split=test", f"output={tmp_path}/file/x", folder=place)
    assert "cannot be written" in one


@pytest.mark.slow
def test_table_of_one_class_leaves_out_what_it_cannot_tell(
    evaluated: Path, place: Path, tmp_path: Path
) -> None:
    table = pd.read_csv(evaluated / "test" / "predictions.csv")
    table[table["label"] == "BENIGN"].to_csv(tmp_path / "one.csv", index=False)
    result = command("evaluate", f"predictions={tmp_path}/one.csv", "output=one", folder=place)
    assert result.returncode == 0, result.stderr
    assert json.loads((place / "one" / "metrics.json").read_text())["image"]["auc"]["value"] is None
