"""`python -m mammo.predict` from the user's side: real commands on files without labels."""

import json
import re
import shutil
import signal
import subprocess
import time
import weakref
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
import yaml
from helpers.commands import command, film_of, next_of, start

from mammo import open_run
from mammo.data.images.dicom import read_stored
from mammo.data.store.store import Store
from mammo.data.store.store_building import Settings
from mammo.evaluation.prediction import file_scoring as predicting
from mammo.evaluation.prediction.input_files import Files, exam_and_breast, find_files, prepare_files
from mammo.evaluation.prediction.prediction_log import PredictionLog
from mammo.evaluation.predictions import read_predictions
from mammo.evaluation.scoring import Scores, open_classifier
from mammo.evaluation.statistics.calibration import Calibration
from mammo.runs import RunFolder
from mammo.runs.provenance import current_provenance

SMALL = ["data.patients=20", "data.height=64", "data.width=48", "data.film_scale=2", "data.batch_size=8"]
FAST = ["model=custom_cnn", "trainer.max_epochs=1", "trainer.precision=32-true", "report=false"]
SCORES = ["score_BENIGN", "score_MALIGNANT"]


def predict(*arguments: str, folder: Path) -> str:
    """Standard error of a command that must succeed."""
    result = command("predict", *arguments, folder=folder)
    assert result.returncode == 0, result.stderr
    return result.stderr


def table(file: Path) -> pd.DataFrame:
    return pd.read_csv(file).set_index("path")


@pytest.fixture(scope="module")
def place(place: Path) -> Path:
    """A working folder with the finished run `runs/a` and its own store of films in this folder."""
    (place / "cache").unlink()
    result = command("train", *SMALL, *FAST, "run_dir=runs/a", folder=place)
    assert result.returncode == 0, result.stderr
    run = place / "runs" / "a"
    calibration = {
        "classes": ["BENIGN", "MALIGNANT"], "method": "platt", "slope": 0.7, "intercept": -0.2,
        "rule": "youden", "target": None, "thresholds": {}, "images": 4, "source": "val",
        "provenance": [current_provenance(RunFolder(run), split="val").to_dict()],
    }  # fmt: skip
    scores = pd.read_csv(run / "evaluation" / "val" / "predictions.csv")["score_MALIGNANT"]
    calibration["thresholds"] = {"image": scores.median()}  # images are on both sides of it
    (run / "calibration.json").write_text(json.dumps(calibration))
    return place


@pytest.fixture(scope="module")
def names(place: Path) -> dict[str, str]:
    """Copies the validation images to `exams/` under new names; maps each name to its image."""
    run = place / "runs" / "a"
    images = Store.open(Path(json.loads((run / "run.json").read_text())["store"])).table
    wanted = (run / "split" / "val.txt").read_text().split()
    chosen = images[images["image_id"].isin(wanted)]
    (place / "exams" / "b").mkdir(parents=True)
    found = {}
    for number, (image, path) in enumerate(zip(chosen["image_id"], chosen["path"], strict=True)):
        name = f"{'b/' if number % 2 else ''}{number}.dcm"
        shutil.copy(film_of(path, place), place / "exams" / name)
        found[name] = image
    return found


@pytest.fixture(scope="module")
def scored(place: Path, names: dict[str, str]) -> pd.DataFrame:
    """The predictions of `exams/`, which also contains damaged files, other files and the table."""
    exams = place / "exams"
    (exams / "cut.dcm").write_bytes((exams / "0.dcm").read_bytes()[:5000])
    (exams / "note.txt").write_text("no image")
    (exams / ".hidden").write_text("no image")
    breast = np.clip(np.linspace(60000, -20000, 200), 0, 60000).astype(np.uint16)[None].repeat(300, 0)
    for suffix, pixels in (("png", breast), ("tif", breast), ("pgm", breast), ("jpg", breast // 257)):
        eight = pixels.astype(np.uint8) if suffix == "jpg" else pixels
        assert cv2.imwrite(str(exams / f"plain.{suffix}"), eight)
    for name in ("A_LEFT_CC.png", "A_LEFT_MLO.png", "A_RIGHT_CC.png", "b/A_LEFT_CC.png"):
        shutil.copy(exams / "plain.png", exams / name)
    predict(
        "run=runs/a", "input=exams", "output=exams/s.csv", "heatmaps=exams/heat", "workers=1", folder=place
    )
    return table(exams / "s.csv")


@pytest.mark.slow
def test_scores_are_those_of_the_evaluation(scored: pd.DataFrame, names: dict[str, str], place: Path) -> None:
    evaluated = pd.read_csv(place / "runs/a/evaluation/val/predictions.csv").set_index("image_id")
    assert len(names) > 3
    for path, image in names.items():
        row, expected = scored.loc[path], evaluated.loc[image]
        assert row[SCORES].tolist() == pytest.approx(expected[SCORES].tolist(), abs=1e-6)
        assert row[["laterality", "view"]].tolist() == expected[["laterality", "view"]].tolist()


@pytest.mark.slow
def test_probability_and_class_are_by_what_the_run_fixed(
    scored: pd.DataFrame, names: dict[str, str], place: Path
) -> None:
    run = place / "runs" / "a"
    fixed = Calibration.from_dict(json.loads((run / "calibration.json").read_text()))
    calibrated = fixed.apply(read_predictions(run / "evaluation" / "val" / "predictions.csv"))
    expected = dict(zip(calibrated.samples, calibrated.malignancy, strict=True))
    rows = scored.loc[list(names)]
    assert rows["probability"].tolist() == pytest.approx(
        [expected[image] for image in names.values()], abs=1e-6
    )
    called = np.where(rows["score_MALIGNANT"] >= fixed.thresholds["image"], "MALIGNANT", "BENIGN")
    assert rows["class"].tolist() == called.tolist()
    assert set(called) == {"BENIGN", "MALIGNANT"}


@pytest.mark.slow
def test_every_file_has_a_row(scored: pd.DataFrame, names: dict[str, str]) -> None:
    pictures = [f"plain.{suffix}" for suffix in ("png", "tif", "pgm", "jpg")]
    others = ["A_LEFT_CC.png", "A_LEFT_MLO.png", "A_RIGHT_CC.png", "b/A_LEFT_CC.png", "cut.dcm", "note.txt"]
    assert sorted(scored.index) == sorted([*names, *pictures, *others])
    assert scored["error"].notna().sum() == 2
    assert scored.loc["cut.dcm", SCORES].isna().all()
    assert "note.txt" not in scored.loc["note.txt", "error"]
    assert scored.loc["note.txt", "error"].startswith("is not an image")
    assert scored.loc[pictures, "score_MALIGNANT"].to_numpy() == pytest.approx(
        np.full(4, scored.loc["plain.png", "score_MALIGNANT"]), abs=1e-3
    )
    assert scored.loc[pictures, ["laterality", "view", "breast"]].isna().all(axis=None)


@pytest.mark.slow
def test_images_of_a_breast_share_a_score(scored: pd.DataFrame, names: dict[str, str]) -> None:
    breasts = {name: image.rsplit("_", 1)[0] for name, image in names.items()}
    breasts |= {"A_LEFT_CC.png": "x", "A_LEFT_MLO.png": "x", "A_RIGHT_CC.png": "y", "b/A_LEFT_CC.png": "z"}
    known = scored.loc[list(breasts)]
    assert known["breast"].groupby(known.index.map(breasts)).nunique().eq(1).all()
    assert known["breast"].nunique() == len(set(breasts.values())) < len(breasts)
    assert known["breast"].min() == 1
    assert known["breast"].max() == known["breast"].nunique()
    mean = known.groupby("breast")["score_MALIGNANT"].transform("mean")
    assert known["breast_score"].to_numpy() == pytest.approx(mean.to_numpy())


@pytest.mark.slow
def test_nothing_of_the_headers_identifiers_is_written(
    scored: pd.DataFrame, names: dict[str, str], place: Path
) -> None:
    written = (place / "exams" / "s.csv").read_text() + (place / "exams" / "s.csv.json").read_text()
    for name in names:
        header = pydicom.dcmread(place / "exams" / name, stop_before_pixels=True)
        for key in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            assert str(header[key].value) not in written


@pytest.mark.slow
def test_each_readable_image_has_a_picture(scored: pd.DataFrame, place: Path) -> None:
    folder = place / "exams" / "heat"
    pictures = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    written = [f"{path}.jpg" for path in scored.index[scored["error"].isna()]]
    assert pictures == sorted([*written, "heat.json"])
    assert cv2.imread(str(folder / "0.dcm.jpg")).shape[1] == 480


@pytest.mark.slow
def test_only_what_is_new_is_scored(scored: pd.DataFrame, place: Path) -> None:
    """A breast's other view is added, a damaged file repaired, a file deleted, and a heatmap missing."""
    exams = place / "exams"
    shutil.copy(exams / "plain.png", exams / "A_RIGHT_MLO.png")
    shutil.copy(exams / "0.dcm", exams / "cut.dcm")
    (exams / "A_LEFT_CC.png").unlink()
    (exams / "heat" / "plain.png.jpg").unlink()
    arguments = ["run=runs/a", "input=exams", "output=exams/s.csv", "heatmaps=exams/heat", "workers=0"]
    told = predict(*arguments, folder=place)
    assert f"{len(scored) - 4} of {len(scored)} files are already scored" in told
    assert (exams / "heat" / "plain.png.jpg").exists()
    again = table(exams / "s.csv")
    kept = scored.index[scored["error"].isna()]
    assert sorted(again.index) == sorted([*scored.index, "A_RIGHT_MLO.png"])
    assert again.loc[kept, SCORES].to_numpy() == pytest.approx(scored.loc[kept, SCORES].to_numpy(), abs=1e-6)
    assert again["error"].notna().sum() == 1
    assert again.loc["cut.dcm", "breast"] == again.loc["0.dcm", "breast"]
    assert again.loc["A_RIGHT_MLO.png", "breast"] == again.loc["A_RIGHT_CC.png", "breast"]
    assert again.loc["A_LEFT_CC.png", "breast"] == again.loc["A_LEFT_MLO.png", "breast"]
    # only the unreadable file is read again, and the table does not change
    content = (exams / "s.csv").read_bytes()
    predict(*arguments, folder=place)
    assert (exams / "s.csv").read_bytes() == content


@pytest.mark.slow
def test_real_mammograms_by_a_run_without_calibration(real_dicoms: Path, place: Path) -> None:
    shutil.copytree(place / "runs" / "a", place / "runs" / "plain")
    (place / "runs" / "plain" / "calibration.json").unlink()
    shutil.rmtree(place / "runs" / "plain" / "evaluation")
    arguments = ["run=runs/plain", f"input={real_dicoms}/**/*.dcm", "output=real.csv", "workers=1"]
    assert predict(*arguments, folder=place).count("calibration.json") == 1
    real = table(place / "real.csv")
    assert len(real) == 8
    assert real["error"].isna().all()
    assert real["probability"].isna().all()
    called = np.where(real["score_MALIGNANT"] >= 0.5, "MALIGNANT", "BENIGN")
    assert real["class"].tolist() == called.tolist()
    assert real[SCORES].sum(axis=1).to_numpy() == pytest.approx(np.ones(8))
    assert real["breast"].value_counts().eq(2).all()
    for _, breast in real.groupby("breast"):
        assert breast["laterality"].nunique() == 1
        assert set(breast["view"]) == {"CC", "MLO"}
        assert breast["breast_score"].to_numpy() == pytest.approx(
            np.full(2, breast["score_MALIGNANT"].mean())
        )


@pytest.mark.slow
def test_crops_and_masks_are_scored_only_if_wanted(names: dict[str, str], place: Path) -> None:
    """A folder as of CBIS-DDSM and files of other names, which have the patient ID of a lesion."""
    run = place / "runs" / "a"
    folder = Path(json.loads((run / "run.json").read_text())["store"])
    first = film_of(Store.open(folder).table["path"].iloc[0], place)
    release = next(parent for parent in first.parents if parent.name == "CBIS-DDSM")
    crops = [file for file in release.rglob("*.dcm") if re.search(r"_\d$", file.parts[len(release.parts)])]
    tree = place / "tree"
    wanted = [(first, "film.dcm"), (crops[0], crops[0].relative_to(release)), (crops[1], "renamed.dcm")]
    for source, name in wanted:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, tree / name)
    arguments = ["run=runs/a", "input=tree", "output=tree.csv", "workers=0"]
    result = command("predict", *arguments, folder=place)
    assert result.stdout.splitlines()[:2] == [
        "1 images scored, 0 unreadable",
        "2 files are cropped images or lesion masks of CBIS-DDSM and are not scored; secondary=true scores "
        "them",
    ]
    again_with_page, evaluate = next_of(result.stdout)
    assert again_with_page == ["mammo.predict", *arguments, "outputs=[csv,html]"]
    assert evaluate == ["mammo.evaluate", "run=runs/a", "split=test"]
    found = table(place / "tree.csv")
    assert found["error"].isna().tolist() == [name == "film.dcm" for name in found.index]
    predict(*arguments, "secondary=true", folder=place)
    again = table(place / "tree.csv")
    assert not again["error"].astype(str).str.contains("CBIS-DDSM").any()
    assert again.loc["film.dcm", SCORES].tolist() == found.loc["film.dcm", SCORES].tolist()
    assert len(open_run(run).predict(str(tree)).dropna(subset="score_BENIGN")) == 1


@pytest.mark.slow
def test_files_of_another_kind_than_those_of_the_training_are_warned_of(place: Path) -> None:
    """The same film with 12 of 16 bits has nearly the same score, not that of a black image."""
    run = RunFolder(place / "runs" / "a")
    kinds = run.facts()["kinds"]
    assert {name: (kind["black"], kind["white"]) for name, kind in kinds.items()} == {
        "DICOM, 16 bits": (0, 65535)
    }
    films = Store.open(Path(run.facts()["store"])).table["path"]
    folder = place / "kinds"
    folder.mkdir()
    for number in range(3):
        film = film_of(films.iloc[number], place)
        shutil.copy(film, folder / f"{number}.dcm")
        cv2.imwrite(str(folder / f"{number}.png"), read_stored(film) >> 4)
    said = predict("run=runs/a", "input=kinds", "output=kinds.csv", "workers=0", folder=place)
    assert (
        "warning: 3 images: is of a kind of file that is not among the training images (PNG, 16 bits)\n"
        "warning: 3 images: its white point is 4095, by its own values\n"
    ) in said
    scores = table(place / "kinds.csv")["score_MALIGNANT"]
    for number in range(3):
        assert scores[f"{number}.png"] == pytest.approx(scores[f"{number}.dcm"], abs=1e-3)
    of_films = predict("run=runs/a", "input=kinds/*.dcm", "output=films.csv", "workers=0", folder=place)
    assert "warning" not in of_films


@pytest.mark.slow
def test_a_killed_command_goes_on_where_it_was(place: Path) -> None:
    folder = place / "many"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        pattern = cv2.resize(rng.integers(0, 20000, (6, 4), dtype=np.uint16), (1000, 1500))
        pixels = pattern + rng.integers(0, 10000, pattern.shape, dtype=np.uint16)
        pixels[:, : 100 + 10 * number] += 30000
        cv2.imwrite(str(folder / f"{number:02d}.png"), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    arguments = ["run=runs/a", "input=many", "batch_size=2"]
    partial = place / "killed.csv.partial"
    killed = [*arguments, "workers=1", "output=killed.csv"]
    process = start("predict", *killed, folder=place, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not partial.exists() or partial.read_bytes().count(b"\n") < 5:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (place / "killed.csv").exists()
    whole = partial.read_bytes().rpartition(b"\n")[0].count(b"\n")  # the first line is not an image
    assert 4 <= whole < 40
    with partial.open("ab") as file:
        file.write(b'{"path": "39.png", "sco')  # what a kill may leave
    told = predict(*arguments, "workers=0", "output=killed.csv", folder=place)
    assert f"{whole} of 40 files are already scored" in told
    assert not partial.exists()
    found = table(place / "killed.csv")
    assert found.index.tolist() == [f"{number:02d}.png" for number in range(40)]
    assert found["score_MALIGNANT"].nunique() > 30  # an exchange of two files would show
    data = yaml.safe_load((place / "runs" / "a" / "config.yaml").read_text())["data"]
    settings = Settings(*(data[key] for key in ("height", "width", "crop", "aspect")), "uint16", False)
    images = [pixels for _, pixels in prepare_files(folder, found.index, settings=settings)]
    with torch.no_grad():
        logits = open_classifier(RunFolder(place / "runs" / "a"))(
            torch.from_numpy(np.stack(images)[:, None] / 65535).float()
        )
    assert found[SCORES].to_numpy() == pytest.approx(logits.softmax(1).numpy(), abs=1e-6)


@pytest.fixture(scope="module")
def mistakes(place: Path) -> Path:
    """The working folder with the files of the mistakes below."""
    for folder in ("runs/unfinished", "empty/.git", "few"):
        (place / folder).mkdir(parents=True)
    shutil.copy(place / "runs/a/run.json", place / "runs/unfinished/run.json")
    (place / "runs/unfinished/config.yaml").write_text(yaml.safe_dump({"task": {"name": "pathology"}}))
    (place / "empty/.git/x").write_text("hidden")
    (place / "few/x.png").write_bytes(b"\x89PNG")
    (place / "own.csv").write_text("a,b\n1,2\n")
    (place / "own.csv.json").write_text("{")
    (place / "other.csv.partial").write_text('{"input": "elsewhere"}\n{"path": "x"}\n')
    return place


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        ({"run": "runs"}, "run=runs: holds no run"),
        (
            {"run": "runs/unfinished"},
            "best.ckpt is not there; python train.py resume=runs/unfinished writes it",
        ),
        ({"input": "empty"}, "input=empty: no file there"),
        ({"input": "few/*.dcm"}, "input=few/*.dcm: no file there"),
        ({"input": ""}, "input has no value"),
        ({"output": "nowhere/s.csv"}, "output=nowhere/s.csv: its folder does not exist"),
        ({"output": "empty"}, "output=empty: is a folder"),
        ({"output": "own.csv"}, "own.csv is not a table of scores of this run for this input"),
        ({"output": "other.csv"}, "other.csv.partial is not a table of scores of this run"),
        ({"batch_size": "0"}, "batch_size=0: must be at least 1"),
        ({"table": "own.csv"}, "table=own.csv: groups images into breasts or exams, but the run scores each"),
    ],
)
def test_mistake_is_told_in_one_sentence(mistake: dict[str, str], sentence: str, mistakes: Path) -> None:
    arguments = {"run": "runs/a", "input": "few", "output": "mistake.csv"} | mistake
    result = command("predict", *(f"{key}={value}" for key, value in arguments.items()), folder=mistakes)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert (mistakes / "own.csv").read_text() == "a,b\n1,2\n"


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    identity = {"weights_sha256": "0", "input": "here"}
    first = PredictionLog(tmp_path / "s.csv", identity=identity, read=list)
    with pytest.raises(Exception, match="another process writes it"):
        PredictionLog(tmp_path / "s.csv", identity=identity, read=list)
    first.close()


def test_memory_holds_a_batch_however_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive, most = 0, 0

    def ended() -> None:
        nonlocal alive
        alive -= 1

    def prepared(root: Path, paths: list[str], **_: Any) -> list[Any]:
        nonlocal alive, most
        batch = []
        for path in paths:
            pixels = np.zeros((8, 8), np.uint16)
            weakref.finalize(pixels, ended)
            alive += 1
            batch.append(({"path": path, "breast": None, "scores": None, "error": None}, pixels))
        most = max(most, alive)
        return batch

    monkeypatch.setattr(predicting, "prepare_files", prepared)
    files = Files(tmp_path, [f"{number}.png" for number in range(400)])
    journal = PredictionLog(tmp_path / "s.csv", identity={"weights_sha256": "0", "input": "here"}, read=list)
    predicting.score_files(
        files,
        files.paths,
        journal,
        network=lambda: (lambda images: Scores(torch.full((len(images), 2), 0.5)), None),
        settings=Settings(8, 8, "none", "keep", "uint16", False),
        workers=0,
        batch_size=4,
    )
    assert len(list(journal.rows())) == 400
    assert most <= 3 * 4


def dicom(file: Path, **elements: str) -> Path:
    header = pydicom.Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    header.SOPClassUID, header.SOPInstanceUID = "1.2.3", "1.2.3.4"
    for key, value in elements.items():
        setattr(header, key, value)
    header.save_as(file, enforce_file_format=True)
    return file


def test_a_breast_is_a_side_of_a_study(tmp_path: Path) -> None:
    one = dicom(tmp_path / "1", PatientID="p", StudyInstanceUID="1.2.9")
    same = dicom(tmp_path / "2", PatientID="p", StudyInstanceUID="1.2.9")
    later = dicom(tmp_path / "3", PatientID="p", StudyInstanceUID="1.2.10")
    exam, left = exam_and_breast(one, "LEFT")
    assert exam_and_breast(same, "LEFT") == (exam, left)
    assert left is not None
    assert exam is not None
    assert exam_and_breast(one, "RIGHT")[0] == exam
    assert exam_and_breast(one, "RIGHT")[1] not in (None, left)
    assert exam not in exam_and_breast(later, "LEFT")
    assert left not in exam_and_breast(later, "LEFT")
    assert exam_and_breast(one, None) == (exam, None)
    assert exam_and_breast(dicom(tmp_path / "4"), "LEFT") == (None, None)
    assert exam_and_breast(tmp_path / "removed", "LEFT") == (None, None)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.png").write_text("")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "y.png").write_text("")
    (tmp_path / "a" / "linked").symlink_to(tmp_path / "elsewhere")
    assert find_files(str(tmp_path / "a")).paths == ["b/x.png", "linked/y.png"]
