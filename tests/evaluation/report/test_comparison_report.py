"""The page of a comparison and its figure, with short and with long labels."""

import io
import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.pages import Browser, Outline

from mammo.evaluation.report.comparison_report import forest_figure, write_comparison

LONG = (
    "efficientnet_lite0 optim=AdamW lr=0.0003 rotation_deg=12.5 schedule=cosine (a_folder_with_a_long_name)"
)


def found(*names: str) -> dict[str, Any]:
    pairs = [(a, b) for place, a in enumerate(names) for b in names[place + 1 :]]
    auc = {"value": 0.71, "low": 0.65, "high": 0.8}
    difference = {"value": 0.03, "low": -0.01, "high": 0.07}
    return {
        "models": [{"name": name, "auc": auc, "run": f"runs/{name}"} for name in names],
        "pairs": [{"a": a, "b": b, "difference": difference, "p": 0.0004, "p_holm": 0.2} for a, b in pairs],
        "n": {"units": 30, "patients": 20, "malignant_units": 9},
        "method": {
            "unit": "image", "reduce": "mean", "auc": "score interval", "positive": "malignant",
            "difference": "paired t test by patient", "adjustment": "Holm, over the pairs", "level": 0.95,
        },
    }  # fmt: skip


@pytest.mark.parametrize("names", [("a", "b"), (LONG, f"{LONG}2"), tuple("abcdef")])
def test_the_intervals_have_the_whole_width_however_long_the_labels_are(names: tuple[str, ...]) -> None:
    figure = forest_figure(found(*names))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as "axes sizes collapsed to zero"
        figure.savefig(io.BytesIO())
    for axes in figure.axes:
        box = axes.get_position()
        assert box.width > 0.9
        places = [text.get_window_extent() for text in axes.texts]
        assert all(left.y0 > right.y1 for left, right in itertools.pairwise(places))
        assert max(place.x1 for place in places) < figure.bbox.width


def test_page(tmp_path: Path) -> None:
    page = write_comparison(found("lr=<0.1>", "b", "c"), folder=tmp_path, split="test").read_text()
    outline = Outline(page)
    text = " ".join(" ".join(outline.words).split())
    assert "None of 3 pairs differs beyond chance; the largest difference: lr=<0.1> above b by 0.030" in text
    for words in ("p-value after Holm", "Difference of AUC with 95 % interval", "< 0.001", "runs/lr=<0.1>"):
        assert words in text
    assert "<0.1>" not in page
    assert (
        "p-value after Holm"
        not in write_comparison(found("a", "b"), folder=tmp_path, split="test").read_text()
    )


def test_page_of_subgroups(tmp_path: Path) -> None:
    whole = found("a", "b")
    compared = {"column": "density", "value": 2, **{key: whole[key] for key in ("n", "models", "pairs")}}
    small = {"column": "density", "value": None, "models": [], "pairs": [], "note": "too few: 1 woman"}
    whole["subgroups"] = [compared | {"note": None}, small]
    page = write_comparison(whole, folder=tmp_path, split="test").read_text()
    text = " ".join(" ".join(Outline(page).words).split())
    for words in ("Subgroups", "density 2 (30 images): a minus b", "density unknown: too few: 1 woman."):
        assert words in text
    assert "Subgroups" not in write_comparison(found("a", "b"), folder=tmp_path, split="test").read_text()


def test_the_page_fits_and_its_plots_take_the_width(tmp_path: Path, browser: Browser) -> None:
    for names in (("a", "b"), (LONG, f"{LONG}2")):
        page = write_comparison(found(*names), folder=tmp_path, split="test")
        for width, least in ((1280, 0.4), (390, 0.8)):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            browser.ask("Emulation.setDeviceMetricsOverride", **size)
            browser.open(page)
            assert browser.run("document.documentElement.scrollWidth <= innerWidth")
            widths = "[...document.querySelectorAll('tbody .plot svg[role]')].map((svg) => svg.clientWidth)"
            whole = browser.run("document.querySelector('main').clientWidth")
            assert np.min(browser.run(widths)) > least * whole
            lines = (
                "(() => { const text = document.createRange(); "
                "text.selectNodeContents(document.querySelector('#pairs + .scroll th.number')); "
                "return text.getClientRects().length })()"
            )
            assert browser.run(lines) == 1  # of the heading "p-value"
