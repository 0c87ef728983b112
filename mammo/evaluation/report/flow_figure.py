"""The flow of images from the source to the scores as a drawing, as STARD and CONSORT ask for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mammo.evaluation.number_format import count, count_of
from mammo.evaluation.report.figure_style import BLUE
from mammo.evaluation.report.study_data import DataFlow, Part

_WIDTH = 7.6  # of the drawing, inches
_LINE = 0.19  # height of a line of text, inches
_PADDING = 0.09
_GAP = 0.32  # between two boxes, inches
_CHARACTER = 0.077  # width of a character of the text, inches; on the wide side
_MOST_BOXES = 3  # sets with a box each
_NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class _Box:
    """A box of the drawing.

    Attributes:
        lines: lines of text, the first is the title.
        left: left edge, inches.
        width: width, inches.
    """

    lines: tuple[str, ...]
    left: float
    width: float

    @property
    def height(self) -> float:
        return len(self.lines) * _LINE + 2 * _PADDING


def flow_figure(flow: DataFlow, *, title: str) -> Figure:
    """Draw the images of the source, those left out with the reasons, the sets, and the scored images.

    Args:
        flow: numbers of images.
        title: name of the scored images, such as `test images`.
    """
    main, aside = (0.0, 3.3), (3.8, _WIDTH - 3.8)
    steps = [
        (
            _box("In the tables of the source", _numbers(flow.source), main),
            _excluded("Without a usable file", flow.rejected, aside),
        ),
        (
            _box("Prepared", _numbers(flow.prepared), main),
            _excluded("In none of the sets" if flow.sides else "Not scored", flow.left_out, aside),
        ),
    ]
    sets, from_sets = _sets(flow)
    centres = [box.left + box.width / 2 for box in from_sets or sets[:1]] or [main[0] + main[1] / 2]
    centre = sum(centres) / len(centres)
    whole = set(flow.origins) <= set(flow.sides)
    origins = [] if whole else [f"{part.name}: {_numbers(part)}" for part in flow.origins]
    width = from_sets[0].width if len(from_sets) == 1 and whole else main[1]
    left = min(max(centre - width / 2, 0.0), _WIDTH - width)
    samples = [f"in {flow.samples}"] if flow.samples else []
    scored = _box(f"Scored: {title}", _numbers(flow.scored), (left, width), *samples, *origins)

    levels = [max(box.height for box in row) for row in (*steps, *([sets] if sets else []), [scored])]
    total = sum(levels) + _GAP * (len(levels) - 1)
    figure = Figure(figsize=(_WIDTH + 0.1, total + 0.1))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.05, _WIDTH + 0.05), ylim=(-total - 0.05, 0.05))
    axes.axis("off")
    top, middle = 0.0, main[0] + main[1] / 2
    for number, ((box, excluded), height) in enumerate(zip(steps, levels, strict=False)):
        _draw(axes, box, top, box.height)
        _draw(axes, excluded, top, excluded.height)
        level = top - min(box.height, excluded.height) / 2
        _arrow(axes, (box.left + box.width, level), (excluded.left, level))
        below = top - height - _GAP
        if number == 0 or not sets:
            _arrow(axes, (middle, top - box.height), (middle, below))
        else:
            _line(axes, [(middle, top - box.height), (middle, below + _GAP / 2)])
            for each in sets:
                into = each.left + each.width / 2
                _line(axes, [(middle, below + _GAP / 2), (into, below + _GAP / 2)])
                _arrow(axes, (into, below + _GAP / 2), (into, below))
        top = below
    if sets:
        height = levels[2]
        for each in sets:
            _draw(axes, each, top, height, strong=each in from_sets)
        below, into = top - height - _GAP, left + width / 2
        for out in centres:
            _line(axes, [(out, top - height), (out, below + _GAP / 2), (into, below + _GAP / 2)])
        _arrow(axes, (into, below + _GAP / 2), (into, below))
        top = below
    _draw(axes, scored, top, scored.height, strong=True)
    return figure


def _sets(flow: DataFlow) -> tuple[list[_Box], list[_Box]]:
    """Return the boxes of the sets, and those from which images were scored; many sets share one box."""
    number = len(flow.sides)
    if number > _MOST_BOXES:
        lines = [f"{part.name}: {_numbers(part)}" for part in flow.sides]
        boxes = [_box("Sets", "", (0.0, _WIDTH), *lines)]
        return boxes, []
    width = (_WIDTH - 0.25 * (number - 1)) / max(number, 1)
    boxes = [
        _box(part.name.capitalize(), _numbers(part), (place * (width + 0.25), width))
        for place, part in enumerate(flow.sides)
    ]
    scored = {part.name for part in flow.origins}
    return boxes, [box for box, part in zip(boxes, flow.sides, strict=True) if part.name in scored]


def _numbers(part: Part) -> str:
    if part.images is None:
        return _NOT_RECORDED
    patients = "patients not recorded" if part.patients is None else count_of(part.patients, "patient")
    return f"{count_of(part.images, 'image')}, {patients}"


def _box(title: str, numbers: str, place: tuple[float, float], *more: str) -> _Box:
    left, width = place
    most = int((width - 2 * _PADDING) / _CHARACTER)
    lines = [line for text in (title, numbers, *more) for line in wrap(text, most)]
    return _Box(tuple(lines), left, width)


def _excluded(title: str, parts: tuple[Part, ...] | None, place: tuple[float, float]) -> _Box:
    if parts is None:
        return _box(title, _NOT_RECORDED, place)
    total = sum(part.images or 0 for part in parts)
    return _box(
        title, count_of(total, "image"), place, *(f"{count(part.images)}: {part.name}" for part in parts)
    )


def _draw(axes: Axes, box: _Box, top: float, height: float, *, strong: bool = False) -> None:
    axes.fill(
        [box.left, box.left + box.width, box.left + box.width, box.left],
        [top, top, top - height, top - height],
        facecolor=(BLUE, 0.12) if strong else "none",
        edgecolor=BLUE,
        linewidth=1.6 if strong else 0.9,
    )
    for number, line in enumerate(box.lines):
        axes.text(
            box.left + _PADDING,
            top - _PADDING - (number + 0.5) * _LINE,
            line,
            va="center",
            fontsize=9,
            fontweight="bold" if number == 0 else "normal",
            parse_math=False,
        )


def _line(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    axes.plot(*zip(*points, strict=True), color=BLUE, linewidth=0.9)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    arrow = {"arrowstyle": "-|>", "color": BLUE, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=arrow)
