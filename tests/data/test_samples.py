"""Samples: every image at its place, in as many samples as it should be, independent of the table's order."""

import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammo.data.samples import (
    SIDES,
    Samples,
    facts_of_groups,
    group_samples,
    in_views,
    label_of_groups,
    other_views_sentence,
    sides_of,
    views_of,
)
from mammo.errors import DataError

VIEWS = ("CC", "MLO")


def _table(rows: list[tuple[str, str, str | None, str | None, str | None]]) -> pd.DataFrame:
    names = ["image_id", "patient_id", "laterality", "view", "study_date"]
    return pd.DataFrame(rows, columns=names, dtype="string")


def _ids(images: pd.DataFrame, samples: Samples) -> list[list[str]]:
    """The image_id of each place, empty where the view is missing."""
    ids = [*images["image_id"], ""]
    return [[ids[row] for row in rows] for rows in samples.rows]


@st.composite
def tables(draw: Any) -> pd.DataFrame:
    """Images of a few women, in any order, with several images of a view and with other views."""
    image = st.tuples(
        st.sampled_from(["P1", "P2", "P10", "b"]),
        st.sampled_from(SIDES),
        st.sampled_from(["CC", "MLO", "ML"]),
        st.sampled_from([None, "20200101", "20210101"]),
    )
    found = draw(st.lists(image, max_size=24))
    ids = draw(st.permutations(range(len(found))))
    images = _table([(f"I{number}", *row) for number, row in zip(ids, found, strict=True)])
    return images.drop(columns="study_date") if draw(st.booleans()) else images


UNITS = st.sampled_from(["breast", "exam"])
DRAWS = st.one_of(st.none(), st.tuples(st.integers(0, 3), st.integers(0, 3)))


@pytest.mark.slow
@given(tables(), UNITS, DRAWS, st.permutations(VIEWS))
def test_images_are_at_their_places_and_in_their_number_of_samples(images, unit, draw, views):
    samples = group_samples(images, unit=unit, views=views, draw=draw)
    sides = sides_of(unit, views)
    assert samples.rows.shape == (len(samples.table), len(sides))
    dates = images.get("study_date", pd.Series("", index=images.index)).fillna("")
    for row, of in zip(samples.rows, samples.table.itertuples(), strict=True):
        seen = images.iloc[row[row >= 0]]
        assert len(seen)
        assert set(seen["patient_id"]) == {of.patient_id}
        assert dates.iloc[row[row >= 0]].nunique() == 1
        if unit == "breast":
            assert set(seen["laterality"]) == {of.laterality}
        else:
            assert pd.isna(of.laterality)
        for place, index in enumerate(row):
            if index >= 0:
                assert images["view"].iloc[index] == views[place % 2]
                if unit == "exam":
                    assert images["laterality"].iloc[index] == SIDES[sides[place]]
    # an image shares the samples of its group evenly with the others of its place
    key = images["patient_id"] + " " + dates + ("" if unit == "exam" else " " + images["laterality"])
    place = images["laterality"] + images["view"]
    entering = images["view"].isin(views)
    count = np.bincount(samples.rows[samples.rows >= 0], minlength=len(images))
    assert not count[~entering].any()
    of_place = key[entering].groupby([key[entering], place[entering]]).transform("size")
    most = of_place.groupby(key[entering]).transform("max")
    for index in images.index[entering]:
        fewest, rest = divmod(most[index], of_place[index])
        assert count[index] in ({fewest, fewest + 1} if rest else {fewest})
    assert len(samples.table) == most.groupby(key[entering]).first().sum()


@pytest.mark.slow
@given(tables(), UNITS, DRAWS, st.randoms(use_true_random=False))
def test_the_order_of_the_table_has_no_effect(images, unit, draw, random):
    order = random.sample(range(len(images)), len(images))
    shuffled = images.iloc[order].reset_index(drop=True)
    one = group_samples(images, unit=unit, draw=draw)
    other = group_samples(shuffled, unit=unit, draw=draw)
    pd.testing.assert_frame_equal(one.table, other.table)
    assert _ids(images, one) == _ids(shuffled, other)


@given(tables(), UNITS, DRAWS)
def test_groups_are_consecutive_sorted_and_have_one_name_each(images, unit, draw):
    samples = group_samples(images, unit=unit, draw=draw)
    group = samples.table["group"]
    assert group.dtype == np.int64
    assert group.is_monotonic_increasing
    assert sorted(set(group)) == list(range(group.nunique()))
    assert (samples.table.groupby("group")["sample_id"].nunique() == 1).all()
    assert samples.table["sample_id"].nunique() == group.nunique()
    keys = samples.table[["patient_id", *([] if unit == "exam" else ["laterality"])]]
    # Breasts of two studies alternate in laterality, so patients alone are compared.
    assert keys["patient_id"].tolist() == sorted(keys["patient_id"])


@given(tables(), UNITS, st.integers(0, 5), st.lists(st.integers(-1, 3), min_size=24, max_size=24))
def test_an_epoch_changes_pairs_but_neither_groups_nor_labels(images, unit, epoch, values):
    labels = np.array(values[: len(images)], dtype=np.int64)
    fixed = group_samples(images, unit=unit)
    drawn = group_samples(images, unit=unit, draw=(7, epoch))
    pd.testing.assert_frame_equal(fixed.table, drawn.table)
    found = label_of_groups(labels, [1, 2], drawn)
    assert found.tolist() == label_of_groups(labels, [1, 2], fixed).tolist()
    for number, label in zip(fixed.table["group"], found, strict=True):
        rows = fixed.rows[fixed.table["group"] == number]
        held = set(labels[rows[rows >= 0]])
        assert label == max(held & {1, 2} or held)


def test_pairs_are_drawn_anew_in_each_epoch_and_the_same_when_repeated():
    images = _table([(f"{view}{i}", "P1", "LEFT", view, None) for view in VIEWS for i in range(6)])
    pairs = [_ids(images, group_samples(images, unit="breast", draw=(0, epoch))) for epoch in (1, 2, 1)]
    assert pairs[0] == pairs[2]
    assert {tuple(pair) for pair in pairs[0]} != {tuple(pair) for pair in pairs[1]}
    other_seed = _ids(images, group_samples(images, unit="breast", draw=(1, 1)))
    assert {tuple(pair) for pair in pairs[0]} != {tuple(pair) for pair in other_seed}


def test_breasts_and_exams_of_three_women():
    images = _table(
        [
            ("d", "P2", "RIGHT", "MLO", None),
            ("a2", "P1", "LEFT", "CC", "20200101"),
            ("a1", "P1", "LEFT", "CC", "20200101"),
            ("b", "P1", "LEFT", "MLO", "20200101"),
            ("c", "P1", "RIGHT", "CC", "20200101"),
            ("e", "P1", "RIGHT", "CC", "20220101"),
            ("f", "P3", "RIGHT", "ML", None),
        ]
    )
    breasts = group_samples(images, unit="breast")
    names = ["P1_LEFT_20200101"] * 2 + ["P1_RIGHT_20200101", "P1_RIGHT_20220101", "P2_RIGHT"]
    assert breasts.table["sample_id"].tolist() == names
    assert breasts.table["group"].tolist() == [0, 0, 1, 2, 3]
    assert _ids(images, breasts) == [["a1", "b"], ["a2", "b"], ["c", ""], ["e", ""], ["", "d"]]
    exams = group_samples(images, unit="exam")
    assert exams.table["sample_id"].tolist() == ["P1_20200101", "P1_20200101", "P1_20220101", "P2"]
    assert _ids(images, exams) == [
        ["a1", "b", "c", ""],
        ["a2", "b", "c", ""],
        ["", "", "e", ""],
        ["", "", "", "d"],
    ]
    only = group_samples(images, unit="breast", views=["ML"])
    assert (only.table["sample_id"].tolist(), only.rows.tolist()) == (["P3_RIGHT"], [[6]])


@pytest.mark.parametrize("unit", ["image", "patch"])
def test_single_images_are_samples_in_the_order_of_the_table_whatever_their_view(unit):
    images = _table([("b", "P2", None, None, None), ("a", "P1", "LEFT", "ML", None)]).set_index(
        pd.Index([7, 3])
    )
    samples = group_samples(images, unit=unit, draw=(0, 1))
    assert samples.rows.tolist() == [[0], [1]]
    assert samples.table["sample_id"].tolist() == ["b", "a"]
    assert samples.table["group"].tolist() == [0, 1]
    assert samples.table["laterality"].fillna("none").tolist() == ["none", "LEFT"]
    assert label_of_groups(np.array([2, -1]), [0], samples).tolist() == [2, -1]


def test_a_positive_class_comes_before_a_greater_negative_one():
    images = _table([(f"{i}", "P1", "LEFT", view, None) for i, view in enumerate(("CC", "MLO", "CC", "ML"))])
    samples = group_samples(images, unit="breast")
    assert label_of_groups(np.array([0, 1, 2, 1]), [0], samples).tolist() == [0, 0]
    assert label_of_groups(np.array([0, 1, 2, 1]), [], samples).tolist() == [2, 2]
    assert label_of_groups(np.array([-1, -1, -1, 1]), [1], samples).tolist() == [-1, -1]


@pytest.mark.parametrize("unit", ["breast", "exam"])
def test_no_images_give_no_samples(unit):
    images = _table([("a", "P1", "LEFT", "ML", None)])
    samples = group_samples(images, unit=unit)
    assert samples.rows.shape == (0, len(sides_of(unit, VIEWS)))
    assert list(samples.table) == ["sample_id", "patient_id", "laterality", "group"]
    assert label_of_groups(np.array([1]), [1], samples).size == 0


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            ("c", "P1", "LEFT", None, None),
            "data.sample_unit=breast: 1 of 3 images have no view, the first is 'c'; fill in the column "
            "'view' of the table, or give data.sample_unit=image",
        ),
        (
            ("c", "P1", None, "CC", None),
            "data.sample_unit=breast: 1 of 2 images have no laterality, the first is 'c'; fill in the column "
            "'laterality' of the table, or give data.sample_unit=image",
        ),
    ],
)
def test_an_image_without_view_or_laterality_is_refused(row, message):
    images = _table([("a", "P1", "LEFT", "CC", None), ("b", "P1", None, "ML", None), row])
    with pytest.raises(DataError, match="^" + message.replace(".", r"\.") + "$"):
        group_samples(images, unit="breast")


def test_two_exams_of_the_same_name_are_refused():
    images = _table(
        [
            ("a", "P1", "LEFT", "CC", "2020"),
            ("b", "P1", "LEFT", "CC", "2021"),
            ("c", "P1_2020", "LEFT", "CC", "2020"),
        ]
    )
    with pytest.raises(DataError, match="'P1_2020' names two exams"):
        group_samples(images, unit="exam")
    assert group_samples(images, unit="breast").table["sample_id"].is_unique


def test_the_views_of_breasts_and_exams_are_cc_and_mlo_by_default():
    assert views_of("image", None) is None
    assert views_of("exam", None) == VIEWS
    assert views_of("breast", ["ML"]) == ("ML",)


def test_many_images_are_grouped_without_a_loop_over_them():
    count = 200_000
    number = np.arange(count)
    images = pd.DataFrame(
        {
            "image_id": pd.array(np.char.mod("I%07d", number), dtype="string"),
            "patient_id": pd.array(np.char.mod("P%06d", number // 8), dtype="string"),
            "laterality": pd.array(np.where(number % 4 < 2, *SIDES), dtype="string"),
            "view": pd.array(np.where(number % 2, "MLO", "CC"), dtype="string"),
        }
    )
    start = time.process_time()
    samples = group_samples(images, unit="breast", draw=(0, 1))
    label_of_groups(number % 2, [1], samples)
    seconds = time.process_time() - start
    assert len(samples.table) == count // 2
    assert seconds < 2, f"{seconds:.2f} s"


def test_images_with_other_views_are_counted_by_view() -> None:
    views = ["CC", "ML", "ML", None, "AT", "MLO"]
    images = _table([(f"{number}", "P1", "LEFT", view, None) for number, view in enumerate(views)])
    chosen: Any = {"unit": "image", "views": ["CC", "MLO"]}
    entering = in_views(images, **chosen)
    assert entering.tolist() == [True, False, False, False, False, True]
    assert other_views_sentence(images, entering, **chosen) == (
        "data.views=[CC,MLO]: 4 of 6 images have none of these views (1 without view, 2 with view ML, 1 with "
        "view AT)"
    )
    every: Any = {"unit": "image", "views": None}
    assert in_views(images, **every).all()
    assert other_views_sentence(images, in_views(images, **every), **every) == ""
    with pytest.raises(
        DataError, match=r"^data.views=\[LM\]: 6 of 6 images have none of these views .*; choose"
    ):
        in_views(images, unit="image", views=["LM"])
    with pytest.raises(
        DataError, match=r"data.sample_unit=exam: 1 of 6 images have no view, the first is '3'"
    ):
        in_views(images, unit="exam", views=None)
    known = images[images["view"].notna()]
    assert in_views(known, unit="exam", views=None).tolist() == [True, False, False, False, True]


def test_an_exam_has_an_id_or_else_a_date() -> None:
    images = _table(
        [(f"{i}", "P1", "LEFT", "CC", date) for i, date in enumerate(["2020", "2020", "2021", None])]
    )
    images["exam_id"] = pd.array(["E1", "E2", None, "E1"], dtype="string")
    table = group_samples(images, unit="breast").table
    assert table["sample_id"].tolist() == ["P1_LEFT_2021", "P1_LEFT_E1", "P1_LEFT_E1", "P1_LEFT_E2"]


def test_columns_of_the_user_are_carried_where_the_images_of_a_sample_agree() -> None:
    images = _table([(f"{i}", "P1", "LEFT", view, None) for i, view in enumerate(["CC", "MLO"])])
    images = images.assign(maker="X", age=["50", "51"], label="a", score_x="1")
    images = images.assign(density=1, subtlety=1, assessment=1, abnormality_type="mass")
    own = ["maker", "age", "label", "score_x"]
    breast = facts_of_groups(images, group_samples(images, unit="breast"), unit="breast", own=own)
    assert breast["maker"].tolist() == ["X"]
    assert breast["age"].isna().all()
    image = facts_of_groups(images, group_samples(images, unit="image"), unit="image", own=own)
    assert image["age"].tolist() == ["50", "51"]
    assert {"label", "score_x"}.isdisjoint(image.columns)
