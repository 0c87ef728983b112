"""`python -m mammo.predict` on studies as a PACS sends them."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pydicom
import pytest
from helpers.commands import command, line
from helpers.pacs import ACCESSION, BIRTH, NAME, PATIENT, mammogram, pacs_export, save
from helpers.pages import Outline

from mammo import open_run
from mammo.data.store.store_building import Settings
from mammo.evaluation.exams.run_heat import RunHeat
from mammo.evaluation.prediction.input_files import find_files, prepare_files
from mammo.evaluation.prediction.sample_inputs import group_files
from mammo.runs import RunFolder
from mammo.runs.provenance import read_json

SMALL = ["data.patients=20", "data.height=64", "data.width=48", "data.film_scale=2", "data.batch_size=8"]
FAST = [
    *("model=timm", "model.name=test_resnet", "model/head=patch_map"),
    *("trainer.max_epochs=1", "report=false", "run_dir=runs/a"),
]
PREDICT = ["run=runs/a", "input=sent", "output=scores.csv", "workers=0"]
ALL = "outputs=[csv,html,dicom]"


def predict(*arguments: str, folder: Path) -> str:
    """Both outputs of a command that must succeed."""
    result = command("predict", *arguments, folder=folder)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def kinds(place: Path) -> dict[str, str]:
    """The kind of each file of `sent/`, in a folder with a finished run that has a map of its own."""
    result = command("train", *SMALL, *FAST, folder=place)
    assert result.returncode == 0, result.stderr
    return pacs_export(place / "sent")


@pytest.fixture(scope="module")
def said(place: Path, kinds: dict[str, str]) -> str:
    pytest.importorskip("highdicom", reason="the extra `dicom` brings highdicom")
    return predict(*PREDICT, ALL, folder=place)


@pytest.mark.slow
def test_each_file_is_scored_or_left_out_with_a_reason(said: str, kinds: dict[str, str], place: Path) -> None:
    scores = pd.read_csv(place / "scores.csv").set_index("path")
    assert sorted(scores.index) == sorted(kinds)
    scored = [path for path, kind in kinds.items() if kind == "mammogram"]
    assert sorted(scores.index[scores["error"].isna()]) == sorted(scored)
    left_out = pd.read_csv(place / "scores-left_out.csv").set_index("path")
    assert left_out["kind"].to_dict() == {path: kind for path, kind in kinds.items() if path not in scored}
    assert left_out["reason"].to_dict() == scores["error"].dropna().to_dict()
    others = {
        kind: list(kinds.values()).count(kind) for kind in {*kinds.values()} - {"mammogram", "unreadable"}
    }
    counted = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
    assert (
        f"{sum(others.values())} files are left out: {counted}; scores-left_out.csv has the reasons" in said
    )
    assert "5 images scored, 2 unreadable (see the column error)" in said


@pytest.mark.slow
def test_two_studies_of_a_woman_are_two_exams(said: str, place: Path) -> None:
    exams = pd.read_csv(place / "scores-exams.csv")
    images = pd.read_csv(place / "scores.csv").dropna(subset="score_MALIGNANT")
    assert images["exam"].tolist() == ["exam1"] * 4 + ["exam2"]
    of_units = exams.set_index(exams["exam"] + exams["laterality"].fillna(""))
    assert of_units["unit"].to_dict() == {
        "exam1": "exam", "exam1LEFT": "breast", "exam1RIGHT": "breast", "exam2": "exam", "exam2LEFT": "breast"
    }  # fmt: skip
    assert of_units.loc["exam2", "missing"] == "LEFT_MLO;RIGHT_CC;RIGHT_MLO"
    assert of_units["missing"].isna().sum() == 3
    score = images["score_MALIGNANT"]
    assert of_units.loc["exam1", "score"] == pytest.approx(score[images["exam"] == "exam1"].mean())
    left = images[(images["exam"] == "exam1") & (images["laterality"] == "LEFT")]
    assert of_units.loc["exam1LEFT", "score"] == pytest.approx(left["score_MALIGNANT"].mean())
    assert left["breast_score"].tolist() == pytest.approx([of_units.loc["exam1LEFT", "score"]] * 2)


@pytest.mark.slow
def test_identifiers_are_in_dicom_objects_only(said: str, kinds: dict[str, str], place: Path) -> None:
    written = [place / "scores.csv.json", *place.glob("scores*.csv"), place / "scores.html"]
    written += [file for file in (place / "scores-heatmaps").rglob("*") if file.is_file()]
    assert len(written) == 5 + 5 + 1
    secrets = [PATIENT, *NAME.replace("^", " ").split(), BIRTH, ACCESSION, "1.2.276.0.99"]
    for file in written:
        content = file.read_bytes()
        assert [text for text in secrets if text.encode() in content] == [], file
    heat = sorted((place / "scores-dicom" / "heat").rglob("*.dcm"))
    reports = sorted((place / "scores-dicom" / "scores").iterdir())
    assert (len(heat), len(reports)) == (5, 2)
    for file in [*heat, *reports]:
        found = pydicom.dcmread(file)
        assert (found.PatientID, str(found.PatientName), found.PatientBirthDate) == (PATIENT, NAME, BIRTH)
        assert found.StudyInstanceUID in ("1.2.276.0.99.1", "1.2.276.0.99.2")


@pytest.mark.slow
def test_the_page_has_every_exam_and_no_path(said: str, place: Path) -> None:
    text = (place / "scores.html").read_text()
    outline = Outline(text)
    assert {"exam-1", "exam-2"} <= set(outline.ids)
    assert sum(name.startswith("data:image/jpeg") for name in outline.named) == 5
    assert all(name.startswith(("#", "data:")) for name in outline.named)
    assert "PA000001" not in text
    assert "spot compression and magnified views" in text


@pytest.mark.slow
def test_the_heat_is_the_networks_own_map_or_as_wanted(said: str, kinds: dict[str, str], place: Path) -> None:
    """Files of another method are drawn again, and nothing is drawn twice."""
    path = next(iter(kinds))
    picture = place / "scores-heatmaps" / f"{path}.jpg"
    capture = place / "scores-dicom" / "heat" / f"{path}.dcm"
    assert read_json(place / "scores-heatmaps" / "heat.json")["method"] == "map"
    assert "by map" in pydicom.dcmread(capture).DerivationDescription
    drawn, table = picture.read_bytes(), (place / "scores.csv").read_bytes()
    before = picture.stat().st_mtime_ns
    predict(*PREDICT, ALL, folder=place)
    assert picture.stat().st_mtime_ns == before
    predict(*PREDICT, ALL, "heatmap=gradcam", folder=place)
    assert picture.read_bytes() != drawn
    assert "by gradcam" in pydicom.dcmread(capture).DerivationDescription
    predict(*PREDICT, ALL, "heatmap=map", folder=place)
    assert picture.read_bytes() == drawn
    assert (place / "scores.csv").read_bytes() == table
    run = open_run(place / "runs" / "a")
    film = str(place / "sent" / path)
    assert (run.heatmap(film) == run.heatmap(film, method="map")).all()
    assert (run.heatmap(film) != run.heatmap(film, method="gradcam")).any()


@pytest.mark.slow
def test_what_is_left_out_can_be_included(said: str, place: Path) -> None:
    shutil.copy(place / "scores.csv", place / "more.csv")
    shutil.copy(place / "scores.csv.json", place / "more.csv.json")
    arguments = [*PREDICT[:2], "output=more.csv", "workers=0"]
    told = predict(*arguments, "include=[spot,other_modality]", "reduce=max", folder=place)
    assert "8 images scored" in told
    left_out = pd.read_csv(place / "more-left_out.csv")
    assert not left_out["kind"].isin(["spot", "other_modality"]).any()
    exams = pd.read_csv(place / "more-exams.csv")
    images = pd.read_csv(place / "more.csv")
    of_first = images.loc[images["exam"] == "exam1", "score_MALIGNANT"]
    assert len(of_first) == 7
    assert exams.loc[0, "score"] == of_first.max()
    found = open_run(place / "runs" / "a").predict(str(place / "sent"), include=["spot"])
    assert found["score_MALIGNANT"].notna().sum() == 7


@pytest.mark.slow
def test_what_needs_a_package_that_is_missing_is_refused_at_once(kinds: dict[str, str], place: Path) -> None:
    blocked = place / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(
        "import importlib.util as u\nfound = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'highdicom' else found(name, *a)\n"
    )
    path = os.pathsep.join([str(blocked), *filter(None, [os.environ.get("PYTHONPATH")])])
    result = subprocess.run(
        line("predict", *PREDICT, ALL),
        cwd=place, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr == (
        "error: outputs=[dicom]: the package highdicom is not installed; pip install 'mammo[dicom]'\n"
    )


def test_exams_of_a_run_of_exams_leave_out_the_same(tmp_path: Path) -> None:
    kinds = pacs_export(tmp_path)
    found = group_files(find_files(str(tmp_path)), unit="exam", views=("CC", "MLO"))
    assert [(sample.exam, len(sample.images)) for sample in found.samples] == [("exam1", 5), ("exam2", 1)]
    # the file that is cut short is one of them until it is decoded
    assert found.kinds == {path: kind for path, kind in kinds.items() if path in found.errors}
    assert {path for path, kind in kinds.items() if kind not in ("mammogram", "unreadable")} <= set(
        found.errors
    )
    wanted = group_files(find_files(str(tmp_path)), unit="exam", views=("CC", "MLO"), include=["spot"])
    assert len(wanted.samples[0].images) == 7


def test_a_path_with_an_identifier_is_noted(tmp_path: Path) -> None:
    settings = Settings(64, 48, "breast", "keep", "uint16", False)
    paths = [f"{PATIENT}/a", "b/1.2.276.0.99.1.1.dcm", "2024.01.02/d", f"x{PATIENT}y/e"]
    for path in paths:
        save(mammogram("LEFT", "CC", number=1), tmp_path / path)
    notes = [row["notes"] for row, _ in prepare_files(tmp_path, paths, settings=settings)]
    assert [bool(each) for each in notes] == [True, True, False, False]
    assert "patient ID" in notes[0][0]
    assert PATIENT not in notes[0][0]


def test_files_of_heat_of_another_run_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = {"now": "a" * 64}
    monkeypatch.setattr("mammo.evaluation.exams.run_heat.weights_digest", lambda run: digest["now"])
    data = {
        "height": 64, "width": 48, "crop": "breast", "aspect": "keep", "white": "auto", "window": None,
        "for_processing": "reject",
    }  # fmt: skip
    folder = tmp_path / "run"
    folder.mkdir()
    run = RunFolder(folder)
    run.write_config({"data": data, "task": {"name": "pathology"}})
    run.record(status="finished")
    given: dict[str, Any] = {"root": tmp_path, "paths": ["a", "b/c"], "layer": None, "captures": None}

    def heat(method: Any = "auto", hanging: bool = True) -> RunHeat:
        return RunHeat(run, method=method, hanging=hanging, pictures=tmp_path / "heat", **given)

    def draw() -> None:
        (tmp_path / "heat" / "b").mkdir(exist_ok=True)
        for name in ("a.jpg", "b/c.jpg", "mine.jpg"):
            (tmp_path / "heat" / name).write_text("drawn")

    heat()
    draw()
    assert heat().is_written("a")
    for other in ({"method": "occlusion"}, {"hanging": False}, {}):
        draw()
        digest["now"] = "b" * 64 if not other else digest["now"]
        found = heat(**other)  # type: ignore[arg-type]
        assert not found.is_written("a")
        assert not found.is_written("b/c")
        assert (tmp_path / "heat" / "mine.jpg").exists()


@pytest.mark.slow
def test_the_table_cannot_be_the_page(tmp_path: Path) -> None:
    result = command("predict", "run=a", "input=b", "output=s.html", "outputs=[html]", folder=tmp_path)
    assert result.returncode == 1
    assert result.stderr == "error: output=s.html: is the table of scores, not the page; name a .csv file\n"
