"""`python train.py` from the user's side: real commands on generated mammograms, and the files they write."""

import csv
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from helpers.commands import REPOSITORY, command, next_of
from sklearn.metrics import roc_auc_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mammo.runs import RunFolder
from mammo.train import _ending

SMALL = [
    "data.patients=20",
    "data.height=64",
    "data.width=48",
    "data.batch_size=8",
    "trainer.max_epochs=2",
    "report=false",
]


@pytest.fixture(scope="module")
def trained(place: Path) -> Path:
    result = command("train", *SMALL, "report=true", "run_dir=runs/a", folder=place)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("The heat is of the layer") == 1  # for the logger and the report
    lines = result.stdout.splitlines()
    assert lines[0].startswith("validation AUC ")
    assert lines[1:3] == ["run folder runs/a", "report     runs/a/evaluation/val/report.html"]
    logdir, evaluate = (shlex.split(line.removeprefix("next")) for line in lines[3:])
    assert logdir[1:] == ["--logdir", "runs"]
    assert evaluate[-2:] == ["run=runs/a", "split=test"]
    return place / "runs" / "a"


@pytest.mark.slow
def test_run_folder_holds_what_the_design_names(trained: Path) -> None:
    facts = json.loads((trained / "run.json").read_text())
    assert facts["status"] == "finished"
    predictions = pd.read_csv(trained / "evaluation" / "val" / "predictions.csv")
    area = roc_auc_score(predictions["label"] == "MALIGNANT", predictions["score_MALIGNANT"])
    assert area == pytest.approx(facts["score"]["value"])
    assert facts["score"]["name"] == "val/auc"
    assert set(facts["score"]) == {"name", "value", "low", "high", "standard_error"}
    assert facts["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert facts["overrides"] == [*SMALL, "report=true", "run_dir=runs/a"]
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert (config["data"]["patients"], config["model"]["name"], config["seed"]) == (20, "resnet18", 0)
    for name in ("report.html", "metrics.json", "heatmaps/gallery.json", "figures/roc.svg"):
        assert (trained / "evaluation" / "val" / name).stat().st_size > 100
    for name in ("loss", "auc", "accuracy"):
        assert (trained / "figures" / f"{name}.png").stat().st_size > 5000


@pytest.mark.slow
def test_first_step_waits_for_no_more_than_it_needs(trained: Path, place: Path) -> None:
    """Slow modules are not imported before the first step, but work when they are imported later."""
    code = f"""
import json, os, runpy, sys
from mammo.fast_imports import quick_imports
with quick_imports():
    import mammo.evaluation.training_run
from mammo.training.callbacks import FiniteLoss

def stop(*_):
    late = ["scipy.signal", "matplotlib", "jinja2", "sklearn", "optuna", "onnx", "submitit"]
    found = [name for name in (*late, "torchmetrics.utilities.plot") if name in sys.modules]
    import scipy.signal, torch, torchmetrics
    axes = torchmetrics.MeanMetric().plot(torch.tensor(0.5))[1]
    median = scipy.signal.medfilt([1.0, 5.0, 2.0])[1]
    print(json.dumps([found, len(axes.lines), median]), flush=True)
    os._exit(0)

FiniteLoss.on_train_batch_end = stop
sys.argv = ["train.py", *{SMALL}, "run_dir=runs/first_step"]
runpy.run_path({str(REPOSITORY / "train.py")!r}, run_name="__main__")
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [[], 1, 2.0]


@pytest.mark.slow
def test_score_is_the_best_epochs_of_the_curve(trained: Path) -> None:
    epochs = list(csv.DictReader((trained / "metrics.csv").open()))
    score = json.loads((trained / "run.json").read_text())["score"]["value"]
    assert len(epochs) == 2
    assert score == pytest.approx(max(float(epoch["val/auc"]) for epoch in epochs))
    for epoch in epochs:
        assert float(epoch["train/images_per_second"]) > 0
        assert 0 <= float(epoch["train/waiting_for_data"]) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["best", "last"])
def test_checkpoint_loads_without_trusting_it(trained: Path, name: str) -> None:
    checkpoint = torch.load(trained / "checkpoints" / f"{name}.ckpt", weights_only=True)
    assert {"mean", "std", "network.conv1.weight"} <= set(checkpoint["state_dict"])


@pytest.mark.slow
def test_tensorboard_shows_both_sides_in_one_chart(trained: Path) -> None:
    events = EventAccumulator(str(trained / "tensorboard")).Reload()
    tags = events.Tags()
    for side in ("train", "val"):
        assert {f"{side}/{name}" for name in ("loss", "auc", "accuracy")} <= set(tags["scalars"])
        assert [event.step for event in events.Scalars(f"{side}/auc")] == [1, 2]
    assert {"figures/roc", "figures/confusion", "heat/1"} <= set(tags["images"])
    assert {"train/lr", "train/images_per_second", "train/waiting_for_data"} <= set(tags["scalars"])
    assert {"config/text_summary", "custom_scalars__config__"} <= set(tags["tensors"])


@pytest.mark.slow
def test_split_lists_share_no_patient(trained: Path) -> None:
    sides = {
        side: (trained / "split" / f"{side}.txt").read_text().split() for side in ("train", "val", "test")
    }
    patients = {side: {image_id[:7] for image_id in ids} for side, ids in sides.items()}
    assert all(sides.values())
    assert not patients["train"] & patients["val"]
    assert not (patients["train"] | patients["val"]) & patients["test"]


@pytest.mark.slow
def test_same_seed_same_weights_other_seed_other(trained: Path, place: Path) -> None:
    for name, seed in (("b", 0), ("c", 1)):
        result = command("train", *SMALL, f"seed={seed}", f"run_dir=runs/{name}", folder=place)
        assert result.returncode == 0, result.stderr
    first, again, other = (
        torch.load(place / "runs" / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in "abc"
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["network.conv1.weight"], other["network.conv1.weight"])


@pytest.mark.slow
def test_multirun_gives_a_folder_each(place: Path) -> None:
    jobs = ["-m", "model=resnet18,custom_cnn", "hydra.sweep.dir=runs/m"]
    result = command("train", *jobs, *SMALL, "trainer.fast_dev_run=true", folder=place)
    assert result.returncode == 0, result.stderr
    names = sorted(path.parent.name for path in (place / "runs" / "m").glob("*/run.json"))
    assert names == ["0-phantom-resnet18", "1-phantom-custom_cnn"]
    for name in names:
        facts = json.loads((place / "runs" / "m" / name / "run.json").read_text())
        assert (facts["status"], facts["epochs"]) == ("finished", 1)  # by fast_dev_run


def test_after_a_short_run_the_whole_training_has_another_folder(tmp_path: Path) -> None:
    config = {"seed": 1, "trainer": {"fast_dev_run": 2}}
    run = RunFolder.create(tmp_path / "run", config=config, overrides=[])
    ending = _ending(run, [f"run_dir={run.path}", "trainer.fast_dev_run=2", "data.patients=40"])
    train, configuration = next_of(ending)
    assert train[-2:] == ["train.py", "data.patients=40"]
    assert configuration[-4:] == ["train.py", "data.patients=40", "--cfg", "job"]


@pytest.mark.slow
def test_folds_put_together_score_every_image_once(place: Path) -> None:
    """Each image is scored by a network that was not trained on its patient."""
    folds = ["data.split=kfold", "data.folds=3", "model=custom_cnn"]
    for fold in range(3):
        choices = [*folds, f"data.fold={fold}", f"run_dir=runs/folds/{fold}"]
        result = command("train", *SMALL, *choices, folder=place)
        assert result.returncode == 0, result.stderr
    runs = sorted((place / "runs" / "folds").iterdir())
    tables = [pd.read_csv(run / "evaluation" / "val" / "predictions.csv") for run in runs]
    for fold, (run, table) in enumerate(zip(runs, tables, strict=True)):
        assert (table["fold"] == fold).all()
        trained = (run / "split" / "train.txt").read_text().split()
        patients = {image.rsplit("_", 2)[0] for image in trained}
        assert not patients & set(table["patient_id"])
    together = pd.concat(tables)
    everything = set(together["image_id"])
    assert len(together) == len(everything)
    for run in runs:
        names = {(run / "split" / f"{side}.txt").read_text() for side in ("train", "val")}
        assert everything == set("".join(names).split())
    # a second step whose folds start from those of the first is one setting too, not several
    second = [*folds, "trainer.max_epochs=1", "model.weights=runs/folds/${data.fold}"]
    multirun = ["-m", "data.fold=0,1", "hydra.sweep.dir=runs/second", "hydra.sweep.subdir=${data.fold}"]
    result = command("train", *SMALL, *second, *multirun, folder=place)
    assert result.returncode == 0, result.stderr
    for fold in range(2):
        weights = RunFolder(place / "runs" / "second" / str(fold)).config()["model"]["weights"]
        assert weights == f"runs/folds/{fold}"
    assert next_of(result.stdout)[0] == ["mammo.evaluate", "run=runs/second", "split=val"]
    assert not (place / "runs" / "second" / "leaderboard.html").exists()


@pytest.mark.slow
def test_existing_run_is_not_overwritten(trained: Path, place: Path) -> None:
    before = (trained / "run.json").read_bytes()
    result = command("train", *SMALL, "seed=7", "run_dir=runs/a", folder=place)
    assert result.returncode == 1
    # before the data of the other seed are drawn and prepared
    assert result.stdout == ""
    assert re.fullmatch("error: run_dir=runs/a: holds a run already; .*\n", result.stderr)
    assert (trained / "run.json").read_bytes() == before


@pytest.mark.slow
def test_audit_counts_the_phantom(place: Path, trained: Path) -> None:
    result = command("audit", *SMALL[:3], "output=audit.json", folder=place)
    assert result.returncode == 0, result.stderr
    counts = json.loads((place / "audit.json").read_text())
    assert counts["files_missing"] == 0
    assert counts["leak_patients"] > 0
    assert counts["images"] > 20
    assert counts["files"]["format"] == {"DICOM": counts["images"]}
    assert counts["warnings"] == []
    assert (place / "runs" / "audit.html").read_text().count("<figure>") == 16
    files = command("audit", "input=runs/a/figures/*.png", "sheet=null", folder=place)
    assert "format: PNG 3" in files.stdout
    predict, again = next_of(files.stdout)
    assert predict == ["mammo.predict", "run=latest", "input=runs/a/figures/*.png", "output=scores.csv"]
    assert again[1:] == ["input=runs/a/figures/*.png", "sheet=null", "output=audit.json"]
    assert "not usable: 3 files, the first is runs/a/figures/accuracy.png; it is a colour" in files.stdout
    refused = command("audit", *SMALL[:3], "sheet=audit.json/a.html", folder=place)
    assert refused.stderr.startswith("error: sheet=audit.json/a.html: its folder cannot be made (")


@pytest.mark.slow
def test_prepare_finds_the_store_of_the_training(place: Path, trained: Path) -> None:
    result = command("prepare", *SMALL[:3], folder=place)
    assert result.returncode == 0, result.stderr
    assert json.loads((trained / "run.json").read_text())["store"] in result.stdout


@pytest.fixture
def own_images(tmp_path: Path) -> pd.DataFrame:
    """Writes 24 PNG files of 12 patients to `tmp_path/images` and returns their table."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    rows = []
    for number in range(24):
        cv2.imwrite(
            str(tmp_path / "images" / f"{number}.png"), rng.integers(0, 65535, (48, 32), dtype=np.uint16)
        )
        rows.append(
            {"image_path": f"{number}.png", "patient_id": f"p{number // 2}", "label": number // 2 % 2}
        )
    return pd.DataFrame(rows)


OWN = [
    "data=csv",
    "data.root=images",
    "data.table=t.csv",
    "data.height=32",
    "data.width=32",
    "data.crop=none",
]
TRAINING = [*OWN, "optim.lr=1e-3", "trainer.max_epochs=1"]


@pytest.mark.slow
def test_a_class_without_an_image_is_refused(own_images: pd.DataFrame, tmp_path: Path) -> None:
    own_images.assign(label=0).to_csv(tmp_path / "t.csv", index=False)
    result = command("train", *TRAINING, folder=tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(
        "error: task=pathology: no image in the data is of class MALIGNANT; choose data or a split that has"
    )


@pytest.mark.slow
def test_validation_images_of_one_class_are_said(own_images: pd.DataFrame, tmp_path: Path) -> None:
    sides = own_images["patient_id"].map({"p0": "val", "p2": "val"}).fillna("train")
    own_images.assign(split=sides).to_csv(tmp_path / "t.csv", index=False)
    files = ["data.split=file", "data.split_file=t.csv"]
    result = command("train", *TRAINING, *files, "run_dir=r", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "one class: their AUC is undefined" in result.stderr
    assert json.loads((tmp_path / "r" / "run.json").read_text())["score"]["value"] is None


def test_table_without_its_columns_is_refused(own_images: pd.DataFrame, tmp_path: Path) -> None:
    own_images.rename(columns={"patient_id": "patient"}).to_csv(tmp_path / "t.csv", index=False)
    result = command("train", *TRAINING, folder=tmp_path)
    assert result.returncode == 1
    assert "patient_id" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_damaged_files_go_to_rejected_and_too_many_stop(own_images: pd.DataFrame, tmp_path: Path) -> None:
    own_images.to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "images" / "5.png").write_bytes(b"no picture")
    stopped = command("prepare", *OWN, "data.max_rejected=0.01", folder=tmp_path)
    assert stopped.returncode == 1
    assert "data.max_rejected=0.01" in stopped.stderr.splitlines()[-1]
    went_on = command("prepare", *OWN, folder=tmp_path)
    assert went_on.returncode == 0, went_on.stderr
    assert went_on.stdout.startswith("23 images prepared, 1 rejected")
    (rejected,) = tmp_path.glob("cache/store/*/rejected.csv")
    assert f"\nrejected   {rejected}\n" in went_on.stdout
    assert "5.png" in rejected.read_text()


@pytest.mark.slow
def test_the_commands_after_audit_and_prepare_train_on_real_data(
    own_images: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_images.to_csv(tmp_path / "t.csv", index=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    audited = command("audit", *OWN[:3], "sheet=null", folder=tmp_path)
    assert audited.returncode == 0, audited.stderr
    prepare, train = next_of(audited.stdout)
    assert prepare[-2:] == ["data.height=384", "data.width=384"]  # those of the experiment
    assert train[1:] == ["experiment=plain", *OWN[:3]]
    prepared = command("prepare", *OWN, folder=tmp_path)
    train, audit = next_of(prepared.stdout)
    assert audit == ["mammo.audit", *OWN]
    own = ["model.pretrained=false", "trainer.fast_dev_run=true", "run_dir=r"]
    trained = command("train", *train[1:], *own, folder=tmp_path)
    assert trained.returncode == 0, trained.stderr
    store = prepared.stdout.partition("\nstore ")[2].split()[0]
    assert json.loads((tmp_path / "r" / "run.json").read_text())["store"] == store
    whole, shown = next_of(trained.stdout)
    assert whole[1:] == [*train[1:], "model.pretrained=false"]  # in a folder of its own
    assert shown[1:] == [*whole[1:], "--cfg", "job"]
    boxes = own_images[["image_path"]].assign(x_min=2, y_min=2, x_max=9, y_max=9, pathology="BENIGN")
    boxes.to_csv(tmp_path / "l.csv", index=False)
    audited = command("audit", *OWN[:3], "data.lesions=l.csv", "sheet=null", folder=tmp_path)
    first, second = next_of(audited.stdout)
    assert first[1:] == ["experiment=patches", *OWN[:3], "data.lesions=l.csv", "run_dir=runs/patches"]
    assert second[1:3] == ["experiment=whole_from_patches", "data=csv"]
    assert "mask" not in audited.stdout  # a box for each lesion: no mask is missing


@pytest.mark.slow
def test_case_files_without_images_can_be_audited_but_not_trained(
    cbis_ddsm_files: Path, tmp_path: Path
) -> None:
    data = ["data=cbis_ddsm", f"data.root={cbis_ddsm_files}"]
    audit = command("audit", *data, "output=a.json", folder=tmp_path)
    assert audit.returncode == 0, audit.stderr
    assert json.loads((tmp_path / "a.json").read_text())["clean_test_images"] == 591
    assert "warning: no image of the table has a file; give data.root=DIR" in audit.stdout
    assert not (tmp_path / "runs" / "audit.html").exists()
    train = command("train", "experiment=plain", "model.pretrained=false", *data, folder=tmp_path)
    assert train.returncode == 1
    assert "data.max_rejected" in train.stderr.splitlines()[-1]
    assert not list((tmp_path / "runs").glob("*/run.json"))
