import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from helpers.cohorts import four_classes, predictions
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo.evaluation.predictions import Predictions, Units, by_unit
from mammo.evaluation.statistics.calibration import Calibration, fit_calibration
from mammo.evaluation.statistics.class_performance import image_auc
from mammo.evaluation.statistics.headline_intervals import headline_intervals, too_few
from mammo.evaluation.statistics.intervals import bootstrap, draw_patients
from mammo.evaluation.statistics.performance import measure_performance, performance_table
from mammo.evaluation.statistics.weighted_metrics import BinaryMetrics
from mammo.metrics import auc, clustered_auc, delong_auc, mean_fold_auc, micro_chance

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
    assert found["n"]["images"] == len(TEST.samples)
    assert found["n"]["patients"] == 60
    assert found["n"]["malignant_patients"] == len(np.unique(TEST.patients[TEST.malignant == 1]))
    assert found["image"]["auc"]["value"] == pytest.approx(auc(TEST.scores[:, 1], TEST.labels))
    for unit in ("image", "breast", "patient"):
        units = by_unit(TEST, unit)
        of_unit = found[unit]
        assert of_unit["auc"]["low"] < of_unit["auc"]["value"] < of_unit["auc"]["high"]
        assert of_unit["auc"]["low"] == clustered_auc(units.score, units.label, units.cluster).low
        assert of_unit["auc_delong"]["low"] == delong_auc(units.score, units.label, units.cluster).low
        assert of_unit["threshold"] == CALIBRATION.threshold(unit, "mean")
        (right_benign, wrong_benign), (missed, hit) = of_unit["confusion"]
        assert right_benign + wrong_benign + missed + hit == len(units.label)
        assert of_unit["sensitivity"]["value"] == pytest.approx(hit / (hit + missed))
        assert of_unit["specificity"]["value"] == pytest.approx(right_benign / (right_benign + wrong_benign))
    metrics = BinaryMetrics(TEST.malignancy, TEST.malignant, calibrated=TEST.malignancy)
    assert set(metrics(np.ones((1, len(TEST.samples))))) <= set(found["image"])
    assert found["multiclass"] is None
    assert found["notes"] == []


def test_calibrated_scores_are_judged_beside_the_scores_as_they_are() -> None:
    found = measure_performance(TEST, calibration=CALIBRATION, resamples=50)["image"]
    calibrated = CALIBRATION.apply(TEST).scores[:, 1]
    assert found["brier"]["value"] == pytest.approx(((TEST.scores[:, 1] - TEST.labels) ** 2).mean())
    assert found["brier_calibrated"]["value"] == pytest.approx(((calibrated - TEST.labels) ** 2).mean())
    slope = found["calibration_slope"]["value"]
    assert found["calibration_slope_calibrated"]["value"] == pytest.approx(slope / CALIBRATION.slope)


def test_predictive_values_at_a_prevalence() -> None:
    found = measure_performance(TEST, calibration=CALIBRATION, resamples=50, prevalence=0.006)
    plain(found)
    ill = 0.006 * found["image"]["sensitivity"]["value"]
    alarms = 0.994 * (1 - found["image"]["specificity"]["value"])
    assert found["image"]["ppv_at_prevalence"]["value"] == pytest.approx(ill / (ill + alarms))
    assert found["image"]["ppv_at_prevalence"]["low"] < found["image"]["ppv_at_prevalence"]["value"]
    assert "PPV at a prevalence of 0.006" in performance_table(found)
    without = measure_performance(TEST, calibration=CALIBRATION, resamples=50)
    assert "at a prevalence" not in performance_table(without)


@pytest.mark.parametrize("rule", ["sensitivity", "specificity"])
def test_a_target_is_reached_on_the_validation_images_and_its_transfer_is_shown(rule: str) -> None:
    calibration = fit_calibration(VALIDATION, rule=rule, target=0.85)
    found = plain(measure_performance(TEST, calibration=calibration, resamples=50))
    for unit in ("image", "breast", "patient"):
        of_unit, fixed = found[unit], by_unit(VALIDATION, unit)
        called = fixed.score >= of_unit["threshold"]
        assert of_unit["sensitivity_validation"]["value"] == pytest.approx(called[fixed.label == 1].mean())
        assert of_unit["specificity_validation"]["value"] == pytest.approx(
            1 - called[fixed.label == 0].mean()
        )
        assert of_unit[f"{rule}_validation"]["value"] >= 0.85
        scored = by_unit(TEST, unit)
        hits = (scored.score >= of_unit["threshold"])[scored.label == 1]
        assert of_unit["sensitivity"]["value"] == pytest.approx(hits.mean())
    assert found["method"]["threshold"] == f"{rule} of at least 0.85 on validation images"
    assert f"{rule}, validation images" in performance_table(found)


def test_a_calibration_of_an_older_version_has_no_validation_values() -> None:
    values = CALIBRATION.to_dict()
    del values["reached"]
    found = measure_performance(TEST, calibration=Calibration.from_dict(values), resamples=50)
    assert found["image"]["threshold"] == CALIBRATION.thresholds["image"]
    assert "sensitivity_validation" not in found["image"]


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
    assert several["accuracy"]["value"] == pytest.approx(right / len(four.samples))
    assert several["auc_macro"]["low"] < several["auc_macro"]["value"]
    assert several["auc_micro"]["low"] < several["auc_micro"]["value"]
    assert several["auc_micro_chance"] == micro_chance(four.labels, 4)
    assert "auc_MALIGNANT_MASS" in several
    assert "auc_micro" in performance_table(found)


def test_folds_are_summarised_by_the_mean_of_their_aucs() -> None:
    fold = TEST.table["patient_id"].str[-1].astype(int) % 3
    shift = 0.3 * fold.to_numpy()
    malignant = np.clip(0.4 * TEST.malignancy + shift, 0, 1)
    scored = TEST.with_scores(np.stack([1 - malignant, malignant], axis=1))
    folds = Predictions(scored.table.assign(fold=fold.astype("Int64")), TEST.task, "folds")
    found = measure_performance(folds, calibration=None, resamples=100)
    alone = image_auc(folds)  # of a page without metrics.json
    assert found["image"]["auc"] == {"value": alone.value, "low": alone.low, "high": alone.high}
    for unit in ("image", "breast", "patient"):
        units = by_unit(folds, unit)
        expected = mean_fold_auc(units.score, units.label, units.cluster, units.fold)
        assert found[unit]["auc"]["value"] == pytest.approx(expected.value)
        assert found[unit]["auc"]["low"] == pytest.approx(expected.low)
        assert found[unit]["auc_pooled"]["low"] < found[unit]["auc_pooled"]["value"]
        assert "auc_delong" not in found[unit]
    again = TEST.table.assign(fold=fold.astype("Int64"))
    plain_scores = measure_performance(Predictions(again, TEST.task, "f"), calibration=None, resamples=100)
    for name in ("auc", "auc_pooled", "average_precision"):  # the scale of a fold's network does not matter
        assert plain_scores["image"][name] == pytest.approx(found["image"][name])
    assert found["method"]["auc"].startswith("mean of the folds' AUCs")


def test_one_malignant_woman_is_said_in_the_singular() -> None:
    units = Units(np.array([0.2, 0.4, 0.9]), np.array([0, 0, 1]), np.array(["a", "b", "c"]), TEST.task.words)
    assert str(too_few(units)).startswith("too few to say: 1 patient with malignant cases, 10 needed")


@pytest.mark.parametrize("women", [3, 9])
def test_few_malignant_women_are_said_with_their_number(women: int) -> None:
    malignant = np.unique(TEST.patients[TEST.malignant == 1])
    few = TEST.take(~np.isin(TEST.patients, malignant[women:]))
    found = measure_performance(few, calibration=CALIBRATION, resamples=200)
    note = f"by image, breast, patient: too few to say: {women} patients with malignant cases, 10 needed"
    assert any(text.startswith(note) for text in found["notes"])
    image, units = found["image"], by_unit(few)
    alone = clustered_auc(units.score, units.label, units.cluster)
    # the interval that the training prints for the same scores
    assert image["auc"] == {"value": alone.value, "low": alone.low, "high": alone.high}
    assert not any(
        "too few" in text
        for text in measure_performance(TEST, calibration=CALIBRATION, resamples=50)["notes"]
    )


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 8))
def test_an_interval_by_another_method_is_of_the_same_value(seed: int, digits: int) -> None:
    rng = np.random.default_rng(seed)
    patients = rng.integers(15, size=40)
    labels = rng.integers(2, size=40) * (patients < 10)
    units = Units(np.round(rng.random(40) / 2 + labels / 4, digits), labels, patients.astype(str))
    metrics = BinaryMetrics(units.score, labels, threshold=0.5)
    draws = draw_patients(units.cluster, labels, resamples=20, rng=rng)
    resampled = bootstrap(metrics.discrimination, draws, units.cluster)
    found = headline_intervals(units, metrics, resampled, called=units.score >= 0.5)
    assert found.keys() >= resampled.keys() - {"positive_likelihood_ratio", "negative_likelihood_ratio"}
    for name in found.keys() & resampled.keys():
        assert found[name].value == pytest.approx(resampled[name].value, nan_ok=True), name
        assert not found[name].low > found[name].value, name
        assert not found[name].high < found[name].value, name
    for name in resampled:
        if "_at_" in name:
            assert not found[name].low > resampled[name].low, name
            assert not found[name].high < resampled[name].high, name


def test_a_proportion_of_one_has_an_interval() -> None:
    malignancy = np.where(TEST.malignant == 1, 0.9, TEST.malignancy * 0.99)
    sure = TEST.with_scores(np.stack([1 - malignancy, malignancy], axis=1))
    image = measure_performance(sure, calibration=None, resamples=100)["image"]
    for name in ("sensitivity_at_90_specificity", "specificity_at_90_sensitivity"):
        assert image[name]["value"] == image[name]["high"] == 1
        assert 0.7 < image[name]["low"] < 1
    found = image["sensitivity"]
    assert found["value"] == found["high"] == 1
    assert 0.5 < found["low"] < 1


def test_one_class_is_told() -> None:
    benign = TEST.take(TEST.malignant == 0)
    found = plain(measure_performance(benign, calibration=CALIBRATION, resamples=50))
    assert found["notes"] == [
        f"all {len(benign.samples)} images are benign: metrics that compare classes are undefined"
    ]
    assert found["image"]["auc"] == {"value": None, "low": None, "high": None}
    assert found["image"]["specificity"]["low"] is not None
    assert "are benign" in performance_table(found)


def test_a_missing_laterality_leaves_out_the_breast() -> None:
    table = TEST.table.assign(laterality=TEST.table["laterality"].mask(TEST.table.index == 3))
    found = plain(
        measure_performance(Predictions(table, TEST.task, "t"), calibration=CALIBRATION, resamples=50)
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
