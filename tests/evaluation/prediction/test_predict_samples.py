"""`python -m mammo.predict` with runs of breasts and exams: files become samples, each with a row."""

import json
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
from helpers.commands import command, film_of, start

from mammo import open_run
from mammo.data.store.store import Store
from mammo.data.store.store_building import Settings
from mammo.errors import DataError
from mammo.evaluation.prediction import sample_scoring
from mammo.evaluation.prediction.input_files import SECONDARY, Files, find_files
from mammo.evaluation.prediction.sample_inputs import InputSamples, group_files
from mammo.evaluation.scoring import Scores
from mammo.evaluation.statistics.calibration import Calibration
from mammo.runs import RunFolder
from mammo.runs.provenance import current_provenance

SMALL = ["data.patients=20", "data.height=64", "data.width=48", "data.film_scale=2", "data.batch_size=8"]
FAST = ["model=custom_cnn", "trainer.max_epochs=1", "trainer.precision=32-true", "report=false"]
SCORES = ["score_BENIGN", "score_MALIGNANT"]


def predict(*arguments: str, folder: Path) -> str:
    """Both outputs of a command that must succeed."""
    result = command("predict", *arguments, folder=folder)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def place(place: Path) -> Path:
    """A working folder with finished runs of both units, and fixed thresholds of the breasts."""
    for unit in ("breast", "exam"):
        given = [*SMALL, *FAST, f"data.sample_unit={unit}", f"run_dir=runs/{unit}"]
        result = command("train", *given, folder=place)
        assert result.returncode == 0, result.stderr
    run = place / "runs" / "breast"
    scores = pd.read_csv(run / "evaluation" / "val" / "predictions.csv")["score_MALIGNANT"]
    calibration = {
        "classes": ["BENIGN", "MALIGNANT"], "method": "platt", "slope": 0.7, "intercept": -0.2,
        "rule": "youden", "target": None, "images": 3, "source": "val", "unit": "breast",
        "thresholds": {"image": 2.0, "breast_mean": scores.median()},
        "provenance": [current_provenance(RunFolder(run), split="val").to_dict()],
    }  # fmt: skip
    (run / "calibration.json").write_text(json.dumps(calibration))
    return place


def validation(place: Path, unit: str) -> tuple[pd.DataFrame, dict[str, Path]]:
    """Predictions of the validation samples, and the file of each of their images."""
    run = place / "runs" / unit
    images = Store.open(Path(json.loads((run / "run.json").read_text())["store"])).table
    films = (film_of(path, place) for path in images["path"])
    files = dict(zip(images["image_id"], films, strict=True))
    return pd.read_csv(run / "evaluation" / "val" / "predictions.csv"), files


@pytest.fixture(scope="module")
def films(place: Path) -> Path:
    """All films in one folder, with the name of their image."""
    folder = place / "films"
    folder.mkdir()
    for image, file in validation(place, "breast")[1].items():
        shutil.copy(file, folder / f"{image.lower()}.dcm")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["breast", "exam"])
def test_scores_are_those_of_the_evaluation(unit: str, films: Path, place: Path) -> None:
    expected, _ = validation(place, unit)
    told = predict(f"run=runs/{unit}", "input=films", f"output={unit}.csv", "workers=1", folder=place)
    found = pd.read_csv(place / f"{unit}.csv")
    assert found["error"].isna().all()
    assert found["sample_id"].is_unique
    assert found["unit"].eq(unit).all()
    lacking = int(found["missing"].notna().sum())
    assert (f"{lacking} of the {len(found)} {unit}s lack a view" in told) == (lacking > 0)
    scores = [name for name in found if name.startswith("score_")]
    assert len(scores) == (6 if unit == "breast" else 14)  # the sample, its views and its sides
    table = open_run(place / "runs" / unit).predict(str(films))
    assert table["sample_id"].tolist() == found["sample_id"].tolist()
    np.testing.assert_allclose(table[scores], found[scores], atol=1e-6)
    found.index = found["files"].str.replace(".dcm", "", regex=False).str.upper()
    np.testing.assert_allclose(
        found.loc[expected["image_id"], scores], expected[scores], atol=1e-6, equal_nan=True
    )
    assert found["laterality"].isna().all() == (unit == "exam")
    assert not found["sample_id"].str.contains("|".join(expected["patient_id"])).any()


@pytest.mark.slow
def test_probability_and_class_are_those_of_breasts(films: Path, place: Path) -> None:
    fixed = Calibration.from_dict(json.loads((place / "runs/breast/calibration.json").read_text()))
    found = open_run(place / "runs" / "breast").predict(str(films))
    score = found["score_MALIGNANT"].to_numpy()
    called = np.where(score >= fixed.thresholds["breast_mean"], "MALIGNANT", "BENIGN")
    assert found["class"].tolist() == called.tolist()
    assert set(called) == {"BENIGN", "MALIGNANT"}
    logit = 0.7 * np.log(score / (1 - score)) - 0.2
    np.testing.assert_allclose(found["probability"], 1 / (1 + np.exp(-logit)), rtol=1e-5)


@pytest.mark.slow
def test_only_what_is_grouped_otherwise_is_scored_again(films: Path, place: Path) -> None:
    """A breast loses a view, another file is damaged, and one is hidden from its exam by its name."""
    folder = place / "changing"
    shutil.copytree(films, folder)
    arguments = ["run=runs/breast", "input=changing", "output=changing.csv", "workers=0"]
    predict(*arguments, "heatmaps=heat", folder=place)
    before = pd.read_csv(place / "changing.csv").set_index("files")
    pairs = [files.split(";") for files in before.index if ";" in files]
    assert len(pairs) > 1
    pictures = [file.name for file in (place / "heat").iterdir()]
    written = [f"{path}.jpg" for files in before.index for path in files.split(";")]
    assert sorted(pictures) == sorted([*written, "heat.json"])
    (folder / pairs[0][1]).unlink()
    damaged = folder / pairs[1][1]
    damaged.write_bytes(damaged.read_bytes()[:-20000])
    shutil.copy(folder / pairs[1][0], folder / "copy.dcm")
    told = predict(*arguments, folder=place)
    assert f"{len(before) - 2} of {len(before)} breasts are already scored" in told
    after = pd.read_csv(place / "changing.csv").set_index("files")
    assert f"{before['missing'].notna().sum() + 2} of the {len(before)} breasts lack a view" in told
    assert after.loc[pairs[0][0], "missing"] == "MLO"
    assert after.loc[pairs[0][0], SCORES].notna().all()
    both = f"copy.dcm;{pairs[1][0]}"
    assert after.loc[both, ["views", "missing"]].tolist() == ["CC;CC", "MLO"]
    assert pd.isna(after.loc[both, "error"])
    assert "cannot be decoded" in after.loc[pairs[1][1], "error"]
    assert after.loc[[pairs[1][1]], [*SCORES, "sample_id"]].isna().all(axis=None)
    kept = before.index.drop([";".join(pair) for pair in pairs[:2]])
    assert after.loc[kept, SCORES].to_numpy() == pytest.approx(before.loc[kept, SCORES].to_numpy())
    assert not after.index.isin([";".join(pair) for pair in pairs[:2]]).any()


@pytest.mark.slow
def test_a_table_names_what_pictures_do_not(films: Path, place: Path) -> None:
    folder = place / "pictures"
    folder.mkdir()
    found = open_run(place / "runs" / "breast").predict(str(films))
    lines = []
    for _, breast in found.iterrows():
        for path, view in zip(breast["files"].split(";"), breast["views"].split(";"), strict=True):
            name = f"{len(lines)}.png"
            cv2.imwrite(str(folder / name), pydicom.dcmread(path).pixel_array.astype(np.uint16))
            patient, _, side = breast["sample_id"].partition("_")
            lines.append((f"pictures/{name}", patient.replace("exam", "W"), side.lower(), view))
    shutil.copy(folder / "0.png", folder / "unknown.png")
    columns = ["image_path", "patient_id", "laterality", "view"]
    pd.DataFrame(lines, columns=columns).to_csv(place / "exams.csv", index=False)
    told = predict(
        "run=runs/breast", "input=pictures", "table=exams.csv", "output=t.csv", "workers=0", folder=place
    )
    assert "1 files without a score (see the column error)" in told
    table = pd.read_csv(place / "t.csv").set_index("files")
    assert table.loc["unknown.png", "error"] == "is not in table=exams.csv"
    scored = table[table["error"].isna()].set_index("sample_id")
    expected = found.set_index(found["sample_id"].str.replace("exam", "W"))
    assert sorted(scored.index) == sorted(expected.index)
    np.testing.assert_allclose(scored[SCORES], expected.loc[scored.index, SCORES], atol=1e-6)
    told = predict("run=runs/breast", "input=pictures", "output=u.csv", "workers=0", folder=place)
    assert "0 breasts scored" in told
    assert pd.read_csv(place / "u.csv")["error"].str.startswith("has no study in its header").all()


@pytest.mark.slow
def test_a_killed_command_goes_on_where_it_was(films: Path, place: Path) -> None:
    folder = place / "many"
    folder.mkdir()
    first = sorted(films.iterdir())[0]
    for number in range(30):
        for view in ("CC", "MLO"):
            (folder / f"W{number:02d}_LEFT_{view}.png").write_bytes(b"")
            pixels = pydicom.dcmread(first).pixel_array.astype(np.uint16)
            pixels[number : number + 40] += 2000
            cv2.imwrite(str(folder / f"W{number:02d}_LEFT_{view}.png"), cv2.resize(pixels, (1000, 1400)))
    arguments = ["run=runs/exam", "input=many", "batch_size=1", "output=killed.csv"]
    partial = place / "killed.csv.partial"
    process = start("predict", *arguments, "workers=0", folder=place, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not partial.exists() or partial.read_bytes().count(b"\n") < 4:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    whole = partial.read_bytes().rpartition(b"\n")[0].count(b"\n")
    assert 3 <= whole < 30
    (folder / "W00_LEFT_MLO.png").unlink()  # its exam is another one now
    told = predict(*arguments, "workers=1", folder=place)
    assert f"{whole - 1} of 30 exams are already scored" in told
    found = pd.read_csv(place / "killed.csv")
    assert len(found) == 30
    assert found["views"].iloc[0] == "LEFT_CC"
    assert found["missing"].iloc[1] == "RIGHT_CC;RIGHT_MLO"
    expected = open_run(place / "runs" / "exam").predict(str(folder), batch_size=1)
    np.testing.assert_allclose(found[SCORES], expected[SCORES], atol=1e-6)


@pytest.mark.slow
def test_the_heat_of_one_view_of_an_exam(films: Path, place: Path) -> None:
    run = open_run(place / "runs" / "exam")
    film = sorted(films.iterdir())[0]
    heat = run.heatmap(film, method="occlusion")
    assert heat.shape == pydicom.dcmread(film).pixel_array.shape
    assert heat.max() > 0
    with pytest.raises(DataError, match="image: has no laterality in its header"):
        run.heatmap(np.random.default_rng(0).random((80, 60)))
    with pytest.raises(DataError, match="the run scores a whole exam, and an array has no laterality"):
        run.predict(np.random.default_rng(0).random((80, 60)))


def film(file: Path, *, patient: str, study: str, side: str, view: str, series: str = "") -> Path:
    header = pydicom.Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    header.SOPClassUID, header.SOPInstanceUID = "1.2.3", "1.2.3.4"
    header.PatientID, header.StudyInstanceUID, header.SeriesDescription = patient, study, series
    header.ImageLaterality, header.ViewPosition = side, view
    header.Rows, header.Columns = 2, 2
    file.parent.mkdir(exist_ok=True, parents=True)
    header.save_as(file, enforce_file_format=True)
    return file


def grouped(folder: Path, **options: Any) -> InputSamples:
    return group_files(find_files(str(folder)), **({"unit": "breast", "views": ("CC", "MLO")} | options))


def test_a_breast_is_the_views_of_a_side_of_a_study(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name, study, side, view in (
        ("b", "1.1", "L", "MLO"), ("a", "1.1", "L", "CC"), ("c", "1.1", "R", "CC"), ("d", "1.2", "L", "CC"),
        ("e", "1.1", "L", "CC"),
    ):  # fmt: skip
        film(folder / name, patient="p", study=study, side=side, view=view)
    breasts = grouped(folder)
    assert [sample.sample_id for sample in breasts.samples] == ["exam1_LEFT", "exam1_RIGHT", "exam2_LEFT"]
    assert [breasts.cells(sample.images) for sample in breasts.samples] == [
        ("a;e;b", "CC;CC;MLO"),
        ("c", "CC"),
        ("d", "CC"),
    ]
    assert [breasts.missing(sample.images) for sample in breasts.samples] == [[], ["MLO"], ["MLO"]]
    exams = grouped(folder, unit="exam")
    assert [sample.paths for sample in exams.samples] == [["a", "e", "b", "c"], ["d"]]
    assert exams.missing(exams.samples[0].images) == ["RIGHT_MLO"]
    assert breasts.errors == exams.errors == {}


def test_a_file_in_no_sample_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    film(folder / "ml", patient="p", study="1.1", side="L", view="ML")
    film(folder / "side", patient="p", study="1.1", side="", view="CC")
    film(folder / "view", patient="p", study="1.1", side="L", view="")
    film(folder / "crop", patient="x", study="1.1", side="L", view="CC", series="cropped images")
    film(folder / "Calc-Test_P_00001_LEFT_CC_1/1-1.dcm", patient="x", study="1.1", side="L", view="CC")
    (folder / "note.txt").write_text("no image")
    (folder / "plain.png").write_bytes(b"\x89PNG")
    (folder / "A_LEFT_CC.png").write_bytes(b"\x89PNG")
    found = grouped(folder)
    assert [sample.paths for sample in found.samples] == [["A_LEFT_CC.png"]]
    assert found.errors.pop("ml") == "has the view ML, which is not one of the views of the run, CC, MLO"
    assert found.errors.pop("side").startswith("has no laterality in its header")
    assert found.errors.pop("view").startswith("has no view in its header")
    assert found.errors.pop("crop") == SECONDARY
    assert found.errors.pop("Calc-Test_P_00001_LEFT_CC_1/1-1.dcm") == SECONDARY
    assert found.errors.pop("note.txt").startswith("is not an image")
    assert found.errors.pop("plain.png").startswith("has no study in its header")
    assert found.errors == {}
    assert len(grouped(folder, secondary=True).samples) == 2


def test_a_view_of_another_place_is_another_key(tmp_path: Path) -> None:
    def keys(first: str, second: str) -> list[str]:
        table = tmp_path / "table.csv"
        table.write_text(f"image_path,patient_id,laterality,view\nin/a,p,L,{first}\nin/b,p,L,{second}\n")
        found = grouped(tmp_path / "in", table=table)
        return [found.key(sample) for sample in found.samples]

    for name in "ab":
        film(tmp_path / "in" / name, patient=name, study="1.1", side="R", view="CC")
    assert keys("CC", "MLO") == keys("CC", "MLO") == ["a;b|CC;MLO"]
    assert keys("MLO", "CC") == ["b;a|CC;MLO"]
    assert keys("CC", "CC") == ["a;b|CC;CC"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("image_path,patient_id\nin/a,p\n", "no column 'laterality'"),
        ("image_path,patient_id,laterality,view\nin/x,p,L,CC\n", "has none of the files, the first is 'a'"),
        ("image_path,patient_id,laterality,view\nin/a,p,L,XX\n", "row 2: view 'XX' is not one of"),
        (
            "image_path,patient_id,laterality,view\nin/a,p,L,CC\nin/a,p,L,CC\n",
            "row 3: image_path 'in/a' is in",
        ),
    ],
)
def test_a_wrong_table_is_refused(content: str, sentence: str, tmp_path: Path) -> None:
    film(tmp_path / "in" / "a", patient="p", study="1.1", side="R", view="CC")
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(DataError, match=sentence.replace("(", r"\(")):
        grouped(tmp_path / "in", table=tmp_path / "table.csv")


def test_exams_of_a_table_have_their_date(tmp_path: Path) -> None:
    for name in "abc":
        film(tmp_path / "in" / name, patient="x", study="1.1", side="R", view="CC")
    (tmp_path / "table.csv").write_text(
        "image_path,patient_id,laterality,view,study_date\nin/a,p,L,CC,2019\nin/b,p,L,MLO,2020\n"
        "in/c,q,R,CC,\n"
    )
    found = grouped(tmp_path / "in", table=tmp_path / "table.csv")
    assert [sample.sample_id for sample in found.samples] == ["p_LEFT_2019", "p_LEFT_2020", "q_RIGHT"]


def test_memory_holds_a_batch_and_places_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scorer gives the brightness of the first place as score, and whether the second is present."""
    alive, most = 0, 0

    def ended() -> None:
        nonlocal alive
        alive -= 1

    def prepared(root: Path, paths: list[str], **_: Any) -> list[Any]:
        nonlocal alive, most
        batch: list[Any] = []
        for path in paths:
            number = int(path[:3])
            pixels = np.full((4, 4), 100 * number if "_CC" in path else 65535, np.uint16)
            weakref.finalize(pixels, ended)
            alive += 1
            bad = number == 7 and "_MLO" in path
            row = {"path": path, "error": "bad" if bad else None, "notes": []}
            batch.append((row, None if bad else pixels))
        most = max(most, alive)
        return batch

    def scorer(images: torch.Tensor, present: torch.Tensor) -> Scores:
        first = images[:, 0, 0, 0, 0] * 65535 / 100
        return Scores(torch.stack([first, present[:, 1].float()], dim=1))

    monkeypatch.setattr(sample_scoring, "prepare_files", prepared)
    names = [
        f"{n:03d}_LEFT_{view}.png" for n in range(100) for view in ("CC", "MLO") if n % 5 or view == "CC"
    ]
    for name in names:
        (tmp_path / name).write_bytes(b"\x89PNG")
    (tmp_path / "003_LEFT_CC_2.png").write_bytes(b"\x89PNG")
    found = group_files(Files(tmp_path, [*names, "003_LEFT_CC_2.png"]), unit="breast", views=("CC", "MLO"))
    batches = sample_scoring.score_samples(
        found,
        found.samples,
        network=lambda: (scorer, None),
        classes=("BENIGN", "MALIGNANT"),
        settings=Settings(4, 4, "none", "keep", "uint16", False),
        workers=0,
        batch_size=4,
    )
    rows = {row["path"]: row for batch in batches for row in batch}
    assert most <= 3 * 4 * 2
    assert len(rows) == 100
    for number, sample in enumerate(found.samples):
        row = rows[found.key(sample)]
        assert row["scores"] == pytest.approx([number, float(number % 5 > 0 and number != 7)], abs=1e-3)
        assert row["unreadable"] == ({"007_LEFT_MLO.png": "bad"} if number == 7 else {})
