"""What a stage found, and the way to measure rivals fairly."""

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
    seconds: dict[str, list[float]] = field(default_factory=dict)  # of what is no matter of images

    @property
    def ratio(self) -> float:
        return median(self.speeds) / median(self.limits)

    def numbers(self) -> dict[str, Any]:
        """For the JSON: medians, with the lowest and the highest of the repeats."""
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
    """What each rival measures in each repeat; every second repeat takes them in reverse order."""
    measured: dict[str, list[float]] = {name: [] for name in rivals}
    for repeat in range(repeats):
        for name in list(rivals)[:: -1 if repeat % 2 else 1]:
            with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
                value = rivals[name]()  # without the lines and bars of a real run
            measured[name].append(value)
        now = ", ".join(f"{name} {values[-1]:.1f}" for name, values in measured.items())
        print(f"{repeat + 1}/{repeats}: {now} {unit}", file=sys.stderr, flush=True)
    return measured
