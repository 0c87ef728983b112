"""The common style of all figures, and how they are saved as PNG and SVG and shown in a notebook."""

import base64
import io
from collections.abc import Mapping
from html import escape
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

# Colours of Okabe and Ito (2008, Color universal design), each with its own line style, marker or hatch.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
GREY = "#808080"
SERIES = (
    (BLUE, "-", "o"),
    (ORANGE, "--", "s"),
    (GREEN, "-.", "^"),
    (PURPLE, ":", "D"),
    (BLUE, (0, (8, 2)), "v"),
    (ORANGE, (0, (1, 3)), "P"),
    (GREEN, (0, (6, 2, 1, 2, 1, 2)), "X"),
    (PURPLE, (0, (3, 4)), "*"),
)
# at most as dark as their sky blue, on which dark text is readable
SHADES = LinearSegmentedColormap.from_list("shades", ["#f7fafc", "#56B4E9"])


def draw_figures(figures: Mapping[str, Figure], *, folder: Path) -> dict[str, str]:
    """Write each figure as PNG and as SVG with selectable text; return the SVG texts by name."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for name, figure in figures.items():
        save_png(figure, folder / f"{name}.png", dpi=150)
        drawn[name] = svg_text(figure)
        (folder / f"{name}.svg").write_text(drawn[name])
    return drawn


class Figures(dict[str, Figure]):
    """Matplotlib figures by name; as the last expression of a notebook's cell they are shown."""

    def _repr_html_(self) -> str:
        pictures = []
        for name, figure in self.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=100)
            data = base64.b64encode(buffer.getvalue()).decode()
            style = "display: inline; max-width: 32%"
            pictures.append(f'<img alt="{escape(name)}" src="data:image/png;base64,{data}" style="{style}">')
        return "".join(pictures)


def svg_text(figure: Figure) -> str:
    """Return a figure as SVG with a transparent background; the output is reproducible."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mammo"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def save_png(figure: Figure, file: Path, *, dpi: int) -> None:
    """Save a figure as PNG and keep its layout for the next format, because the layout is slow to compute."""
    if engine := figure.get_layout_engine():  # otherwise matplotlib draws the figure twice, for its layout
        figure.set_dpi(dpi)
        engine.execute(figure)
        figure.set_layout_engine(None)
    figure.savefig(file, dpi=dpi)


def readable(name: str, *, lines: bool = False) -> str:
    """Return `MALIGNANT_MASS` as `malignant mass`, or as two lines; `MLO` and mixed case are not changed."""
    if len(name) <= 3 or not (name.isupper() or name.islower()):
        return name
    return name.lower().replace("_", "\n" if lines else " ")


def new_figure(title: str, *, height: float) -> Figure:
    figure = Figure(figsize=(4.6, height), layout="constrained")
    if title:
        figure.suptitle(title, fontsize=10, parse_math=False)
    return figure


def new_axes(title: str, *, height: float = 3.7) -> tuple[Figure, Axes]:
    figure = new_figure(title, height=height)
    axes = figure.subplots()
    style_axes(axes)
    return figure, axes


def style_axes(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(color=GREY, alpha=0.25, linewidth=0.8)


def legend_above(axes: Axes) -> None:
    axes.legend(
        frameon=False, fontsize=8.5, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, columnspacing=1.2,
        handlelength=1.8,
    )  # fmt: skip
