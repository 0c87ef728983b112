"""What a searched key may be: one of several values, or a number of a range."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException

from mammo.config.calls.override_values import parser, quoted
from mammo.errors import ConfigError
from mammo.sweeping.search.trials import Value

if TYPE_CHECKING:
    from optuna.trial import Trial

_KINDS = ["choice", "uniform", "log_uniform", "int"]
_WORDS = [*_KINDS, "step", "log", "when"]
_EXAMPLE = "{choice: [...]}, {uniform: [low, high]}, {log_uniform: [low, high]} or {int: [low, high]}"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of several values, or of several named lists of overrides."""

    values: tuple[Value, ...]
    named: Mapping[str, tuple[str, ...]] | None = None  # of which `values` are the names

    def suggest(self, trial: "Trial", key: str) -> Value:
        """The trial's value, drawn unless it has one."""
        value: Value = trial.suggest_categorical(key, self.values)
        return value

    def points(self) -> tuple[Value, ...] | None:
        """All values."""
        return self.values

    def extremes(self) -> tuple[Value, ...]:
        """Values of which each must be a possible one for all to be."""
        return self.values

    def overrides(self, key: str, value: Value) -> list[str]:
        """Of train.py."""
        return [f"{key}={quoted(value)}"] if self.named is None else list(self.named[str(value)])


@dataclass(frozen=True, kw_only=True)
class Range:
    """A number between two, both included."""

    low: float
    high: float
    log: bool = False
    step: int | None = None  # None: any real number

    def suggest(self, trial: "Trial", key: str) -> Value:
        """The trial's value, drawn unless it has one."""
        if self.step is None:
            return trial.suggest_float(key, self.low, self.high, log=self.log)
        return trial.suggest_int(key, int(self.low), int(self.high), step=self.step, log=self.log)

    def points(self) -> tuple[Value, ...] | None:
        """All values; None where they are too many."""
        if self.step is None or self.log:
            return None
        return tuple(range(int(self.low), int(self.high) + 1, self.step))

    def extremes(self) -> tuple[Value, ...]:
        """Values of which each must be a possible one for all to be."""
        return (self.low, self.high)

    def overrides(self, key: str, value: Value) -> list[str]:
        """Of train.py."""
        return [f"{key}={quoted(value)}"]


Domain = Choice | Range


def read_domain(place: str, node: Any) -> Domain:
    """The domain that a node of the configuration describes.

    Args:
        place: key of the domain, for errors.
        node: as in `conf/sweep`, plain.

    Raises:
        ConfigError: it describes none.
    """
    if not isinstance(node, dict):
        raise ConfigError(f"{place}={node}: give a domain, {_EXAMPLE}")
    node = {word: value for word, value in node.items() if value is not None}
    for word in node:
        if word not in _WORDS:
            raise ConfigError(f"{place}.{word}: no such domain; give {_EXAMPLE}")
    kinds = [kind for kind in _KINDS if kind in node]
    if len(kinds) != 1:
        remedy = f"remove one with {kinds[0]}: null" if kinds else f"give one of {_EXAMPLE}"
        raise ConfigError(f"{place}: {' and '.join(kinds) or 'no domain'} given; {remedy}")
    kind = kinds[0]
    for word in ("step", "log"):
        if word in node and kind != "int":
            raise ConfigError(f"{place}.{word}: goes with int only, not with {kind}; leave it out")
    if kind == "choice":
        return _read_choice(f"{place}.choice", node["choice"])
    return _read_range(place, kind, node)


def _read_choice(place: str, values: Any) -> Choice:
    if not isinstance(values, list | dict) or not values:
        raise ConfigError(f"{place}={values}: give at least one value, in a list")
    if isinstance(values, dict):
        named = {str(name): _read_overrides(f"{place}.{name}", each) for name, each in values.items()}
        return Choice(values=tuple(named), named=named)
    for i, value in enumerate(values):
        if isinstance(value, list | dict):
            raise ConfigError(
                f"{place}: {value} is no single value; give {{name: [overrides], ...}} instead of a list"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{place}: {value} is no number; leave it out")
        if value in values[:i]:
            raise ConfigError(f"{place}: {value} is there twice; leave one out")
    return Choice(values=tuple(values))


def _read_overrides(place: str, overrides: Any) -> tuple[str, ...]:
    if not isinstance(overrides, list):
        raise ConfigError(f"{place}={overrides}: give a list of train.py's overrides, KEY=VALUE")
    for override in overrides:
        try:
            read = parser().parse_override(str(override))
            plain = read.type == OverrideType.CHANGE and not read.is_sweep_override()
        except HydraException:
            plain = False
        if not plain:
            raise ConfigError(f"{place}: {override} is no override of train.py; give KEY=VALUE")
    return tuple(map(str, overrides))


def _read_range(place: str, kind: str, node: dict[str, Any]) -> Range:
    bounds, whole = node[kind], kind == "int"
    place_of_bounds = f"{place}.{kind}={bounds}"
    numbers = isinstance(bounds, list) and all(_is_number(bound, whole=whole) for bound in bounds)
    if not numbers or len(bounds) != 2:
        raise ConfigError(f"{place_of_bounds}: give two {'whole ' if whole else ''}numbers, [low, high]")
    low, high = bounds
    if low >= high:
        raise ConfigError(f"{place_of_bounds}: the first must be less than the second")
    log = node.get("log", kind == "log_uniform")
    if not isinstance(log, bool):
        raise ConfigError(f"{place}.log={log}: must be true or false")
    if log and low <= 0:
        raise ConfigError(f"{place_of_bounds}: on a logarithmic scale the first must be more than 0")
    if not whole:
        return Range(low=float(low), high=float(high), log=log)
    step = node.get("step", 1)
    if not _is_number(step, whole=True) or not 1 <= step <= high - low:
        raise ConfigError(f"{place}.step={step}: must be a whole number from 1 to {high - low}")
    if log and step != 1:
        raise ConfigError(f"{place}: step and log exclude each other; leave one out")
    return Range(low=low, high=high - (high - low) % step, log=log, step=step)


def _is_number(value: Any, *, whole: bool) -> bool:
    kinds = (int,) if whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
