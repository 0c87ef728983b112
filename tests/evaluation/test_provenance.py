"""Results of an older checkpoint, other data or other settings are not used, and no test set leaks."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.commands import command, film_of
from omegaconf import OmegaConf
from sklearn.metrics import roc_auc_score

from mammo.atomic_files import write_atomically
from mammo.data.seen_patients import count_seen
from mammo.data.store.store import Store
from mammo.errors import DataError
from mammo.evaluation.evaluation_files import (
    calibration_of,
    metrics_of,
    predictions_of,
    read_evaluation,
    saved_predictions,
    write_evaluation,
)
from mammo.evaluation.model_export import facts
from mammo.evaluation.predictions import Predictions
from mammo.evaluation.scoring import open_classifier
from mammo.evaluation.split_scoring import score_split
from mammo.evaluation.statistics.calibration import Calibration, fit_calibration, fit_platt
from mammo.runs import RunFolder
from mammo.runs.provenance import (
    Provenance,
    current_provenance,
    read_provenance,
    weights_digest,
    write_scores,
)
from mammo.sweeping.search_worker import _test_run

SMALL = [
    "data.patients=40", "data.height=64", "data.width=48", "data.film_scale=2", "data.batch_size=8",
    "model=custom_cnn", "optim.lr=0.01", "trainer.precision=32-true", "report=false",
]  # fmt: skip


def run(door: str, *arguments: str, folder: Path) -> None:
    """A command that must succeed."""
    result = command(door, *arguments, folder=folder)
    assert result.returncode == 0, result.stderr


def area_in(folder: Path) -> float:
    """The AUC of the table of predictions in a folder."""
    table = pd.read_csv(folder / "predictions.csv")
    return float(roc_auc_score(table["label"] == "MALIGNANT", table["score_MALIGNANT"]))


@pytest.fixture(scope="module")
def place(place: Path) -> Path:
    """A working folder with `runs/a`, evaluated after one epoch and resumed to three, and `runs/b`."""
    run("train", *SMALL, "trainer.max_epochs=1", "run_dir=runs/a", folder=place)
    run("evaluate", "run=runs/a", "split=test", "resamples=50", folder=place)
    shutil.copytree(place / "runs" / "a", place / "runs" / "old")
    run("train", "resume=runs/a", "trainer.max_epochs=3", folder=place)
    run("train", *SMALL, "trainer.max_epochs=1", "seed=1", "run_dir=runs/b", folder=place)
    old, new = (weights_digest(RunFolder(place / "runs" / name)) for name in ("old", "a"))
    assert old != new, "the resumed training has found no better epoch"
    return place


@pytest.fixture
def stale(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A copy of the resumed run, with the evaluation of its old checkpoint."""
    monkeypatch.chdir(place)
    shutil.copytree(place / "runs" / "a", tmp_path / "a")
    return RunFolder(tmp_path / "a")


@pytest.mark.slow
def test_commands_use_no_result_of_the_checkpoint_before_the_resume(
    stale: RunFolder, place: Path, tmp_path: Path
) -> None:
    folder = stale.evaluation / "test"
    before, old = json.loads((stale.path / "calibration.json").read_text()), area_in(folder)
    runs = f"runs=[{stale.path},runs/b]"
    run("compare", runs, "split=test", f"output={tmp_path}/c", folder=place)
    assert area_in(folder) == old  # compare leaves the evaluation as it is
    run("evaluate", f"run={stale.path}", "split=test", "heatmap=none", "resamples=50", folder=place)
    after = json.loads((stale.path / "calibration.json").read_text())
    assert after["provenance"][0]["weights_sha256"] == weights_digest(stale)
    assert (after["slope"], after["intercept"]) != (before["slope"], before["intercept"])
    assert json.loads((folder / "calibration.json").read_text()) == after
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["image"]["threshold"] == after["thresholds"]["image"]
    assert (folder / "predictions.csv").read_bytes() != (
        place / "runs" / "old" / "evaluation" / "test" / "predictions.csv"
    ).read_bytes()
    found = json.loads((tmp_path / "c" / "comparison.json").read_text())
    assert found["models"][0]["auc"]["value"] == pytest.approx(area_in(folder))
    assert not (folder / "heatmaps").exists()  # nor are the old pictures in the new report
    page = (folder / "report.html").read_text()
    assert "Heatmap on image" not in page
    assert "scored images is in the training or validation set, compared by image and patient id" in page


@pytest.mark.slow
def test_saved_scores_are_read_if_all_settings_agree(stale: RunFolder, place: Path) -> None:
    right = score_split(stale, "test")
    write_evaluation(stale.evaluation / "test", predictions=right, metrics={}, calibration=None)
    saved = saved_predictions(stale, "test")
    assert saved is not None
    assert saved.samples.tolist() == right.samples.tolist()
    np.testing.assert_array_equal(saved.scores, right.scores)
    other_data = OmegaConf.create(stale.config()["data"] | {"seed": 5})
    wrong = {
        "flips": score_split(stale, "test", tta="flips"),
        "other data": score_split(stale, "test", data=other_data),
        "other split": score_split(stale, "val"),
        "older checkpoint": score_split(RunFolder(place / "runs" / "old"), "test"),
        "no record": replace(right, provenance=()),
        "cut short": right.take(np.arange(3)),
    }
    for name, predictions in wrong.items():
        write_evaluation(stale.evaluation / "test", predictions=predictions, metrics={}, calibration=None)
        assert saved_predictions(stale, "test") is None, name
    np.testing.assert_array_equal(predictions_of(stale, "test").scores, right.scores)


@pytest.mark.slow
def test_prediction_has_no_calibration_rather_than_that_of_the_old_weights(
    stale: RunFolder, place: Path, tmp_path: Path
) -> None:
    fitted = calibration_of(stale, may_score=False)  # from the scores that the training has saved
    assert fitted is not None
    assert fitted.provenance[0].weights_sha256 == weights_digest(stale)
    shutil.copy(place / "runs" / "old" / "calibration.json", stale.path)
    shutil.rmtree(stale.evaluation / "val")
    assert facts(stale, open_classifier(stale))["calibration"] is None
    path = film_of(Store.open(Path(stale.facts()["store"])).table["path"].iloc[0], place)
    arguments = [f"run={stale.path}", f"input={path}", f"output={tmp_path}/s.csv", "workers=0"]
    result = command("predict", *arguments, folder=place)
    assert result.returncode == 0, result.stderr
    assert f"python -m mammo.evaluate run={stale.path}" in result.stderr
    assert pd.read_csv(tmp_path / "s.csv")["probability"].isna().all()


@pytest.mark.slow
def test_table_and_calibration_of_two_checkpoints_are_not_combined(stale: RunFolder, place: Path) -> None:
    folder = stale.evaluation / "val"
    shutil.copy(place / "runs" / "old" / "calibration.json", folder)
    with pytest.raises(DataError, match=r"evaluate the run again, or remove calibration\.json"):
        read_evaluation(folder / "predictions.csv")
    calibration_of(stale)
    shutil.copy(stale.path / "calibration.json", folder)
    assert read_evaluation(folder / "predictions.csv")[1] == calibration_of(stale)


@pytest.mark.slow
def test_search_evaluates_again_after_a_resume(stale: RunFolder) -> None:
    folder = stale.evaluation / "test"
    assert (folder / "report.html").exists()
    assert metrics_of(stale, "test") is None
    found = _test_run(stale.path)
    assert found["value"] == pytest.approx(area_in(folder))
    written = (folder / "metrics.json").stat().st_mtime_ns
    assert _test_run(stale.path) == found
    assert (folder / "metrics.json").stat().st_mtime_ns == written


@pytest.mark.slow
def test_clean_test_is_refused_if_the_run_has_seen_its_patients(place: Path) -> None:
    choices = ["trainer.max_epochs=1", "data.split=random", "run_dir=runs/random"]
    run("train", *SMALL, *choices, folder=place)
    found = RunFolder(place / "runs" / "random")
    table = pd.read_parquet(Path(found.facts()["store"]) / "images.parquet").set_index("image_id")
    is_test = table["official_split"] == "test"
    clean = table[is_test & ~table["patient_id"].isin(table["patient_id"][~is_test])]
    counts = []
    for side in ("train", "val"):
        listed = (found.path / "split" / f"{side}.txt").read_text().splitlines()
        seen = clean[clean["patient_id"].isin(table.loc[listed, "patient_id"])]
        counts += [len(seen), seen["patient_id"].nunique()]
    result = command("evaluate", "run=runs/random", "split=clean_test", folder=place)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert (
        "of the {} images of split=clean_test, {} are of {} patients that the run was trained on and {} of "
        "{} patients that chose its best epoch (data.split=random); use split=test"
    ).format(len(clean), *counts) in result.stderr.splitlines()[-1]


@pytest.mark.slow
def test_test_split_is_refused_if_the_run_has_seen_its_patients(
    stale: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = score_split(stale, "test").provenance[0].seen
    assert checked is not None
    assert set(checked.values()) == {0}
    train, test = (stale.path / "split" / f"{side}.txt" for side in ("train", "test"))
    listed = train.read_text().splitlines()
    (image, *_) = test.read_text().splitlines()
    train.write_text("".join(f"{name}\n" for name in [*listed, image]))
    with pytest.raises(DataError, match=r"split=test, \d+ are of 1 patients that the run was trained on"):
        score_split(stale, "test")
    train.write_text("".join(f"{name}\n" for name in listed))
    pretrained = train.with_name("pretrained.txt")  # of the run that gave the initial weights
    pretrained.write_text(f"{image}\n")
    with pytest.raises(DataError, match=r"split=test, \d+ are of 1 patients that the run was trained on"):
        score_split(stale, "test")
    pretrained.unlink()
    train.write_text("".join(f"{name}\n" for name in [*listed, "of another store"]))
    with pytest.raises(DataError, match="restore the run's data"):
        score_split(stale, "test")


@pytest.mark.slow
def test_training_images_are_counted_in_the_record_and_on_the_page(stale: RunFolder, place: Path) -> None:
    run("evaluate", f"run={stale.path}", "split=all", "heatmap=none", "resamples=50", folder=place)
    folder = stale.evaluation / "all"
    patients = pd.read_csv(folder / "predictions.csv").set_index("image_id")["patient_id"]
    train = patients[patients.isin(patients[(stale.path / "split" / "train.txt").read_text().splitlines()])]
    metrics = json.loads((folder / "metrics.json").read_text())
    seen = metrics["provenance"][0]["seen"]
    assert (seen["trained_images"], seen["trained_patients"]) == (len(train), train.nunique())
    page = (folder / "report.html").read_text()
    assert f"{len(train)} are of {train.nunique()} patients of the training set" in page
    assert "not disjoint: " in page


@pytest.mark.slow
def test_other_data_are_compared_if_they_have_the_ids_of_the_run(stale: RunFolder, tmp_path: Path) -> None:
    same = OmegaConf.create(stale.config()["data"] | {"store": str(tmp_path / "stores"), "seed": 0})
    seen = score_split(stale, "train", data=same).provenance[0].seen
    assert seen is not None
    assert seen["trained_images"] > 0
    table = Store.open(Path(stale.facts()["store"])).table
    others = table.assign(image_id="other_" + table["image_id"])
    assert count_seen(stale, others, table=others, own=False) is None
    # the same patients in other images, in data that have one image in common
    mixed = pd.concat([others, table[:1]])
    seen_others = count_seen(stale, others, table=mixed, own=False)
    assert seen_others is not None
    assert seen_others == count_seen(stale, table, table=table, own=True)


@pytest.mark.slow
def test_scores_of_flips_have_a_calibration_of_their_own(stale: RunFolder, place: Path) -> None:
    arguments = ["split=test", "tta=flips", "heatmap=none", "report=false", "resamples=50"]
    run("evaluate", f"run={stale.path}", *arguments, folder=place)
    used = json.loads((stale.evaluation / "test-flips" / "calibration.json").read_text())
    flips = score_split(stale, "val", tta="flips")
    assert (used["slope"], used["intercept"]) == pytest.approx(fit_platt(flips.scores[:, 1], flips.labels))
    assert used["thresholds"] == fit_calibration(flips).thresholds
    plain = calibration_of(stale)
    assert plain is not None
    assert used["slope"] != plain.slope
    assert json.loads((stale.path / "calibration-flips.json").read_text()) == used
    assert calibration_of(stale, tta="flips") == Calibration.from_dict(used)


def test_interrupted_writing_leaves_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, record = tmp_path / "predictions.csv", Provenance("a", "b", "val", images=1)
    write_scores(file, "one", provenance=[record])
    assert read_provenance(file) == (record,)

    def fail(path: Path, content: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mammo.runs.provenance.write_atomically", fail)
    with pytest.raises(OSError, match="No space"):
        write_scores(file, "two", provenance=[record])
    assert read_provenance(file) == ()


def test_damaged_record_counts_as_none(tmp_path: Path) -> None:
    file = tmp_path / "predictions.csv"
    file.write_text("")
    for content in ("", "{", "3", "[3]", '[{"weights_sha256": "a"}]', '{"a": "b"}'):
        (tmp_path / "provenance.json").write_text(content)
        assert read_provenance(file) == ()


def test_record_changes_with_each_of_its_parts(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "run.json").write_text(json.dumps({"store": "/cache/stores/0123"}))
    best = tmp_path / "checkpoints" / "best.ckpt"
    best.write_bytes(b"one")
    folder = RunFolder(tmp_path)
    first = current_provenance(folder, split="val")
    assert first.store == "0123"
    assert first == current_provenance(folder, split="val")
    assert first != current_provenance(folder, split="val", tta="flips")
    assert first != current_provenance(folder, split="test")
    best.write_bytes(b"two")
    assert first != current_provenance(folder, split="val")


def test_a_checkpoint_is_read_again_only_after_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, reads = RunFolder(tmp_path), 0
    run.checkpoints.mkdir()
    digest = hashlib.file_digest

    def counted(*arguments: Any) -> Any:
        nonlocal reads
        reads += 1
        return digest(*arguments)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    for number, content in enumerate((b"first", b"other"), start=1):
        write_atomically(run.checkpoints / "best.ckpt", content)
        assert {weights_digest(run) for _ in range(3)} == {hashlib.sha256(content).hexdigest()}
        assert reads == number


def test_figures_of_an_earlier_evaluation_are_removed_and_a_users_are_not(tmp_path: Path) -> None:
    predictions = Predictions(pd.DataFrame({"image_id": ["a"]}), ("BENIGN", "MALIGNANT"), "test")
    for name in ("flow.svg", "roc.png"):
        (tmp_path / "ours" / "figures").mkdir(parents=True, exist_ok=True)
        (tmp_path / "ours" / "figures" / name).write_text("")
    (tmp_path / "theirs" / "figures").mkdir(parents=True)
    (tmp_path / "theirs" / "figures" / "roc.png").write_text("")
    for name in ("ours", "theirs"):
        write_evaluation(tmp_path / name, predictions=predictions, metrics={}, calibration=None)
    assert not (tmp_path / "ours" / "figures").exists()
    assert (tmp_path / "theirs" / "figures" / "roc.png").exists()
