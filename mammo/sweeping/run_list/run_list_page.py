"""The page of a list of runs: the curves of all runs in one figure each, and a table that can be sorted."""

import datetime
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mammo.evaluation.report.html_page import render_page
from mammo.sweeping.leaderboard.axes import Scale, short_number
from mammo.sweeping.run_list.run_rows import CURVES, RunRow, common_settings, settings_text

_TEMPLATES = Path(__file__).parent / "templates"
_NAMES = {"auc": "Validation AUC", "loss": "Validation loss"}
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 460, 10, 262  # the plot, in pixels of a figure of 480 x 300


def render_run_list(rows: Sequence[RunRow], *, folder: Path, output: Path, now: datetime.datetime) -> str:
    """Render the page as HTML.

    Args:
        rows: runs in the order of the table.
        folder: listed folder.
        output: folder of the page; links are relative to it.
        now: time of the ages.
    """
    common = common_settings(rows)
    return render_page(
        _TEMPLATES / "run_list.html.j2",
        {
            "folder": str(folder),
            "rows": rows,
            "common": settings_text(common),
            "now": now,
            "written": f"{now.astimezone():%-d %B %Y at %H:%M}",
            "counts": Counter(row.status for row in rows),
            "figures": [figure for name in CURVES if (figure := _figure(rows, name)) is not None],
        },
        script=_TEMPLATES / "run_list.js",
        style=_TEMPLATES / "run_list.css",
        settings=lambda row: settings_text(row.differs, without=common),
        link=lambda path: Path(os.path.relpath(path, output)).as_posix(),
    )


def _figure(rows: Sequence[RunRow], name: str) -> dict[str, Any] | None:
    """Return the lines and ticks of the curves of all runs; None if no run has one."""
    curves = {place: row.curves[name] for place, row in enumerate(rows) if row.curves.get(name)}
    if not curves:
        return None
    points = [point for curve in curves.values() for point in curve]
    across = Scale(min(epoch for epoch, _ in points), max(epoch for epoch, _ in points))
    up = Scale(min(value for _, value in points), max(value for _, value in points))

    def x(epoch: float) -> float:
        return round(_LEFT + across.place(epoch) * (_RIGHT - _LEFT), 1)

    def y(value: float) -> float:
        return round(_BOTTOM - up.place(value) * (_BOTTOM - _TOP), 1)

    return {
        "name": _NAMES[name],
        "lines": [
            (place, [(x(epoch), y(value)) for epoch, value in curve]) for place, curve in curves.items()
        ],
        "x_ticks": [(x(tick), short_number(tick)) for tick in across.ticks()],
        "y_ticks": [(y(tick), short_number(tick)) for tick in up.ticks()],
        "opacity": round(max(0.15, min(0.9, 30 / len(curves))), 2),
    }
