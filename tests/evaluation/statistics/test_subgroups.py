"""Metrics by subgroup against those of the images alone; the test of equal AUCs against scipy and DeLong."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.cohorts import predictions
from scipy.stats import chi2, kstest

from mammo.data.tasks import Task
from mammo.errors import DataError
from mammo.evaluation.predictions import Predictions
from mammo.evaluation.statistics.clinical_metrics import calibration_in_the_large
from mammo.evaluation.statistics.comparison import compare, holm
from mammo.evaluation.statistics.subgroups import (
    check_subgroups,
    compare_in_subgroups,
    compare_subgroups,
    compared_subgroups_table,
    measure_subgroups,
    subgroups_table,
)
from mammo.evaluation.statistics.weighted_metrics import expit, logit
from mammo.metrics import auc, clustered_auc, clustered_covariance

TEST = predictions(np.random.default_rng(1), patients=120)


def by_column(groups: list[dict], column: str) -> dict:
    return {group["value"]: group for group in groups if group["column"] == column}


def measured(given: Predictions, **options: Any) -> list[dict]:
    settings = {"threshold": 0.5, "resamples": 100, "seed": 0} | options
    return measure_subgroups(given, probability=given.malignancy, **settings)


def changed(**columns: object) -> Predictions:
    return Predictions(TEST.table.assign(**columns), TEST.task, "changed")


def test_a_group_has_the_metrics_of_its_images_alone() -> None:
    groups = measured(TEST)
    assert {group["column"] for group in groups} == {
        "density", "abnormality_type", "view", "subtlety", "laterality",
    }  # fmt: skip
    for value, group in by_column(groups, "view").items():
        rows = (TEST.table["view"] == value).to_numpy()
        labels, scores, women = TEST.malignant[rows], TEST.malignancy[rows], TEST.patients[rows]
        assert group["n"] == rows.sum()
        assert group["malignant"] == labels.sum()
        assert group["patients"] == len(set(women))
        assert group["malignant_patients"] == len(set(women[labels == 1]))
        assert group["benign_patients"] == len(set(women[labels == 0]))
        level = calibration_in_the_large(logit(scores), labels, np.ones((1, len(labels))))[0]
        for name, expected in {
            "auc": auc(scores, labels),
            "sensitivity": (scores[labels == 1] >= 0.5).mean(),
            "specificity": (scores[labels == 0] < 0.5).mean(),
            "calibration_in_the_large": level,
        }.items():
            assert group[name]["value"] == pytest.approx(expected), name
            assert group[name]["low"] < expected < group[name]["high"], name
        assert group["note"] is None


def test_ten_women_of_each_kind_are_needed_and_counted() -> None:
    with_malignant = np.unique(TEST.patients[TEST.malignant == 1])
    for women, counted in ((1, "1 woman"), (9, "9 women"), (10, "")):
        few = np.isin(TEST.patients, with_malignant[:women])
        group = by_column(measured(changed(view=np.where(few | (TEST.malignant == 0), "CC", "MLO"))), "view")[
            "CC"
        ]
        assert group["malignant_patients"] == women
        assert (group["auc"] is None) == (women < 10)
        if women < 10:
            assert group["note"] == f"too few: {counted} with malignant images, 10 needed"
            assert group["sensitivity"] is None


def test_unknown_values_are_a_group_but_not_compared() -> None:
    density = TEST.table["density"].mask(TEST.table["patient_id"] > "P_00060").replace({2: 1, 3: 4})
    given_table = changed(density=density)
    groups = by_column(measured(given_table), "density")
    assert groups[None]["n"] == density.isna().sum()
    assert sum(group["n"] for group in groups.values()) == len(density)
    test = next(test for test in compare_subgroups(given_table) if test["column"] == "density")
    assert (test["groups"], test["df"]) == (2, 1)


def test_groups_of_different_women_by_hand() -> None:
    """Without common women, the variance of a difference is the sum of the variances."""
    half = np.where(TEST.patients < "P_00060", "LEFT", "RIGHT")
    found = next(t for t in compare_subgroups(changed(laterality=half)) if t["column"] == "laterality")
    log_odds, variance = [], 0.0
    for side in ("LEFT", "RIGHT"):
        rows = half == side
        area = clustered_auc(TEST.malignancy[rows], TEST.malignant[rows], TEST.patients[rows])
        log_odds.append(np.log(area.value / (1 - area.value)))
        variance += (area.standard_error / (area.value * (1 - area.value))) ** 2
    expected = (log_odds[0] - log_odds[1]) ** 2 / variance
    assert found["chi_square"] == pytest.approx(expected)
    assert found["p"] == pytest.approx(chi2.sf(expected, 1))


def views(rng: np.random.Generator, *, women: int, loss: float = 0.0) -> Predictions:
    """Two views of each woman with one label; the separation of the second is smaller by `loss`."""
    label = (np.arange(women) < women // 2).astype(int)
    shared = rng.normal(size=women)
    scores = [shared + 0.5 * rng.normal(size=women) + (1.5 - loss * view) * label for view in (0, 1)]
    malignant = expit(np.concatenate(scores))
    columns = predictions(rng, patients=2).table.columns
    table = pd.DataFrame({name: pd.array([pd.NA] * 2 * women, dtype="Int64") for name in columns})
    table = table.assign(
        sample_id=np.arange(2 * women).astype(str),
        unit="image",
        patient_id=np.tile(np.arange(women).astype(str), 2),
        view=pd.array(np.repeat(["CC", "MLO"], women), dtype="string"),
        label=np.tile(np.where(label, "MALIGNANT", "BENIGN"), 2),
        score_BENIGN=1 - malignant,
        score_MALIGNANT=malignant,
    )
    return Predictions(table, TEST.task, "views")


def test_groups_of_the_same_women_are_compared_as_two_models_of_them() -> None:
    women = 80
    given_views = views(np.random.default_rng(5), women=women, loss=0.6)
    found = compare_subgroups(given_views)
    pair = given_views.malignancy.reshape(2, women).T
    labels = given_views.malignant[:women]
    covariance = clustered_covariance(pair, labels, np.arange(women))
    areas = np.array([auc(column, labels) for column in pair.T])
    slopes = np.array([1, -1]) / (areas * (1 - areas))
    expected = np.diff(np.log(areas / (1 - areas)))[0] ** 2 / (slopes @ covariance @ slopes)
    assert [test["column"] for test in found] == ["view"]
    assert found[0]["chi_square"] == pytest.approx(expected, rel=0.02)


@pytest.mark.slow
def test_p_values_are_uniform_where_the_areas_are_equal() -> None:
    rng = np.random.default_rng(6)
    p = [compare_subgroups(views(rng, women=80))[0]["p"] for _ in range(100)]
    assert kstest(p, "uniform").pvalue > 0.01


def test_p_values_are_adjusted_over_the_columns() -> None:
    found = compare_subgroups(TEST)
    expected = holm(np.array([test["p"] for test in found]))
    assert [test["p_holm"] for test in found] == pytest.approx(expected.tolist())
    lines = "\n".join(subgroups_table(measured(TEST), found))
    for test in found:
        assert f"{test['p']:.3f}" in lines


def test_what_cannot_be_compared_has_no_p_value() -> None:
    perfect = np.where(TEST.malignant == 1, 0.9, 0.1)
    found = compare_subgroups(TEST.with_scores(np.stack([1 - perfect, perfect], axis=1)))
    assert {test["p"] for test in found} == {None}
    assert "0 or 1" in found[0]["note"]
    one_view = compare_subgroups(changed(view="CC"))
    assert (
        next(t for t in one_view if t["column"] == "view")["note"] == "1 groups of sufficient size, 2 needed"
    )
    copied = pd.concat([TEST.table.assign(view=view) for view in ("CC", "MLO")], ignore_index=True)
    same = compare_subgroups(Predictions(copied, TEST.task, "copied"))
    assert next(t for t in same if t["column"] == "view")["p"] is None


@pytest.mark.parametrize("order", [[4, 3, 2, 1], [2, 4, 1, 3]])
def test_the_order_of_the_groups_changes_nothing(order: list[int]) -> None:
    renamed = TEST.table["density"].map(dict(enumerate(order, 1))).astype("Int64")
    plain, moved = (
        next(t for t in compare_subgroups(one) if t["column"] == "density")
        for one in (TEST, changed(density=renamed))
    )
    assert moved["chi_square"] == pytest.approx(plain["chi_square"])
    assert moved["df"] == plain["df"] == 3


def test_chosen_columns_replace_the_usual_ones_and_numbers_are_cut() -> None:
    age = pd.array([str(40 + number % 50) for number in range(len(TEST.table))], dtype="string")
    age[0], age[1] = pd.NA, "045Y"
    given = changed(age=age, manufacturer=pd.array(["A", "B"] * len(age), dtype="string")[: len(age)])
    columns = {"manufacturer": [], "age": [50.0, 70.0]}
    groups = measured(given, columns=columns)
    assert [(group["column"], group["value"]) for group in groups] == [
        *[("manufacturer", "A"), ("manufacturer", "B")],
        *[("age", "< 50"), ("age", "50 to < 70"), ("age", ">= 70"), ("age", None)],
    ]
    years = pd.to_numeric(pd.Series(age).replace("045Y", "45"))
    counts = [(years < 50).sum(), years.between(50, 69).sum(), (years >= 70).sum(), 1]
    assert [group["n"] for group in groups[2:]] == counts
    assert [test["column"] for test in compare_subgroups(given, columns=columns)] == list(columns)
    with pytest.raises(DataError, match=r"subgroups=\[age\]: has 51 values, at most 20 .*\{age:\[50,70\]\}"):
        measured(given, columns={"age": []})
    with pytest.raises(DataError, match=r"subgroups=\[manufacturer\]: 'A' is no number; leave out the cut"):
        measured(given, columns={"manufacturer": [1.0]})


def test_columns_of_a_data_set_are_subgroups_if_they_are_there() -> None:
    groups = measured(changed(cohort=["D1", "D2"] * (len(TEST.table) // 2) + ["D1"] * (len(TEST.table) % 2)))
    assert list(by_column(groups, "cohort")) == ["D1", "D2"]
    many = changed(manufacturer=[f"spelling {index % 21}" for index in range(len(TEST.table))])
    assert by_column(measured(many), "manufacturer") == {}
    with pytest.raises(DataError, match=r"subgroups=\[manufacturer\]: has 21 values"):
        check_subgroups({"manufacturer": []}, many.table, task=many.task)


def test_a_group_of_one_kind_has_the_metric_of_this_kind() -> None:
    """As the normal images, which say how often the model is wrong without a lesion."""
    diagnosis = np.where(TEST.malignant == 1, "MALIGNANT", np.where(TEST.table.index % 2, "NORMAL", "BENIGN"))
    normal = by_column(measured(changed(diagnosis=diagnosis)), "diagnosis")["NORMAL"]
    rows = diagnosis == "NORMAL"
    assert normal["note"].startswith("too few: 0 women with malignant images")
    assert normal["specificity"]["value"] == pytest.approx((TEST.malignancy[rows] < 0.5).mean())
    assert (normal["auc"], normal["sensitivity"], normal["calibration_in_the_large"]) == (None, None, None)


def test_a_wrong_choice_is_refused_before_anything_is_scored() -> None:
    with pytest.raises(DataError, match=r"subgroups=\[agee\]: the data have no such column; choose from lat"):
        check_subgroups({"agee": []}, TEST.table, task=TEST.task)
    with pytest.raises(DataError, match=r"subgroups=\[view\]: the task density has no positive class"):
        check_subgroups({"view": []}, TEST.table, task=Task.shipped("density"))
    empty = TEST.table.assign(dose=pd.Series(pd.NA, index=TEST.table.index, dtype="string"))
    with pytest.raises(DataError, match=r"subgroups=\[dose\]: is empty, or differs within each sample"):
        check_subgroups({"dose": []}, empty, task=TEST.task)
    check_subgroups({"view": []}, TEST.table, task=TEST.task)


def better(than: Predictions) -> Predictions:
    malignant = expit(logit(than.malignancy) + than.malignant)
    return than.with_scores(np.stack([1 - malignant, malignant], axis=1), source="better")


def test_models_are_compared_in_each_subgroup_as_on_its_images_alone() -> None:
    turned = better(TEST).take(np.arange(len(TEST.samples))[::-1])
    runs = {"plain": TEST, "better": turned, "again": TEST}
    groups = compare_in_subgroups(runs, columns={"view": [], "density": []}, unit="breast")
    assert [(group["column"], group["value"]) for group in groups if group["column"] == "view"] == [
        ("view", "CC"),
        ("view", "MLO"),
    ]
    for group in groups[:2]:
        rows = (TEST.table["view"] == group["value"]).to_numpy()
        alone = {name: run.take(np.isin(run.samples, TEST.samples[rows])) for name, run in runs.items()}
        expected = compare(alone, unit="breast")
        assert (group["n"], group["models"]) == (expected["n"], expected["models"])
        for pair, other in zip(group["pairs"], expected["pairs"], strict=True):
            assert {**pair, "p_holm": 0} == {**other, "p_holm": 0}
        assert group["pairs"][0]["difference"]["value"] < 0  # plain minus better
    pairs = [pair for group in groups[:2] for pair in group["pairs"]]
    assert [pair["p_holm"] for pair in pairs] == pytest.approx(holm(np.array([pair["p"] for pair in pairs])))
    table = compared_subgroups_table(groups)
    assert table.count("plain - better") == sum(bool(group["pairs"]) for group in groups)


def test_groups_that_are_too_small_for_a_comparison_say_so() -> None:
    size = pd.Series(0.1, TEST.table.index)
    size[TEST.malignant == 1] = 0.3
    runs = {"a": changed(lesion_size=size), "b": changed(lesion_size=size)}
    small, large = compare_in_subgroups(runs, columns={"lesion_size": [0.2]})
    assert (small["value"], large["value"]) == ("< 0.2", ">= 0.2")
    assert re.fullmatch(r"too few: 0 women with malignant images, \d+ needed", small["note"])
    assert small["pairs"] == large["pairs"] == []
    assert compared_subgroups_table([small, large]).count("too few") == 2


def test_without_columns_models_of_different_samples_have_no_groups_and_with_them_are_refused() -> None:
    runs = {"a": TEST, "b": TEST.take(np.arange(3, len(TEST.samples)))}
    assert compare_in_subgroups(runs, columns={}) == []
    with pytest.raises(DataError, match="3 images are in one table only"):
        compare_in_subgroups(runs, columns={"view": []})
    with pytest.raises(DataError, match=r"subgroups=\[nosuch\]: the data have no such column"):
        compare_in_subgroups(runs, columns={"nosuch": []})
