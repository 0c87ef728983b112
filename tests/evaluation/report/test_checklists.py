"""Checklists: the numbers of the guidelines, and answers that come from the facts alone."""

from dataclasses import replace
from typing import Any

import pytest

from mammo.evaluation.report.checklists import CHECKLISTS, CLAIM, STARD, TRIPOD_AI, Row, filled
from mammo.evaluation.report.study_data import DataFlow, Part, StudyFacts

NOTHING = StudyFacts(
    configs=[{}], runs=[{}], metrics={}, split="test", folds=False, has_characteristics=False, outcomes={},
    pictures=0, flow=DataFlow(Part("source"), None, Part("prepared"), None, (), Part("scored", 3, 2), ()),
)  # fmt: skip


def record(*, trained: int = 0, chosen: int = 0, tta: str = "none") -> dict[str, Any]:
    seen = {"trained_images": trained, "trained_patients": trained}
    seen |= {"chosen_images": chosen, "chosen_patients": chosen}
    return {"weights_sha256": "a", "store": "b", "split": "test", "tta": tta, "images": 3, "seen": seen}


def item(facts: StudyFacts, number: str) -> Row:
    """An item of CLAIM."""
    return next(row for row in filled(CLAIM.items, facts) if row.number == number)


def test_every_item_of_the_guidelines_is_there_once() -> None:
    numbers = {checklist.key: [item.number for item in checklist.items] for checklist in CHECKLISTS}
    assert numbers[CLAIM.key] == [str(number) for number in range(1, 45)]
    letters = {3: "abc", 5: "ab", 6: "abc", 8: "abc", 9: "abc", 12: "abcdefg", 18: "abcdef", 20: "abc"}
    letters |= {23: "ab", 27: "abc"}
    assert numbers[TRIPOD_AI.key] == [
        f"{number}{letter}" for number in range(1, 28) for letter in letters.get(number, [""])
    ]
    letters = {10: "ab", 12: "ab", 13: "ab", 21: "ab"}
    assert numbers[STARD.key] == [
        f"{number}{letter}" for number in range(1, 31) for letter in letters.get(number, [""])
    ]


@pytest.mark.parametrize("checklist", CHECKLISTS, ids=lambda checklist: checklist.key)
def test_without_facts_nothing_is_answered(checklist: Any) -> None:
    assert {row.status for row in filled(checklist.items, NOTHING)} <= {"for the author", "not recorded"}


def test_ensembling_is_that_of_the_runs() -> None:
    one = replace(NOTHING, metrics={"provenance": [record()]})
    assert item(one, "27").text == "none: one network"
    three = replace(one, configs=[{}] * 3, runs=[{}] * 3, metrics={"provenance": [record(tta="flips")] * 3})
    assert item(three, "27").text == "mean of the scores of 3 networks; test-time augmentation: flips"
    assert item(replace(three, folds=True), "27").text.startswith("none: each image is scored by one of 3")
    averaged = replace(one, configs=[{"trainer": {"ema_decay": 0.99}}])
    assert "moving average of the weights, decay 0.99" in item(averaged, "27").text


def test_disjointness_is_that_of_the_check() -> None:
    found = [
        item(replace(NOTHING, metrics={"provenance": records}), "20")
        for records in (
            [record()],
            [record(trained=2)],
            [record(), record(chosen=1)],
            [record() | {"seen": None}],
        )
    ]
    assert found[0].text == "the patient: no scored patient is in the training set, nor in the validation set"
    assert found[1].text.startswith("not disjoint: 2 scored images are of patients of the training set")
    assert found[2].text.startswith("not disjoint: 0 scored images")
    assert found[3].status == "not recorded"
    flips = replace(NOTHING, split="validation (flips)", metrics={"provenance": [record(chosen=3)]})
    assert item(flips, "20").text.startswith("the patient: no scored patient is in the training set, checked")


def test_data_decide_on_internal_and_external_evaluation() -> None:
    image = {"auc": {"value": 0.8, "low": 0.7, "high": 0.9}}
    own = replace(NOTHING, metrics={"image": image})
    assert "0.800 (0.700 to 0.900)" in item(own, "32").text
    assert item(own, "33").text.startswith("none on this page")
    other = replace(own, metrics={"image": image, "data": {"source": "cbis_ddsm"}})
    assert item(other, "32").text.startswith("not on this page")
    assert "CBIS-DDSM" in item(other, "33").text
    assert "retrospective" in item(other, "5").text


def test_author_completes_what_is_not_synthetic() -> None:
    assert [
        item(replace(NOTHING, configs=[{"data": {"_target_": f"mammo.x.read_{source}"}}]), "16").status
        for source in ("phantom", "cbis_ddsm", "csv")
    ] == ["answered", "for the author", "for the author"]


def test_selection_and_search_are_recorded_facts() -> None:
    assert item(NOTHING, "26").status == "not recorded"
    searched = replace(NOTHING, runs=[{"monitor": "val/loss", "part_of": "multirun/x"}])
    assert item(searched, "26").text == (
        "weights of the epoch with the best val/loss on the validation images; the run is part of a search "
        "or multirun"
    )
