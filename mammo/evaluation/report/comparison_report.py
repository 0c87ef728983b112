"""The result of `compare` as a figure, as JSON and as an HTML page."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from mammo.data.samples import PLURALS
from mammo.errors import ConfigError
from mammo.evaluation.number_format import number, parts
from mammo.evaluation.report.figure_style import BLUE, GREY, draw_figures
from mammo.evaluation.report.html_page import TEMPLATES
from mammo.evaluation.report.report_content import inline_svg


def write_comparison(found: Mapping[str, Any], *, folder: Path, split: str) -> Path:
    """Write `comparison.json`, `forest.png`, `forest.svg` and `compare.html`.

    Args:
        found: result of `compare`.
        folder: output folder, created if it does not exist.
        split: split of the images.

    Raises:
        ConfigError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "comparison.json").write_text(json.dumps(found, indent=2, allow_nan=False) + "\n")
        drawn = draw_figures({"forest": forest_figure(found)}, folder=folder)
        page = folder / "compare.html"
        page.write_text(_render(found, svg=drawn["forest"], split=split))
    except OSError as error:
        raise ConfigError(f"output={folder}: cannot be written: {error.strerror}") from error
    return page


def forest_figure(found: Mapping[str, Any]) -> Figure:
    """Draw the AUC of each model and, below, the difference of each pair, with intervals."""
    models, pairs = found["models"], found["pairs"]
    figure = Figure(figsize=(6.4, 1.6 + 0.32 * (len(models) + len(pairs))), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[len(models) + 0.5, len(pairs) + 0.5])
    rows = (
        (above, [(model["name"], model["auc"]) for model in models], "AUC", 0.5),
        (below, [(f"{pair['a']} - {pair['b']}", pair["difference"]) for pair in pairs], "difference", 0.0),
    )
    for axes, entries, label, line in rows:
        for place, (_, given) in enumerate(entries):
            value, low, high = parts(given)
            if value is None:
                continue
            if low is not None and high is not None:
                axes.plot([low, high], [place, place], color=BLUE, linewidth=1.5)
            axes.plot(value, place, color=BLUE, marker="s", markersize=5)
        axes.axvline(line, color=GREY, linestyle=":", linewidth=1)
        names = [name for name, _ in entries]
        axes.set_yticks(range(len(entries)), names, parse_math=False, fontsize=8.5)
        axes.set(xlabel=label, ylim=(len(entries) - 0.5, -0.5))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=GREY, alpha=0.25, axis="x")
    return figure


def _render(found: Mapping[str, Any], *, svg: str, split: str) -> str:
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.filters["number"] = number
    template = environment.get_template("compare.html.j2")
    style = (TEMPLATES / "report.css").read_text()
    figure = inline_svg(svg, name="forest", text="AUC of each run and differences of each pair")
    return template.render(found=found, style=Markup(style), figure=figure, split=split, plurals=PLURALS)
