"""Scores of exams and breasts from those of the samples of a run."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest

from mammo.data.tasks import Task
from mammo.evaluation.exams.exam_scores import ExamScores, left_out_images
from mammo.evaluation.exams.exam_tables import write_exams, write_left_out
from mammo.evaluation.prediction.input_files import empty_row
from mammo.evaluation.prediction.prediction_table import BreastScores, Decision
from mammo.evaluation.prediction.sample_inputs import InputSample, InputSamples
from mammo.evaluation.statistics.calibration import Calibration

PATHOLOGY = Task.shipped("pathology")


def calibration(**maps: tuple[float, float]) -> Calibration:
    """A calibration that leaves the scores of samples as they are."""
    thresholds = {"image": 0.4, "breast_mean": 0.3, "breast_max": 0.65, "patient_mean": 0.45}
    fixed: dict[str, Any] = {"rule": "youden", "target": None, "thresholds": thresholds, "images": 9}
    platt: dict[str, Any] = {"method": "platt", "slope": 1.0, "intercept": 0.0, "source": "val"}
    return Calibration(classes=PATHOLOGY.classes, maps=maps, **fixed, **platt)


def image(path: str, exam: str | None, place: str, score: float | None, **changes: Any) -> dict[str, Any]:
    side, _, view = place.partition(" ")
    row = empty_row(path) | {"exam": exam, "laterality": side or None, "view": view or None}
    row["breast"] = f"{exam}{side}" if exam and side else None
    row["scores"] = None if score is None else [1 - score, score]
    return row | changes


class Log:
    """The rows of a log."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self._rows = rows

    def rows(self) -> Any:
        return iter(self._rows)


ROWS = (
    image("a", "x", "LEFT CC", 0.2),
    image("b", "x", "LEFT MLO", 0.6),
    image("c", "x", "RIGHT CC", 0.9),
    image("d", "y", "LEFT CC", 0.1),
    image("e", None, "", 0.7),
    image("f", None, "", None, error="is a report", kind="report"),
    image("g", None, "", None, error="cannot be decoded", kind=None),
)


def scores(reduce: Any = "mean", *, task: Task = PATHOLOGY, fixed: Calibration | None = None) -> ExamScores:
    threshold = 0.4 if task.positive else None
    return ExamScores(Decision(task, fixed, threshold), reduce=reduce, views=("CC", "MLO"))


@pytest.mark.parametrize(("reduce", "left", "exam"), [("mean", 0.4, 1.7 / 3), ("max", 0.6, 0.9)])
def test_breast_and_exam_are_of_their_images(reduce: str, left: float, exam: float) -> None:
    exams, alone = scores(reduce).of_images(Log(*ROWS))  # type: ignore[arg-type]
    assert [each.name for each in exams] == ["exam1", "exam2"]
    first, second = exams
    assert [part.laterality for part in first.breasts] == ["LEFT", "RIGHT"]
    assert first.breasts[0].scored is not None
    assert first.breasts[0].scored.malignancy == pytest.approx(left)
    assert first.whole.scored is not None
    assert first.whole.scored.malignancy == pytest.approx(exam)
    assert [part.missing for part in first.breasts] == [(), ("MLO",)]
    assert first.whole.missing == ("RIGHT_MLO",)
    assert second.whole.missing == ("LEFT_MLO", "RIGHT_CC", "RIGHT_MLO")
    assert [each.path for each in alone] == ["e"]


def test_the_table_of_images_has_the_same_breasts_and_exams() -> None:
    for reduce, left in (("mean", 0.4), ("max", 0.6)):
        breasts = BreastScores(PATHOLOGY, reduce=reduce)  # type: ignore[arg-type]
        for row in ROWS[:5]:
            breasts.add(row)
        assert breasts.of(ROWS[0]) == (1, pytest.approx(left), "exam1")
        assert breasts.of(ROWS[3]) == (3, pytest.approx(0.1), "exam2")
        assert breasts.of(ROWS[4]) == (None, None, None)


def test_probability_and_class_are_of_the_units_own_calibration() -> None:
    exams, _ = scores(fixed=calibration(breast_mean=(2.0, 0.5))).of_images(Log(*ROWS))  # type: ignore[arg-type]
    left, whole = exams[0].breasts[0].scored, exams[0].whole.scored
    assert left is not None
    assert left.probability == pytest.approx(1 / (1 + math.exp(-(2.0 * math.log(0.4 / 0.6) + 0.5))))
    assert left.called == "malignant"  # 0.4 is above 0.3
    assert whole is not None
    assert whole.probability is None  # there is no map of patients
    assert whole.called == "malignant"  # 0.57 is above 0.45
    highest, _ = scores("max", fixed=calibration()).of_images(Log(*ROWS))  # type: ignore[arg-type]
    assert [part.scored and part.scored.called for part in highest[0].breasts] == ["benign", "malignant"]
    assert highest[0].whole.scored is not None
    assert highest[0].whole.scored.called is None  # there is no threshold of the highest score of a patient


def test_a_task_without_a_positive_class_has_mean_scores() -> None:
    density = Task.shipped("density")
    rows = [
        image(path, "x", place, None, scores=values)
        for path, place, values in (
            ("a", "LEFT CC", [0.7, 0.1, 0.1, 0.1]),
            ("b", "LEFT MLO", [0.1, 0.3, 0.5, 0.1]),
        )
    ]
    exams, _ = scores(task=density).of_images(Log(*rows))  # type: ignore[arg-type]
    found = exams[0].whole.scored
    assert found is not None
    assert found.scores == pytest.approx((0.4, 0.2, 0.3, 0.1))
    assert (found.malignancy, found.probability, found.called) == (None, None, density.classes[0])


def samples(
    unit: Any, *members: tuple[str, str | None, tuple[tuple[str, str, str], ...], str]
) -> InputSamples:
    listed = [InputSample(*each) for each in members]
    return InputSamples(Path(), unit, ("CC", "MLO"), listed, {}, {}, ())


def test_a_run_of_breasts_scores_the_breast_itself() -> None:
    left = (("a", "LEFT", "CC"), ("b", "LEFT", "MLO"))
    found = samples(
        "breast",
        ("exam1_LEFT", "LEFT", left, "exam1"),
        ("exam1_RIGHT", "RIGHT", (("c", "RIGHT", "CC"),), "exam1"),
    )
    parts = {"score_BENIGN_CC": 0.75, "score_MALIGNANT_CC": 0.25}
    rows = {
        found.key(found.samples[0]): {"scores": [0.2, 0.8], "parts": parts, "unreadable": {"b": "cut"}},
        found.key(found.samples[1]): {"scores": [0.9, 0.1], "parts": {}, "unreadable": {}},
    }
    (exam,) = scores().of_samples(found, rows.__getitem__)
    assert [part.scored and part.scored.malignancy for part in exam.breasts] == [0.8, 0.1]
    assert exam.whole.scored is not None
    assert exam.whole.scored.malignancy == pytest.approx(0.45)
    assert [(each.path, each.scored and each.scored.malignancy) for each in exam.whole.images] == [
        ("a", 0.25),
        ("c", None),
    ]
    assert [part.missing for part in exam.breasts] == [("MLO",), ("MLO",)]


def test_a_run_of_exams_scores_the_exam_and_its_sides() -> None:
    images = (("a", "LEFT", "CC"), ("c", "RIGHT", "CC"))
    found = samples("exam", ("exam1", None, images, "exam1"))
    parts = {f"score_{name}_LEFT": value for name, value in (("BENIGN", 0.3), ("MALIGNANT", 0.7))}
    row = {"scores": [0.4, 0.6], "parts": parts, "unreadable": {}}
    (exam,) = scores(fixed=calibration(breast_mean=(1.0, 0.0))).of_samples(found, lambda key: row)
    assert exam.whole.scored is not None
    assert exam.whole.scored.malignancy == 0.6
    left, right = exam.breasts
    assert left.scored is not None
    assert (left.scored.malignancy, left.scored.called) == (0.7, "malignant")
    assert left.scored.probability == pytest.approx(0.7)
    assert right.scored is None


def test_tables_have_a_line_for_each_exam_breast_and_file_left_out(tmp_path: Path) -> None:
    log: Any = Log(*ROWS)
    exams, _ = scores().of_images(log)
    write_exams(tmp_path / "exams.csv", exams, PATHOLOGY)
    lines = list(csv.DictReader((tmp_path / "exams.csv").open()))
    assert [(line["exam"], line["unit"], line["laterality"], line["files"]) for line in lines] == [
        ("exam1", "exam", "", "a;b;c"),
        ("exam1", "breast", "LEFT", "a;b"),
        ("exam1", "breast", "RIGHT", "c"),
        ("exam2", "exam", "", "d"),
        ("exam2", "breast", "LEFT", "d"),
    ]
    assert [float(line["score"]) for line in lines] == pytest.approx([1.7 / 3, 0.4, 0.9, 0.1, 0.1])
    assert lines[0]["views"] == "LEFT_CC;LEFT_MLO;RIGHT_CC"
    assert lines[0]["missing"] == "RIGHT_MLO"
    write_left_out(tmp_path / "left.csv", left_out_images(log))
    assert (tmp_path / "left.csv").read_text() == (
        "path,kind,reason\nf,report,is a report\ng,unreadable,cannot be decoded\n"
    )
