"""Trials of a search, independent of Optuna."""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

State = Literal["running", "finished", "pruned", "failed"]
Value = bool | int | float | str | None  # of a setting


@dataclass(frozen=True)
class Trial:
    """One configuration of a search with its progress and score."""

    number: int  # from 0
    state: State
    settings: dict[str, Value]  # sampled values by key of the config; without keys that do not apply
    folder: Path  # folder of its run, or of its runs where the objective is a mean over folds or seeds
    value: float | None = None  # objective of a finished trial, last reported score of another
    low: float | None = None  # bounds of the 95 % interval of the value, None where it has none
    high: float | None = None
    curve: dict[int, float] = field(default_factory=dict)  # reported score by epoch, from 1
    seconds: float | None = None
    error: str | None = None  # reason of a failure, one line


def best_of(trials: list[Trial]) -> Trial | None:
    """Return the finished trial of the highest value, the first of equal ones; None where there is none."""
    finished = [trial for trial in trials if trial.state == "finished"]
    return max(finished, key=lambda trial: trial.value or 0.0, default=None)


def failures_text(trials: list[Trial]) -> str:
    """Describe how many trials failed, with the commonest error and its count.

    Example:
        >>> a, b = (Trial(n, "failed", {}, Path(), error=f"loss is nan (image {n})") for n in range(2))
        >>> failures_text([]), failures_text([a]), failures_text([a, b])
        ('0 failed', '1 failed: loss is nan', '2 failed: loss is nan')
        >>> failures_text([a, b, Trial(2, "failed", {}, Path(), error="out of memory")])
        '3 failed, 2 of them: loss is nan'
    """
    # what is in brackets, such as the images of a batch, differs between trials and may be long
    failed = [
        re.sub(r" \([^)]*\)", "", trial.error or "no reason recorded")
        for trial in trials
        if trial.state == "failed"
    ]
    if not failed:
        return "0 failed"
    [(error, count)] = Counter(failed).most_common(1)
    of_them = "" if count == len(failed) else f", {count} of them"
    return f"{len(failed)} failed{of_them}: {error}"
