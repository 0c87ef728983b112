"""Results of an older checkpoint, other data or other settings are not used, and no test set leaks."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.commands import command
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from mammo.runs import RunFolder
from mammo.runs.provenance import Provenance, current_provenance, read_provenance, weights_digest, write_scores

SMALL = [
    "data.patients=40", "data.height=64", "data.width=48", "data.film_scale=2", "data.batch_size=8",
    "model=custom_cnn", "trainer.precision=float32", "report=false",
]  # fmt: skip
QUICK = ["heatmap=none", "report=false", "resamples=50"]


def run(door: str, *arguments: str, folder: Path) -> str:
    """Standard output of a command that must succeed."""
    result = command(door, *arguments, folder=folder)
    assert result.returncode == 0, result.stderr
    return result.stdout


def refused(door: str, *arguments: str, folder: Path) -> str:
    """The error message of a command that must fail."""
    result = command(door, *arguments, folder=folder)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    return result.stderr.splitlines()[-1]


def metrics_in(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def area_in(file: Path) -> float:
    table = pd.read_csv(file)
    return float(roc_auc_score(table["label"] == "MALIGNANT", table["score_MALIGNANT"]))


@pytest.fixture(scope="module")
def place(place: Path) -> Path:
    """A working folder with `runs/a`, evaluated after one epoch and resumed to three, and `runs/b`."""
    run("train", *SMALL, "trainer.max_epochs=1", "run_dir=runs/a", folder=place)
    for split in ("val", "test"):
        run("evaluate", "run=runs/a", f"split={split}", *QUICK, folder=place)
    run("evaluate", "run=runs/a", "split=test", "report=true", "resamples=50", folder=place)
    shutil.copytree(place / "runs" / "a", place / "runs" / "old")
    run("train", "resume=runs/a", "trainer.max_epochs=3", folder=place)
    run("train", *SMALL, "trainer.max_epochs=1", "seed=1", "run_dir=runs/b", folder=place)
    return place


@pytest.fixture
def stale(place: Path, tmp_path: Path) -> RunFolder:
    """A copy of the resumed run, with the evaluation of its old checkpoint."""
    shutil.copytree(place / "runs" / "a", tmp_path / "a")
    old, new = RunFolder(place / "runs" / "old"), RunFolder(tmp_path / "a")
    assert weights_digest(old) != weights_digest(new), "the resumed training has not found a better epoch"
    return new


@pytest.mark.slow
def test_calibration_is_fitted_again_after_a_resume(stale: RunFolder, place: Path) -> None:
    before = json.loads((stale.path / "calibration.json").read_text())
    run("evaluate", f"run={stale.path}", "split=test", *QUICK, folder=place)
    after = json.loads((stale.path / "calibration.json").read_text())
    assert after["provenance"][0]["weights_sha256"] == weights_digest(stale)
    assert (after["slope"], after["intercept"]) != (before["slope"], before["intercept"])
    assert metrics_in(stale.evaluation / "test")["image"]["threshold"] == after["thresholds"]["image"]
    for scored in (stale.evaluation / "test", stale.path):
        assert json.loads((scored / "calibration.json").read_text()) == after


@pytest.mark.slow
def test_comparison_scores_again_after_a_resume(stale: RunFolder, place: Path, tmp_path: Path) -> None:
    old = area_in(stale.evaluation / "test" / "predictions.csv")
    runs = f"runs=[{stale.path},runs/b]"
    run("compare", runs, "split=test", "resamples=50", f"output={tmp_path}/one", folder=place)
    run("evaluate", f"run={stale.path}", "split=test", *QUICK, folder=place)
    new = area_in(stale.evaluation / "test" / "predictions.csv")
    assert abs(new - old) > 1e-6
    run("compare", runs, "split=test", "resamples=50", f"output={tmp_path}/two", folder=place)
    for name in ("one", "two"):  # scored again, and read from the new evaluation
        found = json.loads((tmp_path / name / "comparison.json").read_text())
        assert found["models"][0]["auc"]["value"] == pytest.approx(new)


@pytest.mark.slow
@pytest.mark.parametrize("change", ["other_data", "flips", "other_split", "no_record"])
def test_comparison_reads_no_table_of_other_settings(
    change: str, stale: RunFolder, place: Path, tmp_path: Path
) -> None:
    folder = stale.evaluation / "test"
    run("evaluate", f"run={stale.path}", "split=test", *QUICK, folder=place)
    right = area_in(folder / "predictions.csv")
    other = {
        "other_data": ["split=test", "data=phantom", "data.patients=40", "data.seed=5", "data.film_scale=2"],
        "flips": ["split=test", "tta=flips"],
        "other_split": ["split=val"],
        "no_record": ["split=test"],
    }[change]
    run("evaluate", f"run={stale.path}", *other, *QUICK, f"output={folder}", folder=place)
    if change == "no_record":  # a table of an older version
        (folder / "provenance.json").unlink()
        table = pd.read_csv(folder / "predictions.csv")
        table[["score_BENIGN", "score_MALIGNANT"]] = table[["score_MALIGNANT", "score_BENIGN"]].to_numpy()
        table.to_csv(folder / "predictions.csv", index=False)
    arguments = [f"runs=[{stale.path},runs/b]", "split=test", "resamples=50", f"output={tmp_path}/c"]
    run("compare", *arguments, folder=place)
    found = json.loads((tmp_path / "c" / "comparison.json").read_text())
    assert found["models"][0]["auc"]["value"] == pytest.approx(right)


@pytest.mark.slow
def test_prediction_and_export_use_the_calibration_of_the_current_weights(
    stale: RunFolder, place: Path, tmp_path: Path
) -> None:
    store = json.loads((stale.path / "run.json").read_text())["store"]
    table = pd.read_parquet(Path(store) / "images.parquet")
    arguments = [f"run={stale.path}", f"input={place / table['path'].iloc[0]}", "workers=0"]
    run("predict", *arguments, f"output={tmp_path}/s.csv", folder=place)
    fixed = json.loads((tmp_path / "s.csv.json").read_text())["calibration"]
    assert fixed["provenance"][0]["weights_sha256"] == weights_digest(stale)
    # without current validation scores, there is no calibration rather than the old one
    shutil.copy(place / "runs" / "old" / "calibration.json", stale.path)
    shutil.rmtree(stale.evaluation / "val")
    result = command("predict", *arguments, f"output={tmp_path}/t.csv", folder=place)
    assert result.returncode == 0, result.stderr
    assert f"python -m mammo.evaluate run={stale.path}" in result.stderr
    assert pd.read_csv(tmp_path / "t.csv")["probability"].isna().all()


@pytest.mark.slow
def test_table_and_calibration_of_two_checkpoints_are_not_combined(stale: RunFolder, place: Path) -> None:
    # the resumed training wrote a new table beside the calibration of the earlier evaluation
    said = refused("evaluate", f"predictions={stale.evaluation}/val/predictions.csv", folder=place)
    assert "evaluate the run again, or remove calibration.json" in said


@pytest.mark.slow
def test_new_evaluation_leaves_no_picture_of_the_old_one(stale: RunFolder, place: Path) -> None:
    folder = stale.evaluation / "test"
    assert (folder / "heatmaps" / "gallery.json").exists()
    arguments = ["split=test", "heatmap=none", "resamples=50"]
    run("evaluate", f"run={stale.path}", *arguments, folder=place)
    assert not (folder / "heatmaps").exists()
    assert "Heatmap on image" not in (folder / "report.html").read_text()


@pytest.mark.slow
def test_search_evaluates_again_after_a_resume(
    stale: RunFolder, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mammo.sweeping.search_worker import _test_run

    monkeypatch.chdir(place)
    old = metrics_in(stale.evaluation / "test")
    found = _test_run(stale.path)
    assert metrics_in(stale.evaluation / "test")["provenance"] != old["provenance"]
    assert found["value"] == pytest.approx(area_in(stale.evaluation / "test" / "predictions.csv"))
    written = (stale.evaluation / "test" / "metrics.json").stat().st_mtime_ns
    assert _test_run(stale.path) == found
    assert (stale.evaluation / "test" / "metrics.json").stat().st_mtime_ns == written


@pytest.mark.slow
@pytest.mark.parametrize("split", ["random", "file"])
def test_clean_test_is_refused_if_the_run_has_seen_its_patients(split: str, place: Path) -> None:
    choice = [f"data.split={split}"]
    if split == "file":
        choice.append(f"data.split_file={place}/runs/random/split")
    run("train", *SMALL, "trainer.max_epochs=1", *choice, f"run_dir=runs/{split}", folder=place)
    found = RunFolder(place / "runs" / split)
    table = pd.read_parquet(Path(found.facts()["store"]) / "images.parquet").set_index("image_id")
    development = table[table["official_split"] != "test"]["patient_id"]
    clean = table[(table["official_split"] == "test") & ~table["patient_id"].isin(development)]
    lists = {name: (found.path / "split" / f"{name}.txt").read_text().splitlines() for name in ("train", "val")}
    seen = {name: clean[clean["patient_id"].isin(table.loc[ids, "patient_id"])] for name, ids in lists.items()}
    said = refused("evaluate", f"run=runs/{split}", "split=clean_test", *QUICK, folder=place)
    trained, chosen = (
        f"{len(part)} are of {part['patient_id'].nunique()} patients" for part in seen.values()
    )
    assert f"of the {len(clean)} images of split=clean_test, {trained}" in said
    assert chosen.replace("are of", "of") in said
    assert "use split=test" in said
    run("evaluate", f"run=runs/{split}", "split=test", *QUICK, folder=place)
    checked = metrics_in(found.evaluation / "test")["provenance"][0]["seen"]
    assert set(checked.values()) == {0}


@pytest.mark.slow
def test_report_counts_the_patients_that_the_run_has_seen(stale: RunFolder, place: Path) -> None:
    arguments = ["heatmap=none", "resamples=50"]
    run("evaluate", f"run={stale.path}", "split=all", *arguments, folder=place)
    everything = metrics_in(stale.evaluation / "all")
    table = pd.read_csv(stale.evaluation / "all" / "predictions.csv").set_index("image_id")["patient_id"]
    train = table[table.isin(table[(stale.path / "split" / "train.txt").read_text().splitlines()])]
    seen = everything["provenance"][0]["seen"]
    assert seen["trained_images"] == len(train) > 0
    assert seen["trained_patients"] == train.nunique()
    page = (stale.evaluation / "all" / "report.html").read_text()
    counts = f"{len(train)} are of {train.nunique()} patients of the training set"
    assert counts in page
    assert "not disjoint, see Leak check" in page
    run("evaluate", f"run={stale.path}", "split=test", *arguments, folder=place)
    assert "0 are of 0 patients of the training set" in (stale.evaluation / "test" / "report.html").read_text()


@pytest.mark.slow
def test_same_release_in_another_folder_is_recognised(stale: RunFolder, place: Path) -> None:
    same = ["data=phantom", *[key for key in SMALL[:4] if key.startswith("data.")], "data.store=other"]
    run("evaluate", f"run={stale.path}", "split=train", *same, *QUICK, folder=place)
    found = metrics_in(stale.evaluation / "train-phantom")
    seen = found["provenance"][0]["seen"]
    assert seen["trained_images"] > 0
    assert any("that the run was trained on" in note for note in found["notes"])


@pytest.mark.slow
def test_scores_of_flips_have_a_calibration_of_their_own(stale: RunFolder, place: Path) -> None:
    for split in ("val", "test"):
        run("evaluate", f"run={stale.path}", f"split={split}", "tta=flips", *QUICK, folder=place)
    table = pd.read_csv(stale.evaluation / "val-flips" / "predictions.csv")
    label, score = (table["label"] == "MALIGNANT").to_numpy(int), table["score_MALIGNANT"].to_numpy()
    logit = np.log(score / (1 - score))[:, None]
    positives, negatives = label.sum(), (1 - label).sum()
    weights = np.concatenate(
        [np.where(label == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))] * 2
    )
    weights[len(label) :] = 1 - weights[len(label) :]
    fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        np.concatenate([logit, logit]), np.repeat([1, 0], len(label)), sample_weight=weights
    )
    used = metrics_in(stale.evaluation / "test-flips")["method"]["calibration"]
    assert used["slope"] == pytest.approx(max(fitted.coef_[0, 0], 0), rel=1e-3, abs=1e-6)
    assert used["provenance"][0]["tta"] == "flips"
    assert metrics_in(stale.evaluation / "test-flips")["image"]["threshold"] == used["thresholds"]["image"]


@pytest.mark.slow
def test_ensemble_is_calibrated_on_its_own_validation_scores_or_not_at_all(place: Path) -> None:
    both = "run=[runs/old,runs/b]"
    for split in ("val", "test"):
        run("evaluate", both, f"split={split}", "resamples=50", f"output=both/{split}", folder=place)
    # the runs share their validation images, so the mean scores of these images are the calibrated ones
    val, test = (metrics_in(place / "both" / split)["method"]["calibration"] for split in ("val", "test"))
    assert test == val
    assert test["images"] == metrics_in(place / "both" / "val")["n"]["images"]
    for fold in range(2):
        folds = ["data.split=kfold", "data.folds=2", f"data.fold={fold}", "trainer.max_epochs=1"]
        run("train", *SMALL, *folds, f"run_dir=runs/cv/{fold}", folder=place)
    folds_run = "run=[runs/cv/0,runs/cv/1]"
    run("evaluate", folds_run, "split=test", "resamples=50", "output=cv", folder=place)
    found = metrics_in(place / "cv")
    assert found["method"]["calibration"] is None
    assert "brier_calibrated" not in found["image"]
    assert found["image"]["threshold"] == 0.5
    assert any("not calibrated" in note for note in found["notes"])
    run("evaluate", folds_run, "split=val", "resamples=50", "output=oof", folder=place)
    assert metrics_in(place / "oof")["method"]["calibration"] is not None


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
