import json
import re
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pauc
import pytest
from helpers.cohorts import four_classes, predictions, several_views, simulate, table
from hypothesis import given
from hypothesis import strategies as st

from mammo.errors import DataError
from mammo.evaluation.predictions import Predictions
from mammo.evaluation.statistics.comparison import compare, comparison_table, holm, verdict
from mammo.evaluation.statistics.intervals import draw_patients
from mammo.evaluation.statistics.weighted_metrics import AucOnly, expit
from mammo.metrics import auc, auc_difference, clustered_covariance, delong_auc


def scored(like: Predictions, scores: np.ndarray, *, source: str) -> Predictions:
    malignant = expit(scores)
    return like.with_scores(np.stack([1 - malignant, malignant], axis=1), source=source)


def rivals(rng: np.random.Generator, *, patients: int, gain: float) -> dict[str, Predictions]:
    """Two models that share half of their noise; `gain` is how much better the second one separates."""
    names, labels, scores = simulate(rng, patients=patients)
    other = scores + gain * labels + np.sqrt(0.5) * rng.normal(size=scores.size)
    given = expit(np.stack([-scores, scores], axis=1))
    first = table(names, labels, given, rng, task="pathology", source="A")
    return {"A": first, "B": scored(first, other, source="B")}


def test_delong_is_that_of_pauc() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=150)
    scores = np.round(rng.normal(size=(150, 2)) + labels[:, None] + rng.normal(size=(150, 1)), 1)
    covariance = clustered_covariance(scores, labels, np.arange(150))
    first, second = (pauc.ROC(labels, scores[:, model], direction="<") for model in (0, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert covariance[0, 0] == pytest.approx(pauc.var(first))
        assert covariance[0, 1] == pytest.approx(pauc.cov(first, second))
        test = pauc.compare(first, second)
        low, high = pauc.ci_auc(first)  # on the scale of the AUC; ours is on the logit scale
    difference = auc(scores[:, 0], labels) - auc(scores[:, 1], labels)
    ours, p = auc_difference(scores[:, 0], scores[:, 1], labels, np.arange(150))
    assert ours.value == pytest.approx(test.estimate) == pytest.approx(difference)
    assert p == pytest.approx(test.p_value, abs=0.003)  # of the t instead of the normal distribution
    ours = delong_auc(scores[:, 0], labels, np.arange(150))
    assert ours.value == pytest.approx((low + high) / 2)
    assert ours.standard_error == pytest.approx((high - low) / 2 / 1.959964)


def test_error_by_patient_is_that_of_the_resamples() -> None:
    runs = rivals(np.random.default_rng(1), patients=300, gain=0.2)
    pair = compare(runs)["pairs"][0]
    (a, b), malignant = (run.malignancy for run in runs.values()), runs["A"].malignant
    draws = draw_patients(runs["A"].patients, malignant, resamples=2000, rng=np.random.default_rng(0))
    areas = AucOnly({"A": a, "B": b}, malignant)(draws.weights(runs["A"].patients))
    width = pair["difference"]["high"] - pair["difference"]["low"]
    assert width / 2 / 1.96 == pytest.approx((areas["A"] - areas["B"]).std(), rel=0.07)


def test_models_are_compared() -> None:
    runs = rivals(np.random.default_rng(2), patients=150, gain=1.5)
    runs["C"] = scored(runs["A"], 0 * runs["A"].malignancy, source="C")
    for unit in ("image", "breast", "patient"):
        found = compare(runs, unit=unit)
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        value = {model["name"]: model["auc"]["value"] for model in found["models"]}
        assert value["C"] == 0.5
        assert [(pair["a"], pair["b"]) for pair in found["pairs"]] == [("A", "B"), ("A", "C"), ("B", "C")]
        for pair in found["pairs"]:
            assert pair["difference"]["value"] == pytest.approx(value[pair["a"]] - value[pair["b"]])
            assert pair["p"] <= pair["p_holm"] < 0.05
        assert comparison_table(found).count("\n") == 8
        images = "" if unit == "patient" else rf"\d+ {unit}s of "
        assert re.fullmatch(rf"AUC by {unit}: {images}\d+ patients", comparison_table(found).splitlines()[0])


def test_a_model_does_not_differ_from_itself() -> None:
    made = predictions(np.random.default_rng(3))
    turned = made.take(np.arange(len(made.samples))[::-1])
    pair = compare({"A": made, "B": turned})["pairs"][0]
    assert pair["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert pair["p"] == 1


def test_models_of_different_tasks_are_compared() -> None:
    four = four_classes(np.random.default_rng(4))
    names = four.patients, four.malignant, np.stack([1 - four.malignancy, four.malignancy], axis=1)
    two = table(*names, np.random.default_rng(4), task="pathology", source="two")
    assert compare({"four": four, "two": two})["pairs"][0]["difference"]["value"] == 0


def test_different_images_are_refused() -> None:
    made = predictions(np.random.default_rng(5), source="A")
    with pytest.raises(DataError, match="A and A: 2 images are in one table only"):
        compare({"A": made, "B": made.take(np.arange(2, len(made.samples)))})


@pytest.mark.parametrize("unit", ["breast", "patient"])
def test_models_of_images_breasts_and_exams_are_compared(unit: str) -> None:
    """A model of breasts or exams that averages the images ranks as the model of images does."""
    images = predictions(np.random.default_rng(8))
    breasts, exams = (several_views(images, unit=each) for each in ("breast", "exam"))
    turned = breasts.take(np.arange(len(breasts.samples))[::-1])
    found = compare({"images": images, "breasts": turned, "exams": exams}, unit=unit)
    areas = [model["auc"]["value"] for model in found["models"]]
    alone = compare({"A": images, "B": images}, unit=unit)
    assert found["n"] == alone["n"]
    assert areas[0] == alone["models"][0]["auc"]["value"]
    if unit == "breast":
        assert areas == pytest.approx([areas[0]] * 3)
    else:  # the mean of breasts is not that of images
        assert areas[2] == pytest.approx(areas[0])
        assert areas[1] == pytest.approx(
            compare({"A": breasts, "B": breasts}, unit=unit)["models"][0]["auc"]["value"]
        )


def test_without_a_unit_samples_are_compared_or_breasts_if_these_differ() -> None:
    images = predictions(np.random.default_rng(8))
    breasts = several_views(images, unit="breast")
    assert compare({"A": images, "B": images})["method"]["unit"] == "image"
    assert compare({"A": breasts, "B": breasts}) == compare({"A": breasts, "B": breasts}, unit="breast")
    assert compare({"A": images, "B": breasts}) == compare({"A": images, "B": breasts}, unit="breast")


def test_exams_of_a_breast_are_one_breast() -> None:
    images = predictions(np.random.default_rng(8))
    breasts = several_views(images, unit="breast")
    dated = [
        breasts.table.assign(sample_id=breasts.table["sample_id"] + f"_{date}", image_id=f"{date}")
        for date in ("2020", "2022")
    ]
    twice = Predictions(pd.concat(dated, ignore_index=True), breasts.task, "twice")
    pair = compare({"images": images, "breasts": twice}, unit="breast")["pairs"][0]
    assert pair["difference"]["value"] == pytest.approx(0)


def test_models_of_images_and_of_breasts_that_do_not_fit_are_refused() -> None:
    images = predictions(np.random.default_rng(8), source="A")
    breasts = several_views(images, unit="breast", source="B")
    with pytest.raises(DataError, match=r"A and B have images and breasts; compare them with unit=breast or"):
        compare({"A": images, "B": breasts}, unit="image")
    fewer = breasts.take(np.arange(1, len(breasts.samples)))
    name = breasts.samples[0].replace("_LEFT", " LEFT").replace("_RIGHT", " RIGHT")
    with pytest.raises(DataError, match=f"A and B: 1 breasts are in one table only, the first is '{name}'"):
        compare({"A": images, "B": fewer}, unit="breast")
    flipped = breasts.table.assign(label=np.where(breasts.malignant, "BENIGN", "MALIGNANT"))
    other = Predictions(flipped, breasts.task, "B")
    with pytest.raises(DataError, match=r"A and B: the label of (\d+) of \1 breasts differs, first for 'P_"):
        compare({"A": images, "B": other}, unit="breast")
    with pytest.raises(DataError, match="a row is one breast, so there are no results by image; choose from"):
        compare({"B": breasts, "C": breasts}, unit="image")


def test_one_class_leaves_the_difference_undefined() -> None:
    runs = rivals(np.random.default_rng(6), patients=30, gain=0)
    found = compare({name: run.take(run.malignant == 0) for name, run in runs.items()})
    assert found["pairs"][0]["p"] is None
    assert found["pairs"][0]["p_holm"] is None
    assert found["models"][0]["auc"]["value"] is None
    assert "-" in comparison_table(found)


def test_tests_of_equal_models_are_wrong_one_time_in_twenty() -> None:
    """In 300 comparisons of equally good models on correlated images, tests by patient keep their level."""
    rng = np.random.default_rng(7)
    by_patient, by_image = 0, 0
    for _ in range(300):
        names, labels, _ = simulate(rng, patients=60)
        _, index = np.unique(names, return_inverse=True)
        shared = rng.normal(size=(60, 2))[index]
        scores = np.sqrt(0.7) * shared + np.sqrt(0.3) * rng.normal(size=(labels.size, 2)) + labels[:, None]
        for clusters in (names, np.arange(labels.size)):
            _, p = auc_difference(scores[:, 0], scores[:, 1], labels, clusters)
            by_patient += clusters is names and p < 0.05
            by_image += clusters is not names and p < 0.05
    assert 0.02 <= by_patient / 300 <= 0.085
    assert by_image / 300 > 0.09


def test_holm_by_hand() -> None:
    assert holm(np.array([0.01, 0.04, np.nan, 0.03])).tolist() == pytest.approx(
        [0.03, 0.06, np.nan, 0.06], nan_ok=True
    )
    assert holm(np.array([0.9, 0.8])).tolist() == [1, 1]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_none_and_bonferroni(p: list[float]) -> None:
    adjusted = holm(np.array(p))
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, len(p) * np.array(p))).all()
    assert np.array_equal(adjusted[np.argsort(p)], np.sort(adjusted))


def found_of(*pairs: tuple[str, str, float, float | None]) -> dict[str, Any]:
    """The result of `compare` with the difference and the adjusted p of each pair."""
    made = [
        {"a": a, "b": b, "difference": {"value": d, "low": d - 0.02, "high": d + 0.02}, "p": p, "p_holm": p}
        for a, b, d, p in pairs
    ]
    return {"pairs": made, "method": {"level": 0.95}}


def test_the_verdict_names_the_better_run_first() -> None:
    assert verdict(found_of(("A", "B", -0.03, 0.0101))) == (
        "B ranks better than A: AUC higher by 0.030 (0.010 to 0.050), p 0.010."
    )
    three = found_of(("A", "B", 0.03, 0.2), ("A", "C", 0.05, 0.0001), ("B", "C", 0.02, 0.9))
    assert verdict(three) == (
        "A ranks better than C: AUC higher by 0.050 (0.030 to 0.070), p after Holm < 0.001. "
        "1 of 3 pairs differ beyond chance."
    )


def test_the_verdict_claims_nothing_that_chance_explains() -> None:
    assert verdict(found_of(("A", "B", -0.01, 0.4))) == (
        "The difference is not clear of chance: B above A by 0.010 (-0.010 to 0.030), p 0.400."
    )
    assert verdict(found_of(("A", "B", 0.01, 0.4), ("A", "C", -0.02, 1.0))).startswith(
        "None of 2 pairs differs beyond chance; the largest difference: C above A by 0.020"
    )
    assert verdict(found_of(("A", "B", 0.01, None))).startswith("No difference can be tested")
