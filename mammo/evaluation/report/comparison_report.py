"""The result of `compare` as a figure, as JSON and as an HTML page."""

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mammo.atomic_files import report_unwritable
from mammo.data.samples import PLURALS
from mammo.evaluation.number_format import interval, number, p_value, parts
from mammo.evaluation.report.figure_style import BLUE, GREY, draw_figures
from mammo.evaluation.report.html_page import TEMPLATES
from mammo.evaluation.report.report_content import data_pictures
from mammo.evaluation.statistics.comparison import verdict
from mammo.evaluation.statistics.subgroups import group_name

_CHARACTERS = 84  # of a line of a label in the figure
Entry = tuple[str, Mapping[str, Any]]  # label, and estimate


@dataclass(frozen=True)
class Pictured:
    """A sample with the heat of each run.

    Attributes:
        sample_id: name of the sample.
        label: class of the sample.
        score: score of the positive classes, or of the likeliest class without one, by name of the run.
        picture: file of the picture, by name of the run.
    """

    sample_id: str
    label: str
    score: dict[str, float]
    picture: dict[str, Path]


def write_comparison(
    found: Mapping[str, Any], *, folder: Path, split: str, pictures: Sequence[Pictured] = ()
) -> Path:
    """Write `comparison.json`, `forest.png`, `forest.svg` and `compare.html`.

    Args:
        found: result of `compare`; a model may have `run`, the path of its folder, and `subgroups` be the
            result of `compare_in_subgroups`.
        folder: output folder, created if it does not exist.
        split: split of the images.
        pictures: samples with the heat of each run; they become part of the page.

    Returns:
        Path of the page.

    Raises:
        ConfigError: the folder cannot be written.
    """
    with report_unwritable("output", folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "comparison.json").write_text(json.dumps(found, indent=2, allow_nan=False) + "\n")
        draw_figures({"forest": forest_figure(found)}, folder=folder)
        page = folder / "compare.html"
        page.write_text(_render(found, split=split, pictures=pictures))
    return page


def forest_figure(found: Mapping[str, Any]) -> Figure:
    """Draw the AUC of each model and, below, the difference of each pair, with intervals.

    A label is above its interval, so that the interval has the whole width however long the label is.
    """
    parts_of_figure = [
        (_models(found), "AUC", 0.5),
        (_pairs(found), "difference of AUC", 0.0),
    ]
    wrapped = [
        [(textwrap.fill(label, _CHARACTERS), estimate) for label, estimate in entries]
        for entries, _, _ in parts_of_figure
    ]
    # height of each row, in lines of text
    heights = [[label.count("\n") + 2.2 for label, _ in entries] for entries in wrapped]
    sizes = [sum(rows) + 0.5 for rows in heights]
    figure = Figure(figsize=(6.4, 1.3 + 0.16 * sum(sizes)), layout="constrained")
    axes_of_parts = figure.subplots(2, 1, height_ratios=sizes)
    for axes, entries, rows, (_, label, line) in zip(
        axes_of_parts, wrapped, heights, parts_of_figure, strict=True
    ):
        place = 0.0
        for (name, given), height in zip(entries, rows, strict=True):
            at_the_left = axes.get_yaxis_transform()
            axes.text(0, place + 0.1, name, transform=at_the_left, fontsize=8.5, va="top", parse_math=False)
            place += height
            value, low, high = parts(given)
            if value is None:
                continue
            if low is not None and high is not None:
                axes.plot([low, high], [place - 0.6, place - 0.6], color=BLUE, linewidth=1.5)
            axes.plot(value, place - 0.6, color=BLUE, marker="s", markersize=5)
        axes.axvline(line, color=GREY, linestyle=":", linewidth=1)
        axes.set_yticks([])
        axes.set(xlabel=label, ylim=(place + 0.4, -0.1))
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(color=GREY, alpha=0.25, axis="x")
    return figure


def _models(found: Mapping[str, Any]) -> list[Entry]:
    return [(model["name"], model["auc"]) for model in found["models"]]


def _pairs(found: Mapping[str, Any]) -> list[Entry]:
    return [(f"{pair['a']} minus {pair['b']}", pair["difference"]) for pair in found["pairs"]]


def _subgroup_pairs(found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the pairs of all subgroups with their labels."""
    return [
        (
            f"{group_name(group)} ({group['n']['units']} {PLURALS[found['method']['unit']]}): "
            f"{pair['a']} minus {pair['b']}",
            pair,
        )
        for group in found.get("subgroups", [])
        for pair in group["pairs"]
    ]


def _axis(entries: Sequence[Entry], *, line: float) -> dict[str, Any]:
    """Return the axis of the intervals of a table: its ticks, its line and each row, in percent of the width.

    Args:
        entries: labels and estimates of the rows.
        line: value with a dotted line, such as 0 for differences; on the axis if an interval is near it.
    """
    ends = [value for _, estimate in entries for value in parts(estimate) if value is not None]
    low, high = min([*ends, line]), max([*ends, line])
    margin = 0.04 * (high - low or 1.0)
    low, high = low - margin, high + margin
    ticks = [
        float(tick)
        for tick in MaxNLocator(nbins=4, steps=[1, 2, 5, 10]).tick_values(low, high)
        if low <= tick <= high
    ]

    def place(value: float | None) -> float | None:
        return None if value is None else round(100 * (value - low) / (high - low), 2)

    return {
        "line": place(line),
        "ticks": [(place(tick), f"{tick:.4g}") for tick in ticks],
        "rows": [tuple(map(place, parts(estimate))) for _, estimate in entries],
    }


def _render(found: Mapping[str, Any], *, split: str, pictures: Sequence[Pictured]) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    in_subgroups = _subgroup_pairs(found)
    files = [file for each in pictures for file in each.picture.values()]
    environment.filters.update(number=number, interval=interval, p_value=p_value, group_name=group_name)
    return environment.get_template("compare.html.j2").render(
        found=found,
        verdict=verdict(found),
        models=_axis(_models(found), line=0.5),
        pairs=_axis(_pairs(found), line=0.0),
        groups=found.get("subgroups", []),
        subgroup_pairs=in_subgroups,
        subgroups=_axis([(label, pair["difference"]) for label, pair in in_subgroups], line=0.0),
        style=Markup("".join((TEMPLATES / name).read_text() for name in ("report.css", "compare.css"))),
        split=split,
        pictures=pictures,
        uri=dict(zip(files, data_pictures(files), strict=True)),
        plurals=PLURALS,
    )
