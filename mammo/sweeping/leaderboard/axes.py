"""Axes of settings and scores: positions and ticks."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from mammo.config.calls.differences import short_names
from mammo.sweeping.leaderboard.trial_table import override_text, setting_names
from mammo.sweeping.search.trials import Trial, Value

ABSENT = "absent"  # where a setting does not apply
_MIN_NUMBERS = 3  # distinct numbers for a numeric axis; fewer are drawn as points, as names are


@dataclass(frozen=True)
class Scale:
    """Represent the numbers from `low` to `high`, which may be equal."""

    low: float
    high: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Return the position of a value, from 0 at `low` to 1 at `high`; 0.5 if both are equal."""
        if self.high <= self.low:
            return 0.5
        if self.logarithmic:
            low, high = math.log(self.low), math.log(self.high)
            return (math.log(value) - low) / (high - low)
        span = self.high - self.low
        if math.isinf(span):
            return Scale(self.low / 2, self.high / 2).place(value / 2)
        return (value - self.low) / span

    def ticks(self, most: int = 5) -> list[float]:
        """Return round numbers within the scale, between 1 and `most` of them.

        Example:
            >>> Scale(0.61, 0.93).ticks()
            [0.7, 0.8, 0.9]
            >>> Scale(2e-5, 0.03, logarithmic=True).ticks()
            [0.0001, 0.001, 0.01]
            >>> Scale(0.12, 0.97).ticks(3)
            [0.2, 0.6]
        """
        steps: Iterable[list[float]] = self._linear(most)
        if self.logarithmic:
            steps = [*self._powers(), *steps]
        denser: list[float] = []
        for found in steps:
            if 2 <= len(found) <= most:
                return found
            if len(found) > most:
                denser = found
        if denser:  # the next wider step has one number only
            return denser[:: math.ceil(len(denser) / most)]
        return [self.low] if self.high <= self.low else [self.low, self.high]

    def _linear(self, most: int) -> Iterable[list[float]]:
        span = self.high / most - self.low / most
        if span <= 0:
            return
        digits = math.floor(math.log10(span))
        for step in (factor * 10.0**power for power in (digits, digits + 1) for factor in (1, 2, 5)):
            if step > 0 and math.isfinite(step):
                first = math.ceil(self.low / step - 1e-9)
                last = math.floor(self.high / step + 1e-9)
                if last - first < 2 * most:
                    decimals = max(0, -math.floor(math.log10(step)))
                    yield [round(index * step, decimals) for index in range(first, last + 1)]

    def _powers(self) -> Iterable[list[float]]:
        first, last = math.floor(math.log10(self.low)), math.floor(math.log10(self.high))
        for factors in ((1, 2, 5), (1, 3), (1,)):
            yield self._within(factor * 10.0**power for power in range(first, last + 1) for factor in factors)
        for every in range(2, 1 + max(2, last - first)):
            yield self._within(10.0**power for power in range(first, last + 1) if power % every == 0)

    def _within(self, numbers: Iterable[float]) -> list[float]:
        low, high = self.low * (1 - 1e-9), self.high * (1 + 1e-9)
        return [number for number in numbers if low <= number <= high and math.isfinite(number)]


@dataclass(frozen=True)
class Axis:
    """Represent the axis of a setting: its numbers above, and below a point for each other value.

    Attributes:
        key: key of the setting.
        label: shortest unique end of the key.
        scale: scale of the numbers; None if they are too few, so that they are points too.
        points: other values as text, from top to bottom.
        whole: whether all numbers of the setting are integers.
    """

    key: str
    label: str
    scale: Scale | None
    points: tuple[str, ...]
    whole: bool = False

    @property
    def varies(self) -> bool:
        """Whether the trials to which the setting applies have different values."""
        named = [point for point in self.points if point != ABSENT]
        return len(named) + (2 if self.scale else 0) > 1

    def place(self, trial: Trial) -> float:
        """Return the position of a trial, from 0 at the bottom to 1 at the top."""
        value = trial.settings.get(self.key, ABSENT)
        if self.scale and is_number(value):
            floor = self._floor
            return floor + (1 - floor) * self.scale.place(value)
        return self._point(self.points.index(setting_text(value)))

    def ticks(self) -> list[tuple[float, str]]:
        """Return the positions and labels of the ticks, from bottom to top."""
        every = math.ceil(len(self.points) / 14)  # more labels would overlap
        found = [(self._point(index), name) for index, name in enumerate(self.points) if index % every == 0]
        if self.scale:
            floor, scale = self._floor, self.scale
            numbers = [number for number in scale.ticks() if not self.whole or float(number).is_integer()]
            found += [(floor + (1 - floor) * scale.place(number), short_number(number)) for number in numbers]
        return sorted(found)

    @property
    def _floor(self) -> float:
        return min(0.5, 0.14 * len(self.points))

    def _point(self, index: int) -> float:
        top = max(0.0, self._floor - 0.14) if self.scale else 1.0
        if len(self.points) == 1:
            return 0.0 if self.scale else 0.5
        return top * (1 - index / (len(self.points) - 1))


def axes_of(trials: Sequence[Trial], *, logarithmic: Collection[str] | None = None) -> dict[str, Axis]:
    """Return an axis for each setting of the trials.

    Args:
        trials: trials whose values the axes show.
        logarithmic: settings with a logarithmic axis; None to infer them from the values.
    """
    keys = setting_names(trials)
    labels = short_names(keys)
    return {key: _axis(key, labels[key], trials, logarithmic) for key in keys}


def is_number(value: Value) -> TypeGuard[int | float]:
    """Return whether the value of a setting is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def setting_text(value: Value) -> str:
    """Format a setting for the page, a float with four digits."""
    return short_number(value) if isinstance(value, float) else override_text(value)


def short_number(number: float) -> str:
    """Format a number with at most four digits.

    Example:
        >>> [short_number(number) for number in (0.000031416, 0.25, 128, 1e9)]
        ['3.142e-5', '0.25', '128', '1e9']
    """
    mantissa, e, power = f"{number:.4g}".partition("e")
    return f"{mantissa}e{int(power)}" if e else mantissa


def _axis(key: str, label: str, trials: Sequence[Trial], logarithmic: Collection[str] | None) -> Axis:
    values = [trial.settings[key] for trial in trials if key in trial.settings]
    numbers = [value for value in values if is_number(value)]
    scale = None
    if len(set(numbers)) >= _MIN_NUMBERS:
        asked = _looks_logarithmic(numbers) if logarithmic is None else key in logarithmic
        scale = Scale(min(numbers), max(numbers), asked and min(numbers) > 0)
    rest = [value for value in values if scale is None or not is_number(value)]
    points = list(dict.fromkeys(setting_text(value) for value in sorted(rest, key=_order)))
    if len(values) < len(trials) and ABSENT not in points:
        points.append(ABSENT)
    return Axis(key, label, scale, tuple(points), all(isinstance(number, int) for number in numbers))


def _order(value: Value) -> tuple[bool, float, str]:
    """Return a sort key: numbers in descending order, then the other values by name."""
    return (not is_number(value), -value if is_number(value) else 0.0, override_text(value))


def _looks_logarithmic(numbers: Sequence[float]) -> bool:
    """Return whether the numbers are spread more evenly on a logarithmic scale than on a linear one."""
    low, high = min(numbers), max(numbers)
    if low <= 0 or high < 5 * low:
        return False
    different = set(numbers)
    means = [
        sum(map(Scale(low, high, logarithmic).place, different)) / len(different)
        for logarithmic in (True, False)
    ]
    return abs(means[0] - 0.5) < abs(means[1] - 0.5)
