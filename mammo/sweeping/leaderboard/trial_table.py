"""The trials of a search as a table, from the best to the worst."""

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from mammo.sweeping.search.trials import Trial, Value

_BEFORE = ("rank", "number", "state", "value", "low", "high", "epochs", "seconds")
_AFTER = ("error", "folder")


def rank_trials(trials: Iterable[Trial]) -> list[Trial]:
    """Return the finished trials from the best to the worst, then the pruned ones, then the others by number.

    Of two pruned trials the one with more epochs is first, then the one with the higher last score.

    A value that is not finite becomes None, and so does an interval without one of its limits.
    """
    cleaned = [_finite(trial) for trial in trials]
    return sorted(cleaned, key=_order)


def is_ranked(trial: Trial) -> bool:
    """Return whether the trial has a rank, that is, it is finished and has a score."""
    return trial.state == "finished" and trial.value is not None


def leaderboard_csv(ranked: Sequence[Trial]) -> str:
    """Return the CSV text, with a row for each trial in this order and a column for each setting.

    A setting that does not apply to a trial is empty; a setting that is null is `null`.
    """
    settings = setting_names(ranked)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow([*_BEFORE, *settings, *_AFTER])
    for rank, trial in enumerate(ranked, start=1):
        place = rank if is_ranked(trial) else None
        score = (trial.value, trial.low, trial.high, len(trial.curve), trial.seconds)
        values = (override_text(trial.settings[key]) if key in trial.settings else "" for key in settings)
        texts = (text.replace("\r", " ") for text in (*values, trial.error or "", str(trial.folder)))
        writer.writerow([place, trial.number, trial.state, *score, *texts])
    return table.getvalue()


def setting_names(trials: Iterable[Trial]) -> list[str]:
    """Return the keys of all settings in the order of their first occurrence."""
    return list(dict.fromkeys(key for trial in sorted(trials, key=_trial_number) for key in trial.settings))


def override_text(value: Value) -> str:
    """Format a setting as an override of the command line."""
    return value if isinstance(value, str) else json.dumps(value)


def _trial_number(trial: Trial) -> int:
    return trial.number


def _order(trial: Trial) -> tuple[int, int, float, int]:
    value = -math.inf if trial.value is None else trial.value
    if is_ranked(trial):
        return 0, 0, -value, trial.number
    if trial.state == "pruned":
        return 1, -len(trial.curve), -value, trial.number
    return 2, 0, 0.0, trial.number


def _finite(trial: Trial) -> Trial:
    value, low, high, seconds = (
        number if number is not None and math.isfinite(number) else None
        for number in (trial.value, trial.low, trial.high, trial.seconds)
    )
    if value is None or low is None or high is None:
        low = high = None
    return replace(trial, value=value, low=low, high=high, seconds=seconds)
