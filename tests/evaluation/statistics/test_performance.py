import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from helpers.cohorts import four_classes, predictions

from mammo.evaluation.predictions import Predictions, by_unit
from mammo.evaluation.statistics.calibration import fit_calibration
from mammo.evaluation.statistics.performance import measure_performance, performance_table
from mammo.evaluation.statistics.weighted_metrics import BinaryMetrics
from mammo.metrics import auc, clustered_auc

VALIDATION = predictions(np.random.default_rng(0), source="val")
TEST = predictions(np.random.default_rng(1), source="test")
CALIBRATION = fit_calibration(VALIDATION)


def plain(found: dict) -> dict:
    """Converts the result to JSON and back; fails if it contains NaN."""
    return json.loads(json.dumps(found, allow_nan=False))


def test_the_verdict_of_two_classes() -> None:
    found = measure_performance(TEST, calibration=CALIBRATION, resamples=200)
    assert plain(found) == found
    assert found == measure_performance(TEST, calibration=CALIBRATION, resamples=200)
    assert found["n"]["images"] == len(TEST.images)
    assert found["n"]["patients"] == 60
    assert found["n"]["malignant_patients"] == len(np.unique(TEST.patients[TEST.malignant == 1]))
    assert found["image"]["auc"]["value"] == pytest.approx(auc(TEST.scores[:, 1], TEST.labels))
    for unit in ("image", "breast", "patient"):
        units = by_unit(TEST, unit)
        of_unit = found[unit]
        assert of_unit["auc"]["low"] < of_unit["auc"]["value"] < of_unit["auc"]["high"]
        assert of_unit["auc_delong"]["low"] == clustered_auc(units.score, units.label, units.cluster).low
        assert of_unit["threshold"] == CALIBRATION.threshold(unit, "mean")
        (right_benign, wrong_benign), (missed, hit) = of_unit["confusion"]
        assert right_benign + wrong_benign + missed + hit == len(units.label)
        assert of_unit["sensitivity"]["value"] == pytest.approx(hit / (hit + missed))
        assert of_unit["specificity"]["value"] == pytest.approx(right_benign / (right_benign + wrong_benign))
    metrics = BinaryMetrics(TEST.malignancy, TEST.malignant, calibrated=TEST.malignancy)
    assert set(metrics(np.ones((1, len(TEST.images))))) <= set(found["image"])
    assert found["multiclass"] is None
    assert found["notes"] == []


def test_calibrated_scores_are_judged_beside_the_scores_as_they_are() -> None:
    found = measure_performance(TEST, calibration=CALIBRATION, resamples=50)["image"]
    calibrated = CALIBRATION.apply(TEST).scores[:, 1]
    assert found["brier"]["value"] == pytest.approx(((TEST.scores[:, 1] - TEST.labels) ** 2).mean())
    assert found["brier_calibrated"]["value"] == pytest.approx(((calibrated - TEST.labels) ** 2).mean())
    slope = found["calibration_slope"]["value"]
    assert found["calibration_slope_calibrated"]["value"] == pytest.approx(slope / CALIBRATION.slope)


@pytest.mark.parametrize("unit", ["breast", "patient"])
def test_calibrated_score_of_a_unit_is_not_the_mean_of_those_of_its_images(unit: str) -> None:
    found = measure_performance(TEST, calibration=CALIBRATION, resamples=50)[unit]
    units, probability = by_unit(TEST, unit), CALIBRATION.probabilities(TEST, unit, "mean")
    assert found["brier_calibrated"]["value"] == pytest.approx(((probability - units.label) ** 2).mean())
    without = replace(CALIBRATION, maps={})
    found = measure_performance(TEST, calibration=without, resamples=50)
    assert not [name for name in found[unit] if name.endswith("_calibrated")]
    assert "brier_calibrated" in found["image"]


def test_without_calibration_the_threshold_is_a_half() -> None:
    found = measure_performance(TEST, calibration=None, resamples=50)
    assert found["patient"]["threshold"] == 0.5
    assert "brier_calibrated" not in found["image"]
    assert "not calibrated" in found["method"]["threshold"]


def test_the_verdict_of_four_classes() -> None:
    four = four_classes(np.random.default_rng(2))
    found = plain(measure_performance(four, calibration=fit_calibration(four), resamples=100))
    assert found["image"]["auc"]["value"] == pytest.approx(auc(four.malignancy, four.malignant))
    several = found["multiclass"]
    counts = Counter(zip(four.labels.tolist(), four.scores.argmax(axis=1).tolist(), strict=True))
    assert several["confusion"] == [[counts[row, column] for column in range(4)] for row in range(4)]
    right = sum(counts[i, i] for i in range(4))
    assert several["accuracy"]["value"] == pytest.approx(right / len(four.images))
    assert several["auc_micro"]["low"] < several["auc_micro"]["value"]
    assert "auc_MALIGNANT_MASS" in several
    assert "auc_micro" in performance_table(found)


def test_subgroups() -> None:
    found = measure_performance(TEST, calibration=None, resamples=100)["subgroups"]
    assert {group["column"] for group in found} == {
        "density",
        "abnormality_type",
        "view",
        "subtlety",
        "laterality",
    }
    views = {group["value"]: group for group in found if group["column"] == "view"}
    assert set(views) == {"CC", "MLO"}
    rows = (TEST.table["view"] == "CC").to_numpy()
    assert views["CC"]["n"] == rows.sum()
    assert views["CC"]["malignant"] == TEST.malignant[rows].sum()
    assert views["CC"]["auc"]["value"] == pytest.approx(auc(TEST.malignancy[rows], TEST.malignant[rows]))


def test_small_and_unknown_subgroups_are_told() -> None:
    density = TEST.table["density"].replace(1, 2).mask(TEST.table["patient_id"] > "P_00040")
    density = density.mask(density.index < 4, 1)
    table = TEST.table.assign(density=density)
    groups = measure_performance(Predictions(table, TEST.classes, "t"), calibration=None, resamples=50)[
        "subgroups"
    ]
    density_groups = {group["value"]: group for group in groups if group["column"] == "density"}
    assert density_groups[1]["auc"] is None
    assert "5 needed" in density_groups[1]["note"]
    assert density_groups[None]["n"] == density.isna().sum()
    assert sum(group["n"] for group in density_groups.values()) == len(density)


def test_one_class_is_told() -> None:
    benign = TEST.take(TEST.malignant == 0)
    found = plain(measure_performance(benign, calibration=CALIBRATION, resamples=50))
    assert found["notes"] == [
        f"all {len(benign.images)} images are benign: metrics that compare classes are undefined"
    ]
    assert found["image"]["auc"] == {"value": None, "low": None, "high": None}
    assert found["image"]["specificity"]["low"] is not None
    assert "are benign" in performance_table(found)


def test_a_missing_laterality_leaves_out_the_breast() -> None:
    table = TEST.table.assign(laterality=TEST.table["laterality"].mask(TEST.table.index == 3))
    found = plain(
        measure_performance(Predictions(table, TEST.classes, "t"), calibration=CALIBRATION, resamples=50)
    )
    assert found["breast"] is None
    assert found["n"]["breasts"] is None
    assert len(found["notes"]) == 1
    assert "1 of" in found["notes"][0]
    assert "breast" not in performance_table(found).splitlines()[2]


def test_the_table_shows_every_score() -> None:
    found = measure_performance(TEST, calibration=CALIBRATION, resamples=50)
    text = performance_table(found)
    shown = found["image"]["auc"]
    assert f"{shown['value']:.3f} [{shown['low']:.3f}, {shown['high']:.3f}]" in text
    rows = [line for line in text.split("\n\n")[1].splitlines() if line]
    assert len(rows) == 2 + len(found["image"]) - 2  # header, threshold; no threshold, confusion
    assert max(map(len, text.splitlines())) <= 120
