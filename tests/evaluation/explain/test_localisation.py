"""Localisation: cases calculated by hand, and properties that hold for any lesions."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from scipy.special import logit
from scipy.stats import binomtest
from scipy.stats import t as student

from mammo.data.lesion_table import lesion_regions
from mammo.evaluation.explain.drawn_lesions import GROUPS
from mammo.evaluation.explain.localisation import (
    Marks,
    baseline_candidates,
    best_iou,
    box_candidate,
    compare,
    heat_candidates,
    heat_inside,
    peak,
)
from mammo.evaluation.explain.localisation_scores import (
    FALSE_POSITIVES,
    heat_verdict,
    localisation_table,
    localise,
)


def heat_of(*spots: tuple[int, int, int, int, float], size: tuple[int, int] = (20, 30)) -> Any:
    """Heat of zeros except in rectangles x_min, y_min, x_max, y_max of a given value."""
    heat = np.zeros(size, np.float32)
    for left, top, right, bottom, value in spots:
        heat[top:bottom, left:right] = value
    return heat


def boxes_of(*boxes: tuple[float, float, float, float]) -> Any:
    return np.array(boxes, np.float64).reshape(-1, 4)


def mark_heat(heat: Any, boxes: Any, mask: Any = None) -> Marks:
    """Marks of a heatmap, compared with boxes, or with the only lesion's mask."""
    values = np.ones(len(boxes), np.int64)
    return compare(heat_candidates(heat), lesion_regions(boxes, heat.shape, mask, values))


def mark_box(box: list[float], boxes: Any, shape: tuple[int, int], mask: Any = None) -> Marks:
    regions = lesion_regions(boxes, shape, mask, np.ones(len(boxes), np.int64))
    return compare(box_candidate(np.array(box), shape), regions)


def test_one_image_by_hand() -> None:
    heat = heat_of((2, 2, 6, 6, 1.0), (20, 10, 24, 14, 0.6), (10, 0, 12, 2, 0.4))
    marks = mark_heat(heat, boxes_of((4, 2, 8, 6), (18, 8, 23, 13)))
    # the centre of the hottest square is (4, 4), and the peak is the first of the four nearest pixels
    assert peak(heat) == (3, 3)
    assert heat_candidates(heat).marks.tolist() == [[3, 3], [11, 21]]
    assert marks.hit == 0
    assert marks.iou == pytest.approx(8 / 24)
    total = 16 * 1.0 + 16 * 0.6 + 4 * 0.4
    assert marks.heat_inside == pytest.approx((8 + 9 * 0.6) / total)
    np.testing.assert_allclose(marks.scores, [1.0, 0.6])
    assert marks.found.tolist() == [[False, False], [False, True]]


def test_the_mask_is_the_lesion_in_every_measure() -> None:
    """The heat is the box of a thin diagonal lesion; in pixels they overlap by a tenth."""
    mask = np.zeros((20, 20), np.uint8)
    np.fill_diagonal(mask[5:15, 5:15], 1)
    heat = heat_of((5, 5, 15, 15, 1.0), size=(20, 20))
    heat[6, 12] = 2  # off the diagonal, but in the box
    box = boxes_of((5, 5, 15, 15))
    candidates, regions = heat_candidates(heat, share=0.4), lesion_regions(box, (20, 20), mask, np.array([1]))
    marks = compare(candidates, regions)
    assert marks.iou == pytest.approx(10 / 100)
    assert marks.heat_inside == pytest.approx(10 / 101)
    assert (marks.hit, marks.found.any()) == (0, False)
    told = mark_box([5, 5, 15, 15], box, (20, 20), mask)
    assert told.iou == pytest.approx(10 / 100)
    # the centre of the box is on the diagonal
    assert (told.hit, told.found.tolist()) == (1, [[True]])
    assert mark_heat(mask.astype(np.float32), box, mask).iou == 1
    assert compare(candidates, lesion_regions(box, (20, 20))).iou == 1


def test_overlapping_boxes_do_not_share_their_masks() -> None:
    mask = np.zeros((10, 10), np.uint8)
    mask[2:5, 2:5] = 1
    mask[4:8, 6:9] = 2
    boxes = boxes_of((2, 2, 9, 5), (6, 4, 9, 8), (0, 0, 2, 1))
    regions = lesion_regions(boxes, (10, 10), mask, np.array([1, 2, 3]))
    assert (regions[0] == (mask == 1)).all()
    assert (regions[1] == (mask == 2)).all()
    assert np.argwhere(regions[2]).tolist() == [[0, 0], [0, 1]]  # without a pixel in the mask: the box


def test_the_best_of_equal_regions_is_the_point_of_the_pointing_game() -> None:
    """Both regions have the highest heat; the larger one is the first candidate and has the only point."""
    heat = heat_of((1, 1, 3, 3, 1.0), (20, 5, 25, 15, 1.0))
    marks = mark_heat(heat, boxes_of((0, 0, 4, 4)))
    assert (marks.hit, marks.found.tolist()) == (0, [[False], [True]])


def test_a_box_beyond_the_image_is_cut() -> None:
    heat = heat_of((0, 0, 4, 4, 1.0))
    marks = mark_heat(heat, boxes_of((-6, -6, 4, 4)))
    assert marks.iou == 1
    assert marks.heat_inside == 1
    assert not lesion_regions(boxes_of((-5, -5, -2, -2), (9, 9, 12, 12)), (4, 4)).any()


@given(st.floats(0, 9.99), st.floats(0, 9.99), st.floats(0, 5), st.floats(0, 5))
def test_a_box_in_the_image_has_every_pixel_that_it_touches(
    left: float, top: float, width: float, height: float
) -> None:
    (region,) = lesion_regions(boxes_of((left, top, left + width, top + height)), (10, 10))
    assert region[int(top), int(left)]  # a box of no area too
    rows, columns = np.arange(10)[:, None], np.arange(10)
    inside = (rows < top + height) & (top < rows + 1) & (columns < left + width) & (left < columns + 1)
    assert (region >= inside).all()
    assert region.sum() <= (np.ceil(width) + 1) * (np.ceil(height) + 1)


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
    marks = mark_box([2, 2, 10, 6], boxes_of((4, 2, 8, 6), (9, 4, 29, 6)), shape)
    assert marks.hit == 1
    assert marks.iou == pytest.approx(16 / 32)
    assert marks.heat_inside == pytest.approx(18 / 32)
    assert marks.scores.tolist() == [1]
    assert marks.found.tolist() == [[True, False]]
    mask = np.zeros(shape, np.uint8)
    mask[2, 4:8] = 1
    masked = mark_box([2, 2, 10, 6], boxes_of((4, 2, 8, 6)), shape, mask)
    assert (masked.hit, masked.iou, masked.heat_inside) == (0, 4 / 32, 4 / 32)
    assert masked.found.tolist() == [[False]]


def test_a_told_box_at_the_edge_of_the_image() -> None:
    lesion = boxes_of((25, 15, 30, 20))
    marks = mark_box([30, 20, 30, 20], lesion, (20, 30))  # no area, at the last corner
    assert (marks.hit, marks.iou, marks.heat_inside) == (1, 0, 0)
    assert mark_box([25, 15, 90, 90], lesion, (20, 30)).iou == 1  # clipped to the image


def test_a_told_box_without_lesions_is_a_candidate_only() -> None:
    marks = mark_box([2, 2, 10, 6], boxes_of(), (20, 30))
    assert all(map(math.isnan, (marks.hit, marks.iou, marks.heat_inside)))
    assert (marks.scores.tolist(), marks.lesions) == ([1], 0)


def test_equal_maxima_give_the_one_nearest_their_centre() -> None:
    assert peak(heat_of((4, 4, 7, 7, 1.0))) == (5, 5)
    ring = heat_of((0, 0, 9, 9, 1.0), (2, 2, 7, 7, 0.0))
    row, column = peak(ring) or (-1, -1)
    assert ring[row, column] == 1


def test_regions_touching_at_a_corner_are_one_box() -> None:
    found = heat_candidates(heat_of((0, 0, 2, 2, 0.7), (2, 2, 5, 5, 0.9), (9, 9, 10, 10, 0.5)))
    assert found.boxes.tolist() == [[0, 0, 5, 5], [9, 9, 10, 10]]
    assert found.marks.tolist() == [[3, 3], [9, 9]]
    np.testing.assert_allclose(found.scores, [0.9, 0.5])
    found = heat_candidates(heat_of((0, 0, 2, 2, 0.7), (2, 2, 5, 5, 0.9)), share=0.8)
    assert found.boxes.tolist() == [[2, 2, 5, 5]]


@given(st.integers(0, 10_000), st.sampled_from([0.2, 0.5, 0.9]))
@settings(max_examples=60, deadline=None)
def test_candidates_are_the_components_of_scipy(seed: int, share: float) -> None:
    heat = np.random.default_rng(seed).integers(0, 6, (15, 12)).astype(np.float32)
    found = heat_candidates(heat, share=share)
    labels, count = ndimage.label((heat >= share * heat.max()) & (heat > 0), np.ones((3, 3)))
    assert len(found.scores) == count
    of_marks = [int(labels[row, column]) for row, column in found.marks]
    assert sorted(of_marks) == list(range(1, count + 1))
    for label, score, (row, column), box in zip(
        of_marks, found.scores, found.marks, found.boxes, strict=True
    ):
        assert heat[row, column] == score == heat[labels == label].max()
        rows, columns = ndimage.find_objects(labels)[label - 1]
        assert box.tolist() == [columns.start, rows.start, columns.stop, rows.stop]
    assert (np.diff(found.scores) <= 0).all()
    if count:
        assert found.region is not None
        assert (found.region == (labels == of_marks[0])).all()


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


def test_iou_is_with_the_lesion_that_overlaps_most() -> None:
    lesions = lesion_regions(boxes_of((2, 0, 6, 4), (0, 0, 4, 2), (10, 10, 14, 14)), (20, 20))
    regions = lesion_regions(boxes_of((0, 0, 4, 4), (10, 10, 14, 14)), (20, 20))
    assert best_iou(regions[0], lesions) == pytest.approx(0.5)
    assert best_iou(regions[1], lesions) == 1
    assert best_iou(np.zeros((20, 20), bool), lesions) == 0


def baselines(pixels: Any, boxes: Any, **options: Any) -> dict[str, Marks]:
    regions = lesion_regions(boxes, pixels.shape)
    return {name: compare(found, regions) for name, found in baseline_candidates(pixels, **options).items()}


def test_the_random_point_hits_as_often_as_the_lesion_is_large() -> None:
    pixels = np.zeros((40, 40), np.uint8)
    pixels[:, :20] = 100
    pixels[30:32, 5:7] = 200
    breast = pixels > 0
    boxes = boxes_of((0, 0, 10, 20))
    rng = np.random.default_rng(0)
    marks = [baselines(pixels, boxes, rng=rng, breast=breast)["random"] for _ in range(2000)]
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
    marks = baselines(pixels, boxes_of((5, 30, 8, 33)), rng=rng)
    assert marks["brightest"].hit == 1
    assert marks["brightest"].found.all()
    assert marks["brightest"].heat_inside > marks["random"].heat_inside
    assert math.isnan(marks["brightest"].iou)
    without = baselines(pixels, boxes_of(), rng=rng)
    assert math.isnan(without["random"].hit)


@given(mask=arrays(bool, (7, 9)).filter(np.any))
def test_the_centre_is_the_pixel_nearest_to_the_centre_of_mass(mask: Any) -> None:
    found = baseline_candidates(mask.astype(np.uint8), rng=np.random.default_rng(0), breast=mask)["centre"]
    ((row, column),) = found.marks
    assert mask[row, column]
    distances = np.square(np.argwhere(mask) - ndimage.center_of_mass(mask)).sum(axis=1)
    distance = np.square([row, column] - np.array(ndimage.center_of_mass(mask))).sum()
    assert distance == pytest.approx(distances.min())


def test_an_image_without_a_breast_has_baselines_all_the_same() -> None:
    black = np.zeros((8, 8), np.uint8)
    marks = baselines(
        black, boxes_of((0, 0, 2, 2)), rng=np.random.default_rng(0), breast=np.zeros((8, 8), bool)
    )
    assert marks["random"].heat_inside == 4 / 64
    assert marks["brightest"].heat_inside == 0


def test_baselines_are_drawn_from_the_generator() -> None:
    pixels = np.full((20, 20), 9, np.uint8)
    found = [
        [
            baselines(pixels, boxes_of((0, 0, 9, 9)), rng=rng, breast=pixels > 0)["random"].hit
            for _ in range(20)
        ]
        for rng in (np.random.default_rng(1), np.random.default_rng(1), np.random.default_rng(2))
    ]
    assert found[0] == found[1] != found[2]


def marks_of(scores: list[float], found: list[list[int]], lesions: int) -> Marks:
    share = 0.5 if lesions else math.nan
    return Marks(share, share, np.array(scores), np.array(found, bool).reshape(len(scores), lesions))


def four_images() -> list[Marks]:
    return [
        marks_of([1.0, 0.5, 0.25], [[0, 0], [1, 0], [1, 1]], 2),
        marks_of([1.0], [[1]], 1),
        marks_of([1.0, 0.9], [[], []], 0),
        marks_of([1.0], [[0]], 1),
    ]


def result(
    marks: list[Any], malignant: list[int], scores: list[float], *, of_malignant: Any = None, **options: Any
) -> dict[str, Any]:
    given = {"all": marks, "malignant": marks if of_malignant is None else of_malignant}
    common = {
        "malignant": np.array(malignant),
        "scores": np.array(scores),
        "patients": np.array([f"p{index}" for index in range(len(marks))]),
        "rng": np.random.default_rng(0),
        "resamples": 50,
    }
    return localise({group: {"method": given[group]} for group in GROUPS}, **common | options)


def test_froc_by_hand() -> None:
    found = result(four_images(), [1, 1, 0, 1], [0.8, 0.6, 0.3, 0.1])
    # by rank: .8 false, .6 hit, .4 hit, .3 false, .27 false, .2 hits its image's second lesion, .1 false
    froc = {key: estimate["value"] for key, estimate in found["all"]["method"]["froc"].items()}
    assert froc == {"0.25": 0.5, "0.5": 0.5, "1": 0.75, "2": 0.75}
    assert found["all"]["method"]["pointing"]["value"] == pytest.approx(1 / 3)
    assert found["counts"]["all"] == {"images": 4, "with_lesions": 3, "lesions": 4, "left_out": 0}


def test_each_group_has_its_own_lesions() -> None:
    only_first = [four_images()[0], marks_of([1.0], [[]], 0), four_images()[2], four_images()[3]]
    found = result(four_images(), [1, 1, 0, 1], [0.8, 0.6, 0.3, 0.1], of_malignant=only_first)
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
    assert found["counts"]["malignant"] == {"images": 4, "with_lesions": 2, "lesions": 3, "left_out": 0}


def test_images_that_are_left_out_count_nowhere_but_in_the_counts() -> None:
    marks, labels, scores = four_images(), [1, 1, 0, 1], [0.8, 0.6, 0.3, 0.1]
    found = result(
        [*marks, None, None], [*labels, 1, 0], [*scores, 0.9, 0.7], of_malignant=[*marks, None, None]
    )
    without = result(marks, labels, scores)
    for group in GROUPS:
        assert found[group] == without[group]
        assert found["counts"][group] == {**without["counts"][group], "left_out": 2}
    table = localisation_table(found)
    assert "2 images are left out of all lesions" in table
    assert "left out" not in localisation_table(without)


def test_without_an_annotated_image_all_is_none() -> None:
    found = result([None, None], [1, 0], [0.5, 0.5])
    nothing = {"value": None, "low": None, "high": None}
    scores = found["all"]["method"]
    assert [scores["pointing"], scores["iou"], scores["froc"]["1"]] == [nothing] * 3
    assert found["counts"]["all"] == {"images": 0, "with_lesions": 0, "lesions": 0, "left_out": 2}


def test_candidates_of_equal_rank_come_together() -> None:
    marks = [marks_of([1.0], [[1]], 1), marks_of([1.0], [[]], 0)]
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
    marks[0] = marks_of([0.5], [[1]], 1)
    froc = result(marks, [1] * 6 + [0] * 6, rng.random(12).tolist())["all"]["method"]["froc"]
    values = [froc[f"{most:g}"]["value"] for most in FALSE_POSITIVES]
    assert values == sorted(values)
    assert values[0] >= 0
    assert values[-1] <= 1


def test_intervals_by_patient_are_seeded_and_json() -> None:
    rng = np.random.default_rng(4)
    hit = rng.random(80) < 0.4
    marks = [marks_of([1.0], [[int(value)]], 1) for value in hit]
    labels = [1, 0] * 40
    first, again = (
        result(marks, labels, rng_scores.tolist(), resamples=400) for rng_scores in [rng.random(80)] * 2
    )
    assert first == again
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    expected = binomtest(int(hit.sum()), 80).proportion_ci(method="wilson")
    pointing = first["all"]["method"]["pointing"]
    assert pointing == pytest.approx({"value": hit.mean(), "low": expected.low, "high": expected.high})


def test_images_of_one_patient_count_together() -> None:
    hit = np.repeat(np.random.default_rng(4).random(40) < 0.4, 4)
    marks = [marks_of([1.0], [[int(value)]], 1) for value in hit]
    widths = []
    for patients in (np.arange(160), np.arange(160) // 4):
        found = result(marks, [1] * 160, [1.0] * 160, patients=patients.astype(str), resamples=400)
        scores = found["all"]["method"]
        widths.append([scores[name]["high"] - scores[name]["low"] for name in ("pointing",)])
        widths[-1].append(scores["froc"]["1"]["high"] - scores["froc"]["1"]["low"])
    assert widths[1] == pytest.approx([2 * width for width in widths[0]], rel=0.25)


@pytest.mark.parametrize("hit", [0, 1])
def test_a_share_of_none_or_all_has_an_interval(hit: int) -> None:
    marks = [marks_of([1.0], [[hit]], 1)] * 30
    found = result(marks, [1, 0] * 15, [0.5] * 30)["all"]["method"]
    expected = binomtest(30 * hit, 30).proportion_ci(method="wilson")
    for share in (found["pointing"], found["froc"]["1"]):
        assert share == pytest.approx({"value": hit, "low": expected.low, "high": expected.high})


def test_the_mean_iou_has_the_interval_of_the_mean_of_the_patients() -> None:
    ious = np.random.default_rng(4).random(30)
    marks = [replace(marks_of([1.0], [[1]], 1), iou=value) for value in ious] + [marks_of([1.0], [[]], 0)]
    found = result(marks, [1] * 31, [0.5] * 31)["all"]["method"]["iou"]
    mean, error = ious.mean(), ious.std(ddof=1) / math.sqrt(30)
    assert found["value"] == pytest.approx(mean)
    reach = student.ppf(0.975, 29) * error / (mean * (1 - mean))
    assert logit(found["high"]) - logit(mean) == pytest.approx(reach)
    assert logit(mean) - logit(found["low"]) == pytest.approx(reach)


def test_without_any_lesion_or_candidate_all_is_none() -> None:
    found = result([marks_of([], [], 0), marks_of([], [], 0)], [1, 0], [0.5, 0.5])
    nothing = {"value": None, "low": None, "high": None}
    assert found["all"]["method"]["pointing"] == nothing
    assert found["all"]["method"]["froc"]["1"] == nothing
    assert found["counts"]["all"]["lesions"] == 0


def test_heat_inside_of_no_heat_is_nought() -> None:
    assert heat_inside(heat_of(), np.ones((1, 20, 30), bool)) == 0


@pytest.mark.parametrize(
    ("heat", "brightest", "said"),
    [
        (30, 6, "is on a malignant lesion in 75 %"),
        (30, 6, "; this is more often than the brightest point of the breast: difference 60 points"),
        (6, 30, "; this is less often than the brightest point of the breast: difference \N{MINUS SIGN}60"),
        (16, 14, "; this is not shown to differ from the brightest point of the breast: difference 5 points"),
        (20, 2, "the brightest point of the breast in 5 % and a random point of the breast in 10 %"),
    ],
)
def test_a_sentence_says_whether_the_heat_beats_the_baselines(heat: int, brightest: int, said: str) -> None:
    """Of 40 images, the heatmap hits the first `heat` and the brightest point the last `brightest`."""

    def hits(images: Any) -> list[Marks]:
        return [marks_of([1.0], [[int(index in images)]], 1) for index in range(40)]

    methods = {
        "gradcam": hits(range(heat)),
        "brightest": hits(range(40 - brightest, 40)),
        "random": hits((1, 9, 20, 30)),
    }
    found = localise(
        dict.fromkeys(GROUPS, methods),
        malignant=np.ones(40, np.int64),
        scores=np.linspace(0.1, 0.9, 40),
        patients=np.array([f"p{index // 2}" for index in range(40)]),
        rng=np.random.default_rng(0),
        resamples=20,
    )
    difference = found["malignant"]["gradcam"]["pointing_above"]["brightest"]
    assert difference["value"] == pytest.approx((heat - brightest) / 40)
    assert difference["low"] < difference["value"] < difference["high"]
    assert "pointing_above" not in found["malignant"]["random"]
    assert said in (heat_verdict(found) or "")
    assert said in localisation_table(found)


def test_no_sentence_without_a_drawn_lesion_or_from_an_older_file() -> None:
    found = result([marks_of([1.0], [[]], 0)] * 3, [1, 0, 1], [0.1, 0.2, 0.3])
    assert heat_verdict(found) is None
    older = result(four_images(), [1, 1, 0, 1], [0.8, 0.6, 0.3, 0.1])
    assert heat_verdict(older) is None
