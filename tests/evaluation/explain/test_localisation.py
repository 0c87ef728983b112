"""Localisation: cases calculated by hand, and properties that hold for any lesions."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo.evaluation.explain.localisation import (
    Marks,
    best_iou,
    heat_inside,
    hits,
    lesion_regions,
    mark_baselines,
    mark_box,
    mark_heat,
    peak,
    predicted_boxes,
)
from mammo.evaluation.explain.localisation_scores import FALSE_POSITIVES, localise

NOWHERE = np.full((2, 4), np.nan, np.float32)


def heat_of(*spots: tuple[int, int, int, int, float], size: tuple[int, int] = (20, 30)) -> Any:
    """Heat of zeros except in rectangles x_min, y_min, x_max, y_max of a given value."""
    heat = np.zeros(size, np.float32)
    for left, top, right, bottom, value in spots:
        heat[top:bottom, left:right] = value
    return heat


def boxes_of(*boxes: tuple[float, float, float, float]) -> Any:
    """Boxes (K 4), with rows of NaN as in a batch."""
    return np.concatenate([np.array(boxes, np.float32).reshape(-1, 4), NOWHERE])


def test_one_image_by_hand() -> None:
    heat = heat_of((2, 2, 6, 6, 1.0), (20, 10, 24, 14, 0.6), (10, 0, 12, 2, 0.4))
    marks = mark_heat(heat, boxes_of((4, 2, 8, 6), (18, 8, 23, 13)))
    # the centre of the hottest square is (4, 4), and the peak is the first of the four nearest pixels
    assert peak(heat) == (3, 3)
    assert marks.hit == 0
    assert marks.iou == pytest.approx(8 / 24)
    total = 16 * 1.0 + 16 * 0.6 + 4 * 0.4
    assert marks.heat_inside == pytest.approx((8 + 9 * 0.6) / total)
    np.testing.assert_allclose(marks.scores, [1.0, 0.6])
    # (4, 4) is on the edge of the first lesion's box, (22, 12) inside the second one's
    assert marks.found.tolist() == [[True, False], [False, True]]
    assert mark_heat(heat, boxes_of((4, 2, 8, 6)), tolerance=1).hit == 1


def test_the_mask_is_the_lesion_where_it_marks_something_in_the_box() -> None:
    mask = np.zeros((10, 10), np.uint8)
    mask[2, 2:5] = 1
    regions = lesion_regions(np.array([[2, 2, 5, 5], [6, 6, 8.5, 7]]), (10, 10), mask)
    assert np.argwhere(regions[0]).tolist() == [[2, 2], [2, 3], [2, 4]]
    assert np.argwhere(regions[1]).tolist() == [[6, 6], [6, 7], [6, 8]]
    assert hits((2, 3), regions)
    assert not hits((3, 3), regions)
    assert hits((3, 3), regions, tolerance=1)


def test_a_box_beyond_the_image_is_cut() -> None:
    heat = heat_of((0, 0, 4, 4, 1.0))
    marks = mark_heat(heat, boxes_of((-6, -6, 4, 4)))
    assert marks.iou == 1
    assert marks.heat_inside == 1
    assert not lesion_regions(np.array([[-5, -5, -2.0, -2]]), (4, 4)).any()


def test_a_map_of_nothing_finds_nothing() -> None:
    marks = mark_heat(heat_of(), boxes_of((0, 0, 5, 5)))
    assert (marks.hit, marks.iou, marks.heat_inside) == (0, 0, 0)
    assert marks.scores.size == 0
    assert marks.lesions == 1


def test_an_image_without_lesions_has_candidates_only() -> None:
    marks = mark_heat(heat_of((0, 0, 5, 5, 1.0)), boxes_of())
    assert math.isnan(marks.hit)
    assert math.isnan(marks.iou)
    assert math.isnan(marks.heat_inside)
    assert marks.found.shape == (1, 0)


def test_a_told_box_by_hand() -> None:
    shape = (20, 30)
    # its centre (6, 4) is in the first lesion; of its 32 pixels 16 are in the first lesion, 2 in the second
    marks = mark_box(np.array([2, 2, 10, 6]), boxes_of((4, 2, 8, 6), (9, 4, 29, 6)), shape)
    assert marks.hit == 1
    assert marks.iou == pytest.approx(16 / 32)
    assert marks.heat_inside == pytest.approx(18 / 32)
    assert marks.scores.tolist() == [1]
    assert marks.found.tolist() == [[True, False]]
    # the mask gives the pixels of the lesion, and its box decides which candidates hit it
    mask = np.zeros(shape, np.uint8)
    mask[2, 4:8] = 1
    masked = mark_box(np.array([2, 2, 10, 6]), boxes_of((4, 2, 8, 6)), shape, mask)
    assert (masked.hit, masked.heat_inside) == (0, 4 / 32)
    assert masked.found.tolist() == [[True]]


def test_a_told_box_at_the_edge_of_the_image() -> None:
    lesion = boxes_of((25, 15, 30, 20))
    marks = mark_box(np.array([30, 20, 30, 20]), lesion, (20, 30))  # no area, at the last corner
    assert (marks.hit, marks.iou, marks.heat_inside) == (1, 0, 0)
    assert mark_box(np.array([25, 15, 90, 90]), lesion, (20, 30)).iou == 1  # clipped to the image


def test_a_told_box_without_lesions_is_a_candidate_only() -> None:
    marks = mark_box(np.array([2, 2, 10, 6]), NOWHERE, (20, 30))
    assert all(map(math.isnan, (marks.hit, marks.iou, marks.heat_inside)))
    assert (marks.scores.tolist(), marks.lesions) == ([1], 0)


def test_equal_maxima_give_the_one_nearest_their_centre() -> None:
    assert peak(heat_of((4, 4, 7, 7, 1.0))) == (5, 5)
    ring = heat_of((0, 0, 9, 9, 1.0), (2, 2, 7, 7, 0.0))
    row, column = peak(ring) or (-1, -1)
    assert ring[row, column] == 1


def test_regions_touching_at_a_corner_are_one_box() -> None:
    boxes, scores = predicted_boxes(heat_of((0, 0, 2, 2, 0.7), (2, 2, 5, 5, 0.9), (9, 9, 10, 10, 0.5)))
    assert boxes.tolist() == [[0, 0, 5, 5], [9, 9, 10, 10]]
    np.testing.assert_allclose(scores, [0.9, 0.5])
    boxes, _ = predicted_boxes(heat_of((0, 0, 2, 2, 0.7), (2, 2, 5, 5, 0.9)), share=0.8)
    assert boxes.tolist() == [[2, 2, 5, 5]]


@st.composite
def images(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes, their mask, and heat in steps of 0.1."""
    height, width = draw(st.integers(8, 24)), draw(st.integers(8, 24))
    mask = np.zeros((height, width), np.uint8)
    boxes = []
    for _ in range(draw(st.integers(1, 3))):
        left, top = draw(st.integers(0, width - 2)), draw(st.integers(0, height - 2))
        right, bottom = draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))
        mask[top:bottom, left:right] = 1
        boxes.append((left, top, right, bottom))
    seed = draw(st.integers(0, 999))
    heat = np.random.default_rng(seed).integers(0, 11, (height, width)).astype(np.float32) / 10
    return boxes_of(*boxes), mask, heat


@given(images())
@settings(max_examples=60)
def test_a_map_equal_to_the_mask_is_perfect(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    boxes, mask, _ = case
    marks = mark_heat(mask.astype(np.float32), boxes, mask)
    assert marks.hit == 1
    assert marks.heat_inside == pytest.approx(1)
    assert 0 < marks.iou <= 1


@given(images())
@settings(max_examples=60)
def test_bounds(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    boxes, mask, heat = case
    marks = mark_heat(heat, boxes, mask)
    assert marks.hit in (0, 1)
    assert 0 <= marks.iou <= 1
    assert 0 <= marks.heat_inside <= 1 + 1e-12
    assert (np.diff(marks.scores) <= 0).all()
    if heat.any():
        assert marks.scores[0] == heat.max()
        assert marks.hit <= ((heat * mask).max() == heat.max())
    # the scale of the heat does not matter
    assert mark_heat(heat * 4, boxes, mask).hit == marks.hit
    assert mark_heat(heat, boxes, mask, tolerance=100).hit == heat.any()


def test_iou_is_of_the_best_box_with_the_lesion_it_overlaps_most() -> None:
    boxes = np.array([[0, 0, 4, 4], [10, 10, 14, 14.0]])
    lesions = np.array([[2, 0, 6, 4], [0, 0, 4, 2], [10, 10, 14, 14.0]])
    assert best_iou(boxes, np.array([0.9, 0.8]), lesions) == pytest.approx(0.5)
    assert best_iou(boxes, np.array([0.8, 0.9]), lesions) == 1
    assert best_iou(boxes[:0], np.zeros(0), lesions) == 0


def test_the_random_point_hits_as_often_as_the_lesion_is_large() -> None:
    pixels = np.zeros((40, 40), np.uint8)
    pixels[:, :20] = 100
    pixels[30:32, 5:7] = 200
    breast = pixels > 0
    boxes = boxes_of((0, 0, 10, 20))
    rng = np.random.default_rng(0)
    marks = [mark_baselines(pixels, boxes, rng=rng, breast=breast)["random"] for _ in range(2000)]
    share = 200 / 800
    assert np.mean([mark.hit for mark in marks]) == pytest.approx(share, abs=0.04)
    assert all(mark.heat_inside == share for mark in marks)
    assert all(len(mark.scores) == 1 for mark in marks)
    assert np.mean([mark.found.any() for mark in marks]) == pytest.approx(share, abs=0.04)


def test_the_brightest_point_is_sought_in_the_breast_alone() -> None:
    pixels = np.zeros((120, 100), np.uint16)
    pixels[:, :60] = 30000
    pixels[30:33, 5:8] = 40000
    pixels[2:10, 84:94] = 60000  # a film label
    rng = np.random.default_rng(0)
    marks = mark_baselines(pixels, boxes_of((5, 30, 8, 33)), rng=rng)
    assert marks["brightest"].hit == 1
    assert marks["brightest"].found.all()
    assert marks["brightest"].heat_inside > marks["random"].heat_inside
    assert math.isnan(marks["brightest"].iou)
    without = mark_baselines(pixels, boxes_of(), rng=rng)
    assert math.isnan(without["random"].hit)


def test_an_image_without_a_breast_has_baselines_all_the_same() -> None:
    black = np.zeros((8, 8), np.uint8)
    marks = mark_baselines(
        black, boxes_of((0, 0, 2, 2)), rng=np.random.default_rng(0), breast=np.zeros((8, 8), bool)
    )
    assert marks["random"].heat_inside == 4 / 64
    assert marks["brightest"].heat_inside == 0


def test_baselines_are_drawn_from_the_generator() -> None:
    pixels = np.full((20, 20), 9, np.uint8)
    found = [
        [
            mark_baselines(pixels, boxes_of((0, 0, 9, 9)), rng=rng, breast=pixels > 0)["random"].hit
            for _ in range(20)
        ]
        for rng in (np.random.default_rng(1), np.random.default_rng(1), np.random.default_rng(2))
    ]
    assert found[0] == found[1] != found[2]


def marks_of(scores: list[float], found: list[list[int]], lesions: int, hit: float = math.nan) -> Marks:
    return Marks(hit, hit, hit, np.array(scores), np.array(found, bool).reshape(len(scores), lesions))


def four_images() -> list[Marks]:
    return [
        marks_of([1.0, 0.5, 0.25], [[0, 0], [1, 0], [1, 1]], 2, hit=0),
        marks_of([1.0], [[1]], 1, hit=1),
        marks_of([1.0, 0.9], [[], []], 0),
        marks_of([1.0], [[0]], 1, hit=0),
    ]


def result(marks: list[Marks], malignant: list[int], scores: list[float], **options: Any) -> dict[str, Any]:
    patients = np.array([f"p{index}" for index in range(len(marks))])
    return localise(
        {"method": marks},
        malignant=np.array(malignant),
        scores=np.array(scores),
        patients=patients,
        rng=np.random.default_rng(0),
        **{"resamples": 50, **options},
    )


def test_froc_by_hand() -> None:
    found = result(four_images(), [1, 1, 0, 1], [0.8, 0.6, 0.3, 0.1])
    # by rank: .8 false, .6 hit, .4 hit, .3 false, .27 false, .2 hits its image's second lesion, .1 false
    froc = {key: estimate["value"] for key, estimate in found["all"]["method"]["froc"].items()}
    assert froc == {"0.25": 0.5, "0.5": 0.5, "1": 0.75, "2": 0.75}
    assert found["all"]["method"]["pointing"]["value"] == pytest.approx(1 / 3)
    assert found["counts"]["all"] == {"images": 4, "with_lesions": 3, "lesions": 4}
    assert found["counts"]["malignant"] == {"images": 3, "with_lesions": 3, "lesions": 4}


def test_lesions_of_benign_images_are_no_aim_of_malignant() -> None:
    found = result(four_images(), [1, 0, 0, 1], [0.8, 0.6, 0.3, 0.1])
    # by rank: .8 false, .6 now false, .4 hit, .3 false, .27 false, .2 hit, .1 false
    froc = {key: estimate["value"] for key, estimate in found["malignant"]["method"]["froc"].items()}
    assert froc == {
        "0.25": 0,
        "0.5": pytest.approx(1 / 3),
        "1": pytest.approx(2 / 3),
        "2": pytest.approx(2 / 3),
    }
    assert found["malignant"]["method"]["pointing"]["value"] == 0
    assert found["all"]["method"]["pointing"]["value"] == pytest.approx(1 / 3)


def test_candidates_of_equal_rank_come_together() -> None:
    marks = [marks_of([1.0], [[1]], 1, hit=1), marks_of([1.0], [[]], 0)]
    froc = result(marks, [1, 0], [0.5, 0.5])["all"]["method"]["froc"]
    assert froc["0.25"]["value"] == 0
    assert froc["0.5"]["value"] == 1


@given(st.integers(0, 10_000))
@settings(max_examples=25)
def test_sensitivity_grows_with_the_false_positives_allowed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    marks = []
    for _ in range(12):
        lesions, candidates = int(rng.integers(0, 3)), int(rng.integers(0, 5))
        found = (rng.random((candidates, lesions)) < 0.3).tolist()
        marks.append(marks_of(sorted(rng.random(candidates).tolist(), reverse=True), found, lesions))
    marks[0] = marks_of([0.5], [[1]], 1, hit=1)
    froc = result(marks, [1] * 6 + [0] * 6, rng.random(12).tolist())["all"]["method"]["froc"]
    values = [froc[f"{most:g}"]["value"] for most in FALSE_POSITIVES]
    assert values == sorted(values)
    assert values[0] >= 0
    assert values[-1] <= 1


def test_intervals_by_patient_are_seeded_and_json() -> None:
    rng = np.random.default_rng(4)
    hit = (rng.random(80) < 0.4).astype(float)
    marks = [marks_of([1.0], [[int(value)]], 1, hit=value) for value in hit]
    labels = [1, 0] * 40
    first, again = (
        result(marks, labels, rng_scores.tolist(), resamples=400) for rng_scores in [rng.random(80)] * 2
    )
    assert first == again
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    pointing = first["all"]["method"]["pointing"]
    assert pointing["value"] == pytest.approx(hit.mean())
    error = math.sqrt(hit.mean() * (1 - hit.mean()) / 80)
    assert pointing["high"] - pointing["low"] == pytest.approx(2 * 1.96 * error, rel=0.2)


def test_images_of_one_patient_are_drawn_together() -> None:
    hit = np.repeat((np.random.default_rng(4).random(40) < 0.4).astype(float), 4)
    marks = [marks_of([1.0], [[int(value)]], 1, hit=value) for value in hit]
    common = {"malignant": np.ones(160, np.int64), "scores": np.ones(160), "resamples": 400}
    widths = []
    for patients in (np.arange(160), np.arange(160) // 4):
        found = localise({"m": marks}, patients=patients.astype(str), rng=np.random.default_rng(0), **common)
        pointing = found["all"]["m"]["pointing"]
        widths.append(pointing["high"] - pointing["low"])
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.25)


def test_without_any_lesion_or_candidate_all_is_none() -> None:
    found = result([marks_of([], [], 0), marks_of([], [], 0)], [1, 0], [0.5, 0.5])
    nothing = {"value": None, "low": None, "high": None}
    assert found["all"]["method"]["pointing"] == nothing
    assert found["all"]["method"]["froc"]["1"] == nothing
    assert found["counts"]["all"]["lesions"] == 0


def test_heat_inside_of_no_heat_is_nought() -> None:
    assert heat_inside(heat_of(), np.ones((1, 20, 30), bool)) == 0
