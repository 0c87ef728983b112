"""The result of a stage, and the measurement of rivals in alternating order."""

import contextlib
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Result:
    """A stage's speed and those of its rivals, all in images per second, one number for each repeat."""

    stage: str
    speeds: list[float]
    limit: str  # what the stage is compared with
    limits: list[float]
    rivals: dict[str, list[float]]
    sentence: str  # what the bottleneck is
    seconds: dict[str, list[float]] = field(default_factory=dict)  # durations that are not per image

    @property
    def ratio(self) -> float:
        return median(self.speeds) / median(self.limits)

    def numbers(self) -> dict[str, Any]:
        """Return the values for the JSON file: medians, with minimum and maximum over the repeats."""
        return {
            "images_per_second": median(self.speeds),
            "images_per_second_range": [min(self.speeds), max(self.speeds)],
            "limit": median(self.limits),
            "limit_range": [min(self.limits), max(self.limits)],
            "limit_is": self.limit,
            "ratio": self.ratio,
            "rivals": {name: median(speeds) for name, speeds in self.rivals.items()},
            "seconds": {name: median(seconds) for name, seconds in self.seconds.items()},
            "sentence": self.sentence,
        }


def in_turn(
    rivals: dict[str, Callable[[], float]], *, repeats: int, unit: str = "images/s"
) -> dict[str, list[float]]:
    """Return the value of each rival in each repeat; every second repeat runs in reverse order."""
    measured: dict[str, list[float]] = {name: [] for name in rivals}
    for repeat in range(repeats):
        for name in list(rivals)[:: -1 if repeat % 2 else 1]:
            with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
                value = rivals[name]()  # hides the output and progress bars
            measured[name].append(value)
        now = ", ".join(f"{name} {values[-1]:.1f}" for name, values in measured.items())
        print(f"{repeat + 1}/{repeats}: {now} {unit}", file=sys.stderr, flush=True)
    return measured
