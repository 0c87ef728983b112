"""One row for each run below a folder, read from its files."""

import csv
import datetime
import io
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mammo.config.calls.differences import from_defaults, setting_text, short_names
from mammo.config.choices import RunOrder
from mammo.config.instantiation import TARGET
from mammo.evaluation.number_format import aligned, interval, number
from mammo.runs import RunFolder, find_runs
from mammo.runs.run_lock import has_writer

CURVES = ("auc", "loss")
_COLUMNS = (
    *("name", "data", "differs", "split", "auc", "low", "high", "status", "started", "seconds", "epochs"),
    *("folder", "reports"),
)
_MOST_CHARACTERS = 70  # of a cell in the terminal


@dataclass(frozen=True)
class RunRow:
    """Facts of one run.

    Attributes:
        name: path of its folder below the listed folder.
        data: name of the data source.
        differs: settings that are not the defaults, by key, without the data source.
        split: how the images are split, with the fold.
        score: validation AUC with `value`, `low` and `high`; empty before the end of the training.
        status: `finished`, `running`, `stopped` (its process is gone), `interrupted`, `failed`, `pruned`, or
            `unreadable`.
        started: time of its start, None if it is not recorded.
        seconds: duration of the training.
        epochs: number of epochs.
        folder: folder of the run.
        reports: page of each evaluation by its name.
        curves: points (epoch, value) of the validation `auc` and `loss`.
    """

    name: str
    folder: Path
    status: str
    data: str = ""
    differs: dict[str, Any] = field(default_factory=dict)
    split: str = ""
    score: dict[str, Any] = field(default_factory=dict)
    started: datetime.datetime | None = None
    seconds: float | None = None
    epochs: float | None = None
    reports: dict[str, Path] = field(default_factory=dict)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def age(self, now: datetime.datetime) -> str:
        """Return the time since the start in its largest unit, such as `5 h`."""
        if self.started is None:
            return ""
        minutes = (now - self.started).total_seconds() / 60
        for unit, length in (("d", 24 * 60), ("h", 60)):
            if minutes >= 2 * length:
                return f"{minutes / length:.0f} {unit}"
        return f"{minutes:.0f} min"


def read_rows(folder: Path, *, order: RunOrder) -> list[RunRow]:
    """Return a row for each run below a folder.

    Args:
        folder: existing folder.
        order: order of the rows; scores descend, times ascend.
    """
    rows = [_row(run, folder) for run in find_runs(folder)]
    if order == RunOrder.score:
        return sorted(rows, key=lambda row: -(row.score.get("value") or -math.inf))
    if order == RunOrder.started:
        earliest = datetime.datetime.min.replace(tzinfo=datetime.UTC)
        return sorted(rows, key=lambda row: row.started or earliest)
    if order == RunOrder.run:
        return sorted(rows, key=lambda row: row.name)
    return sorted(rows, key=lambda row: str(getattr(row, order.value)))


def _row(run: RunFolder, folder: Path) -> RunRow:
    name = str(run.path.relative_to(folder)) if run.path != folder else folder.name
    try:
        facts, config = run.facts(), run.config()
        data = config.get("data") or {}
        differs = from_defaults(config, facts.get("overrides", []))
        differs.pop("data", None)
        status = str(facts.get("status", "unreadable"))
        return RunRow(
            name=name,
            folder=run.path,
            status="stopped" if status == "running" and not has_writer(run.path) else status,
            data=str(data.get(TARGET) or "").rpartition(".")[2].removeprefix("read_"),
            differs=differs,
            split=f"fold {data['fold']} of {data['folds']}"
            if data.get("split") == "kfold"
            else str(data.get("split", "")),
            score=facts.get("score") or {},
            started=_time(facts.get("started")),
            seconds=facts.get("seconds"),
            epochs=facts.get("epochs"),
            reports={page.parent.name: page for page in sorted(run.evaluation.glob("*/report.html"))},
            curves=_curves(run.metrics),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        return RunRow(name=name, folder=run.path, status="unreadable")


def common_settings(rows: Sequence[RunRow]) -> dict[str, Any]:
    """Return the settings that all rows have in common; none for a single row."""
    first = rows[0].differs if len(rows) > 1 else {}
    return {
        key: value
        for key, value in first.items()
        if all(key in row.differs and row.differs[key] == value for row in rows)
    }


def settings_text(settings: dict[str, Any], *, without: Collection[str] = ()) -> str:
    """Return settings as text, such as `model=resnet34 lr=0.0003`."""
    kept = [key for key in settings if key not in without]
    names = short_names(kept)
    return " ".join(f"{names[key]}={setting_text(settings[key])}" for key in kept)


def _time(text: Any) -> datetime.datetime | None:
    return None if text is None else datetime.datetime.fromisoformat(text)


def _curves(metrics: Path) -> dict[str, list[tuple[float, float]]]:
    """Return the finite points of each curve from `metrics.csv`."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in CURVES}
    if metrics.exists():
        with metrics.open(newline="") as file:
            for row in csv.DictReader(file):
                for name, points in found.items():
                    value = float(row.get(f"val/{name}") or math.nan)
                    if math.isfinite(value):
                        points.append((float(row["epoch"]), value))
    return found


def rows_csv(rows: Sequence[RunRow]) -> str:
    """Return the rows as CSV text; what is unknown is empty."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in rows:
        score = [row.score.get(part) for part in ("value", "low", "high")]
        started = None if row.started is None else row.started.isoformat(timespec="seconds")
        writer.writerow(
            [
                *(
                    row.name,
                    row.data,
                    settings_text(row.differs),
                    row.split,
                    *score,
                    row.status,
                    started,
                    row.seconds,
                ),
                *(row.epochs, row.folder, " ".join(map(str, row.reports.values()))),
            ]
        )
    return table.getvalue()


def rows_text(rows: Sequence[RunRow], *, now: datetime.datetime) -> str:
    """Return the rows as a table for the terminal, and the settings that all have in common once below."""
    common = common_settings(rows)
    lines = [["run", "data", "differs from the default", "split", "AUC", "95 % interval", "status", "age"]]
    for row in rows:
        differs = settings_text(row.differs, without=common)
        if len(differs) > _MOST_CHARACTERS:
            differs = f"{differs[: _MOST_CHARACTERS - 1]}…"
        score = [number(row.score, missing="-"), interval(row.score) or "-"]
        lines.append([row.name, row.data, differs, row.split, *score, row.status, row.age(now)])
    text = "\n".join(aligned(lines))
    return f"{text}\n\nall runs   {settings_text(common)}" if common else text
