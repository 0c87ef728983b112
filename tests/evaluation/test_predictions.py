from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.cohorts import four_classes, predictions, several_views
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo.data.tasks import Task
from mammo.errors import DataError
from mammo.evaluation.combined_predictions import aligned, ensemble, out_of_fold
from mammo.evaluation.predictions import Predictions, by_unit, read_predictions

HEADER = "image_id,patient_id,laterality,label,score_BENIGN,score_MALIGNANT\n"
ROWS = "a,P1,LEFT,BENIGN,0.9,0.1\nb,P1,LEFT,MALIGNANT,0.7,0.3\nc,P1,R,BENIGN,0.4,0.6\nd,P2,R,BENIGN,0.8,0.2\n"


def read(folder: Path, text: str) -> Predictions:
    path = folder / "predictions.csv"
    path.write_text(text)
    return read_predictions(path)


def test_a_table_is_read(tmp_path: Path) -> None:
    found = read(tmp_path, HEADER + ROWS)
    assert found.classes == ("BENIGN", "MALIGNANT")
    assert found.scores.tolist() == [[0.9, 0.1], [0.7, 0.3], [0.4, 0.6], [0.8, 0.2]]
    assert found.labels.tolist() == found.malignant.tolist() == [0, 1, 0, 0]
    assert found.patients.tolist() == ["P1", "P1", "P1", "P2"]
    assert found.table["laterality"].tolist() == ["LEFT", "LEFT", "RIGHT", "RIGHT"]
    assert found.table["view"].isna().all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (HEADER, "no row below the header"),
        (HEADER.replace("patient_id", "woman") + ROWS, "no column 'patient_id'"),
        (HEADER.replace("score_MALIGNANT", "x") + ROWS, "no column 'score_MALIGNANT'"),
        (
            HEADER.replace("score", "p") + ROWS,
            "no column of scores; add one for each class, such as score_BENIGN",
        ),
        (HEADER + ROWS.replace("0.3", "nan"), "row 3: no score_malignant"),
        (HEADER + ROWS.replace("0.3", "high"), "row 3: score_malignant 'high' is no probability"),
        (HEADER + ROWS.replace("0.3", "1.3"), "row 3: score_malignant '1.3' is no probability"),
        (HEADER + ROWS.replace("0.3", "inf"), "row 3: score_malignant 'inf' is no probability"),
        (HEADER + ROWS.replace("0.3", "0.2"), "row 3: the scores sum to 0.9 instead of 1"),
        (HEADER + ROWS.replace("P1,LEFT,MAL", ",LEFT,MAL"), "row 3: no patient_id"),
        (HEADER + ROWS.replace("MALIGNANT", "CANCER"), "row 3: label 'CANCER' is not one of BENIGN, MALI"),
        (HEADER + ROWS.replace("c,", "a,"), "row 4: image_id 'a' is in row 2 already"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=r"predictions\.csv") as caught:
        read(tmp_path, text)
    assert message in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_predictions(tmp_path / "none.csv")


@pytest.mark.slow
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20))
@settings(deadline=None, max_examples=30)
def test_numbers_survive_the_file(tmp_path_factory: pytest.TempPathFactory, scores: list[float]) -> None:
    path = tmp_path_factory.mktemp("table") / "predictions.csv"
    malignant = np.array(scores)
    rows = {
        "image_id": [f"i{i}" for i in range(len(scores))],
        "patient_id": "P1",
        "label": "BENIGN",
        "score_BENIGN": 1 - malignant,
        "score_MALIGNANT": malignant,
    }
    pd.DataFrame(rows).to_csv(path, index=False)
    found = read_predictions(path)
    assert np.array_equal(found.scores, np.stack([1 - malignant, malignant], axis=1))
    found.write(path)
    pd.testing.assert_frame_equal(read_predictions(path).table, found.table)


@pytest.mark.parametrize(
    "name",
    ["pathology", "lesion_type_pathology", "patch_pathology", "patch_lesion_type_pathology", "density"],
)
def test_the_columns_name_the_task(tmp_path: Path, name: str) -> None:
    classes = Task.shipped(name).classes
    scores = ["0"] * (len(classes) - 1) + ["1"]
    header = ",".join(["image_id", "patient_id", "label", *(f"score_{held}" for held in classes)])
    found = read(tmp_path, f"{header}\n{','.join(['a', 'P1', classes[0], *scores])}\n")
    assert found.task.name == name


@pytest.mark.parametrize("make", [predictions, four_classes])
def test_a_whole_table_survives_the_file(tmp_path: Path, make) -> None:
    made = make(np.random.default_rng(0))
    made.write(tmp_path / "p.csv")
    found = read_predictions(tmp_path / "p.csv")
    assert found.classes == made.classes
    assert np.array_equal(found.scores, made.scores)
    pd.testing.assert_frame_equal(found.table, made.table, check_dtype=False)


@pytest.mark.parametrize(
    ("unit", "reduce", "scores", "labels", "clusters"),
    [
        ("image", "mean", [0.1, 0.3, 0.6, 0.2], [0, 1, 0, 0], ["P1", "P1", "P1", "P2"]),
        ("breast", "mean", [0.2, 0.6, 0.2], [1, 0, 0], ["P1", "P1", "P2"]),
        ("breast", "max", [0.3, 0.6, 0.2], [1, 0, 0], ["P1", "P1", "P2"]),
        ("patient", "mean", [1 / 3, 0.2], [1, 0], ["P1", "P2"]),
        ("patient", "max", [0.6, 0.2], [1, 0], ["P1", "P2"]),
    ],
)
def test_images_are_brought_to_a_unit(
    tmp_path: Path, unit, reduce, scores: list[float], labels: list[int], clusters: list[str]
) -> None:
    units = by_unit(read(tmp_path, HEADER + ROWS), unit, reduce=reduce)
    assert units.score == pytest.approx(scores)
    assert units.label.tolist() == labels
    assert units.cluster.tolist() == clusters


def test_the_breast_is_left_out_where_it_is_unknown(tmp_path: Path) -> None:
    found = read(tmp_path, HEADER + ROWS.replace("c,P1,R", "c,P1,"))
    with pytest.raises(DataError, match="1 of 4 images have no laterality, so results by breast are left"):
        by_unit(found, "breast")
    assert by_unit(found, "patient").score.size == 2


def test_malignancy_of_four_classes_is_the_sum_of_the_malignant_ones() -> None:
    four = four_classes(np.random.default_rng(1))
    assert four.malignancy == pytest.approx(four.scores[:, 1] + four.scores[:, 3])
    assert four.malignant.tolist() == [int(name.startswith("MALIGNANT")) for name in four.table["label"]]


def test_an_ensemble_is_the_mean_whatever_the_order() -> None:
    one = predictions(np.random.default_rng(2))
    turned = np.arange(len(one.samples))[::-1]
    other = one.with_scores(one.scores[:, ::-1]).take(turned)
    both = ensemble([one, other])
    assert both.scores == pytest.approx(np.full_like(one.scores, 0.5))
    assert both.samples.tolist() == one.samples.tolist()
    assert np.array_equal(aligned([one, one.take(turned)])[1].scores, one.scores)


def test_the_scores_of_views_survive_the_file_and_the_ensemble(tmp_path: Path) -> None:
    images = predictions(np.random.default_rng(1), patients=20)
    exams = several_views(images, unit="exam")
    exams.write(tmp_path / "exams.csv")
    read = read_predictions(tmp_path / "exams.csv")
    for place in ("LEFT", "RIGHT_CC"):
        np.testing.assert_array_equal(read.part(place), exams.part(place))
    assert read.part("CC") is None
    other = several_views(images.with_scores(images.scores[::-1].copy()), unit="exam")
    turned = other.take(np.arange(len(other.samples))[::-1])
    both = ensemble([exams, turned])
    for place in ("LEFT", "RIGHT_CC"):
        np.testing.assert_allclose(both.part(place), (exams.part(place) + other.part(place)) / 2)
    mean = (by_unit(exams, "breast").score + by_unit(other, "breast").score) / 2
    np.testing.assert_allclose(by_unit(both, "breast").score, mean)
    without = replace(exams, table=exams.table.drop(columns=exams.part_columns))
    assert ensemble([exams, without]).part_columns == []


def test_an_ensemble_of_different_images_is_refused() -> None:
    one = predictions(np.random.default_rng(3), source="A")
    rows = np.arange(len(one.samples))
    with pytest.raises(DataError, match="A and A: 3 images are in one table only, the first is 'P_"):
        ensemble([one, one.take(rows[3:])])
    flipped = one.table["label"].map({"BENIGN": "MALIGNANT", "MALIGNANT": "BENIGN"})
    with pytest.raises(DataError, match=f"the label of {len(rows)} of {len(rows)} images differs"):
        ensemble([one, Predictions(one.table.assign(label=flipped), one.task, "B")])
    with pytest.raises(DataError, match="A and four have different classes"):
        ensemble([one, four_classes(np.random.default_rng(3))])


def test_folds_are_put_together() -> None:
    whole = predictions(np.random.default_rng(4))
    first = whole.patients < "P_00030"
    together = out_of_fold([whole.take(first), whole.take(~first)])
    assert together.samples.tolist() == whole.samples.tolist()
    assert np.array_equal(together.scores, whole.scores)


def test_folds_that_share_are_refused() -> None:
    whole = predictions(np.random.default_rng(5), source="F")
    first = whole.patients < "P_00030"
    with pytest.raises(DataError, match=r"F and F: image 'P_\w+' is in both"):
        out_of_fold([whole.take(first), whole])
    inside = int(np.flatnonzero(whole.patients[1:] == whole.patients[:-1])[0]) + 1  # within a patient
    rows = np.arange(len(whole.samples))
    with pytest.raises(DataError, match=r"F and F: patient 'P_.* 1 in more than one fold; split by patient"):
        out_of_fold([whole.take(rows < inside), whole.take(rows >= inside)])


def test_columns_of_the_data_are_kept_as_text(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(
        "image_id,patient_id,Age,label,manufacturer,score_BENIGN,score_MALIGNANT,label_left,fold\n"
        "a,p,047Y,BENIGN,,0.5,0.5,x,\nb,p,51,MALIGNANT,X,0.25,0.75,x,\n"
    )
    table = read_predictions(tmp_path / "p.csv").table
    assert table["age"].tolist() == ["047Y", "51"]
    assert table["manufacturer"].fillna("none").tolist() == ["none", "X"]
    assert "label_left" not in table
