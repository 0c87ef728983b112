"""Tasks and metrics of the user's own, as pages of the documentation print them, through every command."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from helpers.commands import command
from helpers.doc_pages import commands_of, write_files

from mammo.runs import RunFolder

SMALL = [
    "model=custom_cnn",
    "data.height=64",
    "data.width=48",
    "trainer.max_epochs=2",
    "trainer.precision=32-true",
]
PHANTOM = ["data.patients=20"]


def follow(page: str, place: Path, *more: str) -> list[str]:
    """Runs the commands of a page; the outputs."""
    write_files(page, place)
    outputs = []
    for door, arguments in commands_of(page):
        done = command(door, *arguments, *(more if door == "train" else []), folder=place)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout + done.stderr)
    return outputs


@pytest.fixture(scope="module")
def graded(place: Path) -> Path:
    """A run of `task=density` with metrics of the user's own, in which the page's commands were run."""
    follow("own_metric", place, *SMALL, *PHANTOM)
    return place / "run"


@pytest.fixture(scope="module")
def own_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the table of the page `own_task` and its images, brighter with a higher grade."""
    place, rng = tmp_path_factory.mktemp("own_table"), np.random.default_rng(0)
    (place / "images").mkdir()
    rows = []
    for patient in range(48):
        grade = patient % 4
        for view in ("CC", "MLO"):
            name = f"{patient}_{view}.png"
            pixels = rng.normal(9000 + 12000 * grade, 3000, (80, 60)).clip(1, 65535).astype(np.uint16)
            cv2.imwrite(str(place / "images" / name), pixels)
            rows.append({"image_path": name, "patient_id": f"p{patient}", "view": view, "BAC score": grade})
    pd.DataFrame(rows).to_csv(place / "exams.csv", index=False)
    return place


@pytest.mark.slow
def test_an_ordered_task_has_kappa_and_the_user_s_metrics_in_every_epoch(graded: Path) -> None:
    curves = pd.read_csv(graded / "metrics.csv")
    for side in ("train", "val"):
        assert curves[f"{side}/kappa"].between(-1, 1).all()
        assert curves[f"{side}/f1"].between(0, 1).all()
        assert (curves[f"{side}/top_two"] >= curves[f"{side}/accuracy"]).all()
    assert RunFolder(graded).facts()["score"]["name"] == "val/auc"
    assert (graded / "figures" / "kappa.png").exists()


@pytest.mark.slow
def test_the_evaluation_speaks_of_classes(graded: Path) -> None:
    folder = graded / "evaluation" / "test"
    metrics = json.loads((folder / "metrics.json").read_text())
    table = pd.read_csv(folder / "predictions.csv")
    called = table[[f"score_{name}" for name in "ABCD"]].to_numpy().argmax(axis=1)
    labels = table["label"].map(dict(zip("ABCD", range(4), strict=True))).to_numpy()
    assert metrics["multiclass"]["accuracy"]["value"] == pytest.approx((called == labels).mean())
    assert metrics["multiclass"]["kappa"]["value"] is not None
    assert metrics["own"]["top_two"] >= metrics["multiclass"]["accuracy"]["value"]
    assert metrics["image"] is None
    assert "localisation" not in metrics
    assert sorted(file.stem for file in (folder / "figures").glob("*.svg")) == ["confusion_classes", "flow"]
    page = (folder / "report.html").read_text()
    words = re.sub(r"<style>.*?</style>|<script>.*?</script>", "", page, flags=re.DOTALL)
    assert "Macro AUC" in words
    assert "Quadratic weighted kappa" in words
    assert "Own metrics" in words
    assert not re.search(r"score of malignancy|[Ss]ensitivity|[Tt]hreshold|CLAIM|Subgroup", words)
    assert not (graded / "calibration.json").exists()


@pytest.mark.slow
def test_a_task_without_a_positive_class_in_the_other_commands(graded: Path, place: Path) -> None:
    image = next((graded / "evaluation" / "test" / "heatmaps").glob("*.jpg"))
    cv2.imwrite(str(place / "image.png"), cv2.imread(str(image), cv2.IMREAD_GRAYSCALE))
    heat = command(
        "predict", "run=run", "input=image.png", "output=p.csv", "heatmaps=heat", "workers=0", folder=place
    )
    assert heat.returncode == 0, heat.stderr
    assert "calibration" not in heat.stderr
    row = pd.read_csv(place / "p.csv").iloc[0]
    assert row["class"] == max("ABCD", key=lambda name: row[f"score_{name}"])
    assert not {"probability", "breast_score"} & set(row.index)
    exported = command("export", "run=run", "format=safetensors", "output=d.safetensors", folder=place)
    assert exported.returncode == 0, exported.stderr
    assert "calibration" not in exported.stdout
    # as an older run records its task
    config = yaml.safe_load((graded / "config.yaml").read_text())
    shutil.copytree(graded, place / "older", dirs_exist_ok=True)
    older = {key: value for key, value in config.items() if key != "metrics"} | {"task": {"name": "density"}}
    (place / "older" / "config.yaml").write_text(yaml.safe_dump(older))
    again = command("evaluate", "run=older", "split=test", "report=false", "heatmap=none", folder=place)
    assert again.returncode == 0, again.stderr
    compared = command("compare", "runs=[run,older]", "split=test", "output=compared", folder=place)
    assert compared.returncode == 0, compared.stderr
    pair = json.loads((place / "compared" / "comparison.json").read_text())["pairs"][0]
    assert (pair["difference"]["value"], pair["p"]) == (0.0, 1.0)
    for arguments, sentence in (
        (
            ["compare", "runs=[run,older]", "split=test", "unit=breast"],
            "unit=breast: the task density has no",
        ),
        (
            ["evaluate", "run=run", "target_sensitivity=0.9"],
            "target_sensitivity=0.9: the task density of run has",
        ),
        (["evaluate", "run=run", "task=density"], "task=density: a run has a task of its own; leave it out"),
    ):
        refused = command(*arguments, folder=place)
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"error: {sentence}")
    table = "run/evaluation/test/predictions.csv"
    known = command("evaluate", f"predictions={table}", "task=density", folder=place)
    assert known.returncode == 0, known.stderr
    assert "Quadratic weighted kappa" in known.stdout


@pytest.mark.slow
def test_a_task_of_the_user_s_own_on_a_table_without_pathology(own_table: Path) -> None:
    follow("own_task", own_table, *SMALL)
    metrics = json.loads((own_table / "run" / "evaluation" / "test" / "metrics.json").read_text())
    assert set(metrics["n"]["classes"]) == {"NONE", "MILD", "SEVERE"}
    assert metrics["multiclass"]["classes"] == ["NONE", "MILD", "SEVERE"]


@pytest.mark.slow
def test_positive_classes_of_the_user_s_own_are_called_positive(own_table: Path) -> None:
    write_files("own_task", own_table)
    (_, arguments), _ = commands_of("own_task")
    own = [*arguments[:-1], "run_dir=positive", "task.positive=[MILD,SEVERE]", "task.ordered=false", *SMALL]
    done = command("train", *own, folder=own_table)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((own_table / "positive" / "evaluation" / "val" / "metrics.json").read_text())
    assert metrics["words"]["positive"] == "positive"
    assert metrics["image"]["sensitivity"]["value"] is not None
    assert "localisation" not in metrics
    page = (own_table / "positive" / "evaluation" / "val" / "report.html").read_text()
    assert "An image is positive if its class is mild or severe" in page
    # without the keys of the settings, such as data.labels.MALIGNANT
    text = re.sub("<script>.*?</script>|<code>data.*?</code>", "", page, flags=re.DOTALL)
    assert not re.search("malignan|benign", text, re.IGNORECASE)


@pytest.mark.parametrize(
    ("mistakes", "sentence"),
    [
        (
            ["task.column=grade"],
            "task.column=grade: the data have no such column; choose from image_id, patient",
        ),
        (
            ["task=pathology", "task.classes=[A]"],
            "task.classes=['A']: there is nothing to classify; give two classes or more",
        ),
        (
            ["task=pathology", "task.classes=[A,a]"],
            "task.classes=['A', 'a']: two classes have the name 'a'; rename one",
        ),
        (
            ["task=pathology", "task.classes=[true,false]"],
            "task.classes=[True, False]: 'True' is no name of a class; use letters",
        ),
        (
            ["task.classes=3"],
            "task.classes=3: give a list of names, or for each name its value in the column",
        ),
        (["task.positive=[E]"], "task.positive=['E']: E is no class; choose from A, B, C, D"),
        (
            ["task.classes.A=2"],
            "task.classes={'A': 2, 'B': 2, 'C': 3, 'D': 4}: '2' is a value of two classes",
        ),
        (["task.background=E"], "task.background=E: is no class; choose from A, B, C, D"),
        (
            ["task.positive=[D]", "task.background=D"],
            "task.background=D: is a positive class, but a patch without a lesion is negative; leave it",
        ),
        (["task=patch_pathology"], "task=patch_pathology: its class BACKGROUND is for patches without a"),
        (["task.classes.A=7"], "task=density: no image in the data is of class A; choose data or a split"),
        (["task.unlabelled=refuse", "task=birads"], "task=birads: 3 of 45 images are in no class (3 without"),
        (["+metrics.auc={_target_:torchmetrics.MeanMetric}"], "metrics.auc: cannot be the name"),
        (
            ["+metrics.f={_target_:os.system}"],
            "metrics.f._target_=os.system: is no metric; give a subclass of",
        ),
        (
            ["+metrics.f={_target_:torchmetrics.classification.MulticlassF1Score,mean:macro}"],
            "metrics.f: torchmetrics.classification.MulticlassF1Score refuses its arguments: Unexpected",
        ),
        (
            ["+metrics.f={_target_:torchmetrics.classification.MulticlassF1Score,average:none}"],
            "metrics.f: torchmetrics.classification.MulticlassF1Score gives no number for probabilities (N x",
        ),
    ],
)
@pytest.mark.slow
def test_a_mistake_is_refused_before_images_are_prepared(
    place: Path, mistakes: list[str], sentence: str
) -> None:
    done = command("train", "task=density", *SMALL, *PHANTOM, *mistakes, "data.store=fresh", folder=place)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {sentence}")
    assert not (place / "fresh").exists()
