"""What is known of a search's trials, whoever runs them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

State = Literal["running", "finished", "pruned", "failed"]
Value = bool | int | float | str | None  # of a setting


@dataclass(frozen=True)
class Trial:
    """One configuration of a search, and how far it came."""

    number: int  # from 0
    state: State
    settings: dict[str, Value]  # sampled: key of the config to value; without those that do not apply to it
    folder: Path  # of its run, or of its runs where the objective is a mean over folds or seeds
    value: float | None = None  # of the objective when finished, or of the last report when pruned
    low: float | None = None  # 95 % interval of the value, None where there is none
    high: float | None = None
    curve: dict[int, float] = field(default_factory=dict)  # epoch, from 1, to the reported score
    seconds: float | None = None
    error: str | None = None  # why it failed, one line


def best_of(trials: list[Trial]) -> Trial | None:
    """The finished trial of the highest score, the first of equal ones."""
    finished = [trial for trial in trials if trial.state == "finished"]
    return max(finished, key=lambda trial: trial.value or 0.0, default=None)
