"""The page of new exams: one file with scores and pictures, without paths and identifiers."""

import base64
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.pages import Browser, Outline

from mammo.data.tasks import Task
from mammo.evaluation.exams.exam_page import write_page
from mammo.evaluation.exams.exam_scores import Exam, ExamImage, ExamPart, Scored

PLACES = [("LEFT", "CC"), ("RIGHT", "CC"), ("LEFT", "MLO")]


def exam(number: int, score: float = 0.5, scored: Scored | None = None) -> Exam:
    """An exam without RIGHT MLO."""
    found = scored or Scored((1 - score, score), score, score / 2, "benign")
    images = [ExamImage(f"Muster_Anna/{number}/{side}{view}", side, view, found) for side, view in PLACES]
    breasts = tuple(
        ExamPart("breast", side, tuple(image for image in images if image.laterality == side), (), found)
        for side in ("LEFT", "RIGHT")
    )
    return Exam(f"exam{number}", ExamPart("exam", None, tuple(images), ("RIGHT_MLO",), found), breasts)


def page(folder: Path, exams: list[Exam], *, pictures: bool = True, **changes: Any) -> str:
    picture = folder / "p.jpg"
    cv2.imwrite(str(picture), np.full((90, 60, 3), 90, np.uint8))
    facts = {
        "run": "2029-a", "commit": None, "method": "map", "calibrated": True, "hanging": True,
        "unit": "image", "reduce": "mean",
    }  # fmt: skip
    given: dict[str, Any] = {
        "alone": [ExamImage("Muster_Anna/x.png", None, None, Scored((0.4, 0.6), 0.6))],
        "picture_of": (lambda path: picture) if pictures else None,
        "size": (90, 60),
        "task": Task.shipped("pathology"),
        "without": {"report": 2, "spot": 1},
        "facts": facts,
        "tables": [Path("s.csv"), Path("s-exams.csv"), Path("s-left_out.csv")],
    }
    file = folder / "s.html"
    write_page(file, exams, **(given | changes))
    return file.read_text()


def test_the_page_needs_no_other_file_and_names_no_path(tmp_path: Path) -> None:
    text = page(tmp_path, [exam(1, 0.25), exam(2, 0.75)])
    outline = Outline(text)
    assert all(name.startswith(("#", "data:image/jpeg")) for name in outline.named)
    assert sum(name.startswith("data:") for name in outline.named) == 7
    assert outline.without_text == 0
    assert {name[1:] for name in outline.named if name.startswith("#")} <= set(outline.ids)
    assert "Muster" not in text
    words = " ".join(" ".join(outline.words).split())
    assert "not for clinical use" in words
    assert "2: reports and other documents ( report )" in words
    assert "RIGHT MLO: missing" in words
    assert "0.250, probability 0.125, benign" in words
    # as mammograms hang
    order = [words.index(f"{place}:") for place in ("RIGHT CC", "LEFT CC", "RIGHT MLO", "LEFT MLO")]
    assert order == sorted(order)


def test_a_picture_is_shown_without_its_caption(tmp_path: Path) -> None:
    text = page(tmp_path, [exam(1)], size=(80, 60))  # of 90 rows
    encoded = re.findall(r"data:image/jpeg;base64,([^\"]*)", text)
    shown = [cv2.imdecode(np.frombuffer(base64.b64decode(each), np.uint8), 0) for each in encoded]
    assert {picture.shape for picture in shown} == {(80, 60)}


def test_a_page_without_heat_has_no_pictures(tmp_path: Path) -> None:
    text = page(tmp_path, [exam(1)], pictures=False)
    assert "<img" not in text
    assert 'href="#exam-1"' not in text


def test_a_long_page_has_pictures_of_the_highest_scores(tmp_path: Path) -> None:
    text = page(tmp_path, [exam(number, number / 100) for number in range(1, 61)], alone=[])
    outline = Outline(text)
    assert [name for name in outline.ids if name.startswith("exam-")] == [f"exam-{n}" for n in range(11, 61)]
    assert "The 50 exams with the highest scores" in text
    assert ">exam60</a>" in text
    assert ">exam1</th>" in text


def test_classes_without_a_positive_one_are_named(tmp_path: Path) -> None:
    density = Task.shipped("density")
    found = exam(1, scored=Scored((0.1, 0.2, 0.3, 0.4), called="dense"))
    text = page(tmp_path, [found], task=density, alone=[], without={})
    assert "<strong>dense</strong> 0.400" in text
    assert "calibrated" not in text


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_the_screen(width: int, browser: Browser, tmp_path: Path) -> None:
    repeated = exam(3, 0.5)
    twice = replace(
        repeated.whole, images=(*repeated.whole.images, replace(repeated.whole.images[1], path="2"))
    )
    page(tmp_path, [exam(1, 0.25), exam(2, 0.75), replace(repeated, whole=twice)])
    browser.ask(
        "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
    )
    browser.open(tmp_path / "s.html")
    assert browser.run("document.documentElement.scrollWidth") <= width
    # those below the screen too, which a browser loads later
    loaded = "(image) => { image.loading = 'eager'; return image.decode(); }"
    browser.run(f"Promise.all([...document.images].map({loaded})).then(() => true)")
    assert browser.run("[...document.images].every((image) => image.naturalWidth > 0)")
    rows = "[...document.querySelectorAll('#table tbody tr')].map((row) => row.clientHeight)"
    assert max(browser.run(rows)) < 45  # one line each; a wide table scrolls
    # the two breasts of a view are side by side
    tops = "[...document.querySelectorAll('#exam-1 figure')].map((each) => each.getBoundingClientRect().top)"
    first, second, *_ = browser.run(tops)
    assert first == second
    # a second image of a view is below the first one
    lefts = (
        "[...document.querySelectorAll('#exam-3 figure')].map((each) => each.getBoundingClientRect().left)"
    )
    right, again, left, *_ = browser.run(lefts)
    assert right == again < left
    browser.run("document.querySelectorAll('#table button')[1].click()")
    browser.run("document.querySelectorAll('#table button')[1].click()")
    assert browser.run("document.querySelector('#table tbody th').textContent") == "exam2"
