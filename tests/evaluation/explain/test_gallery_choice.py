"""The samples that a report shows: examples for each reason, and the worst errors."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo.evaluation.explain.gallery_choice import WORST, choose_class_gallery, choose_gallery, other_breasts


def test_the_gallery_by_hand() -> None:
    labels = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    scores = np.array([0.9, 0.8, 0.2, 0.48, 0.95, 0.55, 0.1, 0.3])
    assert choose_gallery(labels, scores, 0.5, examples=4, errors=3) == [
        (0, "surest true positive"),
        (1, "surest true positive"),
        (6, "surest true negative"),
        (3, "nearest to the threshold"),
        (4, WORST),
        (2, WORST),
        (5, WORST),
    ]


def test_an_error_is_worse_the_farther_its_log_odds_are_from_the_threshold() -> None:
    """At a threshold of 0.1, a missed cancer of 0.001 is as sure an error as a false alarm of 0.92."""
    labels, scores = np.array([0, 1, 0, 1]), np.array([0.9, 0.001, 0.93, 0.09])
    assert choose_gallery(labels, scores, 0.1, examples=0) == [(2, WORST), (1, WORST), (0, WORST), (3, WORST)]


def test_without_a_threshold_nothing_is_called_an_error() -> None:
    labels, scores = np.array([1, 0, 1]), np.array([0.2, 0.9, 0.5])
    chosen = choose_gallery(labels, scores, None, examples=2)
    assert chosen == [(1, "highest score"), (0, "lowest score")]


def test_the_worst_errors_of_classes() -> None:
    labels = np.array([0, 1, 2, 2])
    scores = np.array([[0.9, 0.1, 0], [0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.1, 0.2, 0.7]])
    assert choose_class_gallery(labels, scores, examples=2) == [
        (0, "surest right class"),
        (3, "least sure"),
        (2, WORST),
        (1, WORST),
    ]


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), max_size=20), st.integers(0, 25))
@settings(max_examples=60)
def test_the_gallery_shows_no_image_twice(images: list[tuple[int, float]], count: int) -> None:
    labels = np.array([label for label, _ in images], np.int64)
    scores = np.array([score for _, score in images], np.float64)
    chosen = choose_gallery(labels, scores, 0.5, examples=count, errors=5)
    wrong = int(((scores >= 0.5) != (labels == 1)).sum())
    worst = min(5, wrong)
    assert len({index for index, _ in chosen}) == len(chosen)
    assert sum(reason == WORST for _, reason in chosen) == worst
    assert len(chosen) == worst + min(count, len(images) - worst)
    for index, reason in chosen:
        right = labels[index] == (scores[index] >= 0.5)
        if reason.startswith("surest"):
            assert right
            assert ("positive" in reason) == (scores[index] >= 0.5)
        elif reason == WORST:
            assert not right


def test_beside_an_image_is_the_same_view_and_study_of_the_other_breast() -> None:
    rows = [
        ("a", "LEFT", "CC", "2001"),
        ("a", "RIGHT", "MLO", "2001"),
        ("a", "RIGHT", "CC", "2003"),  # of another study
        ("a", "RIGHT", "CC", "2001"),
        ("b", "RIGHT", "CC", "2001"),  # of another woman
        ("c", "LEFT", None, None),
        ("c", "RIGHT", None, None),  # of unknown view
        ("d", None, "CC", None),  # of unknown side
        ("d", "LEFT", "CC", None),
    ]
    images = pd.DataFrame(rows, columns=["patient_id", "laterality", "view", "study_date"], dtype="string")
    assert other_breasts(images) == {0: 3, 3: 0}
    assert other_breasts(images.drop(columns="study_date")) == {0: 2, 2: 0, 3: 0}
