"""The page of a leaderboard: its content and the coordinates of its figures."""

import datetime
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mammo.evaluation.number_format import interval, number
from mammo.evaluation.report.html_page import render_page
from mammo.sweeping.leaderboard.axes import Axis, Scale, axes_of, setting_text, short_number
from mammo.sweeping.leaderboard.importance import MIN_TRIALS, importances
from mammo.sweeping.leaderboard.trial_table import is_ranked
from mammo.sweeping.search.trials import Trial

_TEMPLATES = Path(__file__).parent / "templates"
_TOP = 20  # trials in the table
_FAILED = 100  # failed trials in their table
_LABEL = 15  # characters of a label at an axis
_AXIS_PIXELS, _PARALLEL_PIXELS = 112, 680  # least distance of two axes, and least width of all
_LEAST_RANGE = 0.01  # of the scores at an axis; smaller differences say nothing, and their ticks look equal
_CROWD = 200  # with more lines than this, the lines are fainter
Point = tuple[float, float]


@dataclass(frozen=True)
class Frame:
    """Represent the area inside the axes of a figure, in pixels of the figure; y increases downwards."""

    left: float
    right: float
    top: float
    bottom: float

    def x(self, place: float) -> float:
        return round(self.left + place * (self.right - self.left), 1)

    def y(self, place: float) -> float:
        return round(self.bottom - place * (self.bottom - self.top), 1)


@dataclass(frozen=True)
class Line:
    """Represent one trial in a figure as a line, or as a marker if it has a single point."""

    number: int
    css_class: str  # CSS classes, separated by spaces
    points: Sequence[Point]
    text: str = ""

    @property
    def path(self) -> str:
        return " ".join(f"{x:g},{y:g}" for x, y in self.points)


_PLOT = Frame(46, 468, 12, 262)  # of 480 x 300
_FOREST = Frame(16, 144, 0, 20)  # of 160 x 20; the labels of the ticks reach over it


def render_leaderboard(
    folder: Path,
    ranked: Sequence[Trial],
    *,
    name: str,
    objective: str,
    logarithmic: Collection[str] | None = None,
) -> str:
    """Render the page as HTML.

    Args:
        folder: folder of the search.
        ranked: trials of the search, see `rank_trials`.
        name: name of the search.
        objective: name of the value of a trial; higher is better.
        logarithmic: settings with a logarithmic axis; None to infer them from the values.
    """
    axes = axes_of(ranked, logarithmic=logarithmic)
    shares = importances(ranked, axes)
    if shares is not None:  # the most important settings first
        axes = {key: axes[key] for key in [*shares, *(key for key in axes if key not in shares)]}
    finished = [trial for trial in ranked if is_ranked(trial)]
    pruned = [trial for trial in ranked if trial.state == "pruned"]
    failed = sorted((trial for trial in ranked if trial.state == "failed"), key=lambda trial: trial.number)
    now = datetime.datetime.now()
    context = {
        "name": name,
        "objective": objective,
        "written": f"{now:%-d %B %Y} at {now:%H:%M}",
        "best": finished[0] if finished else None,
        "command": f"python train.py --config-dir {shlex.quote(str(folder))} experiment=best",
        "counts": {state: sum(trial.state == state for trial in ranked) for state in _STATES},
        "trials": len(ranked),
        "ranked": len(finished),
        "cost": _cost(ranked),
        "equals": _count_overlaps(finished),
        "axes": [axis for axis in axes.values() if axis.varies],
        "same": [axis for axis in axes.values() if not axis.varies],
        "top": finished[:_TOP],
        "pruned": pruned[: max(0, _TOP - len(finished))],
        "forest": _forest(finished[:_TOP]),
        "parallel": _parallel(ranked, [axis for axis in axes.values() if axis.varies], objective),
        "importances": None if shares is None else [(axes[key], share) for key, share in shares.items()],
        "fewest": MIN_TRIALS,
        "density": round(max(0.25, min(1.0, _CROWD / max(1, len(ranked)))), 2),
        "history": _history(ranked),
        "curves": _curves(ranked),
        "failed": failed[:_FAILED],
        "failed_more": len(failed) - _FAILED,
    }
    return render_page(
        _TEMPLATES / "leaderboard.html.j2",
        context,
        script=_TEMPLATES / "leaderboard.js",
        style=_TEMPLATES / "leaderboard.css",
        setting=setting_text,
        estimate=_estimate,
        within=lambda path: path.relative_to(folder) if path.is_relative_to(folder) else path,
        shorten=lambda text: text if len(text) <= _LABEL else f"{text[: _LABEL - 1]}…",
    )


_STATES = ("finished", "pruned", "failed", "running")


def _estimate(trial: Trial) -> dict[str, float | None]:
    return {"value": trial.value, "low": trial.low, "high": trial.high}


def _cost(trials: Sequence[Trial]) -> dict[str, float | None]:
    """Return the number of trained epochs, and the estimated number without pruning."""
    whole = [len(trial.curve) for trial in trials if is_ranked(trial) and trial.curve]
    trained = sum(len(trial.curve) for trial in trials)
    if not whole:
        return {"trained": trained, "without": None}
    mean = sum(whole) / len(whole)
    saved = sum(max(0.0, mean - len(trial.curve)) for trial in trials if trial.state == "pruned")
    return {"trained": trained, "without": trained + saved}


def _count_overlaps(finished: Sequence[Trial]) -> tuple[int, int] | None:
    """Return how many intervals of the other trials contain the best value, and how many there are."""
    intervals = [(trial.low, trial.high) for trial in finished[1:] if trial.low is not None]
    if not intervals:
        return None
    best = finished[0].value
    return sum(low <= best <= high for low, high in intervals), len(intervals)  # type: ignore[operator]


def _with_css_class(ranked: Sequence[Trial]) -> list[tuple[Trial, str]]:
    """Return the trials with the CSS classes of their lines; the best is last, so it is drawn on top."""
    finished = sum(map(is_ranked, ranked))
    found = []
    for place, trial in enumerate(ranked):
        fifth = "best" if place == 0 else f"fifth-{1 + 5 * place // max(1, finished)}"
        found.append((trial, f"finished {fifth}" if is_ranked(trial) else trial.state))
    return found[::-1]


def _description(trial: Trial, rank: int | None) -> str:
    """Describe a trial in one line."""
    place = f"rank {rank}" if rank else trial.state
    limits = f" ({interval(_estimate(trial))})" if trial.low is not None else ""
    settings = "; ".join(f"{key} {setting_text(value)}" for key, value in trial.settings.items())
    return f"Trial {trial.number}, {place}: {number(trial.value)}{limits}; {settings}".rstrip("; ")


def _range(values: Iterable[float]) -> Scale | None:
    """Return the range of scores plus a margin, which is at least `_LEAST_RANGE` wide."""
    found = sorted(values)
    if not found:
        return None
    span = found[-1] - found[0]
    margin = max(0.04 * span, (_LEAST_RANGE - span) / 2)
    return Scale(found[0] - margin, found[-1] + margin)


def _ticks(scale: Scale, most: int = 5) -> list[tuple[float, str]]:
    return [(scale.place(value), short_number(value)) for value in scale.ticks(most)]


def _forest(top: Sequence[Trial]) -> dict[str, Any] | None:
    """Return the positions of each trial's value and interval on a common scale."""
    numbers = [value for trial in top for value in (trial.low, trial.value, trial.high) if value is not None]
    scale = _range(numbers)
    if scale is None:
        return None

    def x(value: float | None) -> float | None:
        return None if value is None else _FOREST.x(scale.place(value))

    return {
        "ticks": [(_FOREST.x(place), text) for place, text in _ticks(scale, most=3)],
        "rows": {trial.number: (x(trial.low), x(trial.value), x(trial.high)) for trial in top},
        "best": x(top[0].value),
    }


def _parallel(ranked: Sequence[Trial], axes: Sequence[Axis], objective: str) -> dict[str, Any] | None:
    """Return a line for each trial with a value, from its settings to the value."""
    scored = [trial for trial in ranked if trial.value is not None]
    scale = _range(trial.value for trial in scored if trial.value is not None)
    if scale is None or not axes:
        return None
    frame = Frame(16, 16 + max(_AXIS_PIXELS * len(axes), _PARALLEL_PIXELS), 34, 330)
    columns = [
        (frame.x(index / len(axes)), axis.label, axis.key, axis.ticks()) for index, axis in enumerate(axes)
    ]
    columns.append((frame.right, "score", objective, _ticks(scale)))
    ranks = {trial.number: rank for rank, trial in enumerate(ranked, start=1) if is_ranked(trial)}
    lines = []
    for trial, css_class in _with_css_class(ranked):
        if trial.value is not None:
            places = [*(axis.place(trial) for axis in axes), scale.place(trial.value)]
            points = [(column[0], frame.y(place)) for column, place in zip(columns, places, strict=True)]
            lines.append(Line(trial.number, css_class, points, _description(trial, ranks.get(trial.number))))
    return {
        "frame": frame,
        "width": frame.right + 52,
        "columns": [
            (x, label, key, [(frame.y(place), text) for place, text in ticks])
            for x, label, key, ticks in columns
        ],
        "lines": lines,
    }


def _history(ranked: Sequence[Trial]) -> dict[str, Any] | None:
    """Return the value of each ended trial by its number, and the best value so far."""
    ended = [
        (t, css_class)
        for t, css_class in _with_css_class(ranked)
        if t.value is not None and t.state != "running"
    ]
    scale = _range(trial.value for trial, _ in ended if trial.value is not None)
    if scale is None:
        return None
    across = Scale(0, max(trial.number for trial, _ in ended))
    marks = {}
    for trial, css_class in ended:
        point = _PLOT.x(across.place(trial.number)), _PLOT.y(scale.place(trial.value or 0.0))
        marks[trial.number] = Line(trial.number, css_class, [point])
    best: list[Point] = []
    for trial in sorted(ranked, key=lambda trial: trial.number):
        if is_ranked(trial):
            x, y = marks[trial.number].points[0]
            if best and y < best[-1][1]:
                best.append((x, best[-1][1]))
            if not best or y < best[-1][1]:
                best.append((x, y))
    if best:
        best.append((_PLOT.right, best[-1][1]))
    return _plot(across, scale) | {"lines": list(marks.values()), "best": Line(0, "", best).path}


def _curves(ranked: Sequence[Trial]) -> dict[str, Any] | None:
    """Return the reported score of each trial by epoch."""
    values = [value for trial in ranked for value in _finite(trial.curve).values()]
    scale = _range(values)
    if scale is None:
        return None
    across = Scale(1, max(epoch for trial in ranked for epoch in trial.curve))
    lines = []
    for trial, css_class in _with_css_class(ranked):
        curve = sorted(_finite(trial.curve).items())
        points = [(_PLOT.x(across.place(epoch)), _PLOT.y(scale.place(value))) for epoch, value in curve]
        if points:
            lines.append(Line(trial.number, css_class, _without_flats(points)))
    return _plot(across, scale) | {"lines": lines}


def _finite(curve: Mapping[int, float]) -> dict[int, float]:
    return {epoch: value for epoch, value in curve.items() if value - value == 0}


def _without_flats(points: Sequence[Point]) -> list[Point]:
    """Remove points between two points of the same height, which does not change the line."""
    inner = [
        here
        for before, here, after in zip(points, points[1:], points[2:], strict=False)
        if not before[1] == here[1] == after[1]
    ]
    return [points[0], *inner, *points[1:][-1:]]


def _plot(across: Scale, up: Scale) -> dict[str, Any]:
    """Return frame and ticks of a figure whose x values are integers."""
    whole = [tick for tick in across.ticks() if float(tick).is_integer()]
    return {
        "frame": _PLOT,
        "x": [(_PLOT.x(across.place(tick)), short_number(tick)) for tick in whole],
        "y": [(_PLOT.y(place), text) for place, text in _ticks(up)],
    }
