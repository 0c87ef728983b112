"""How numbers and estimates are written to JSON, to tables in a terminal and to pages."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # it imports PyTorch, which pages do without
    from mammo.metrics import Estimate


def finite(number: float) -> float | None:
    """Return the number for JSON, None for NaN and infinity."""
    return float(number) if math.isfinite(number) else None


def as_json(estimate: "Estimate") -> dict[str, float | None]:
    """Return `value`, `low` and `high` of an estimate, None where they are undefined."""
    return {name: finite(getattr(estimate, name)) for name in ("value", "low", "high")}


def parts(value: Any) -> tuple[float | None, float | None, float | None]:
    """Return value, low and high of `{"value", "low", "high"}` or of a number; None for missing parts."""
    given = value if isinstance(value, Mapping) else {"value": value}
    numbers = (given.get(name) for name in ("value", "low", "high"))
    found = [finite(number) if isinstance(number, int | float) else None for number in numbers]
    return found[0], found[1], found[2]


def number(value: Any, digits: int = 3, *, missing: str = "–") -> str:
    """Format a number, or the value of an estimate.

    Args:
        value: number, estimate or None.
        digits: digits after the decimal point.
        missing: text in place of a value that is undefined.

    Example:
        >>> number(0.65), number({"value": 0.65}, 1), number(None)
        ('0.650', '0.7', '–')
    """
    found, _, _ = parts(value)
    return missing if found is None else f"{found:.{digits}f}"


def p_value(value: Any, *, missing: str = "–") -> str:
    """Format a p-value, which is never 0.

    Example:
        >>> p_value(0.0123), p_value(0.0004), p_value(None)
        ('0.012', '< 0.001', '–')
    """
    return "< 0.001" if isinstance(value, float) and value < 0.001 else number(value, missing=missing)


def interval(value: Any) -> str:
    """Format the interval of an estimate; empty if there is no interval.

    Example:
        >>> interval({"value": 0.65, "low": 0.574, "high": 0.729})
        '0.574 to 0.729'
    """
    _, low, high = parts(value)
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def number_and_interval(value: Any) -> str:
    """Format an estimate for a table in a terminal, with `-` for what is undefined.

    Example:
        >>> number_and_interval({"value": 0.65, "low": 0.574, "high": 0.729})
        '0.650 [0.574, 0.729]'
        >>> number_and_interval({"value": 0.65}), number_and_interval(None)
        ('0.650 [-]', '-')
    """
    found, low, high = parts(value)
    if found is None:
        return "-"
    return f"{found:.3f} [-]" if low is None or high is None else f"{found:.3f} [{low:.3f}, {high:.3f}]"


def count(value: Any) -> str:
    """Format a whole number with a space between thousands; an en dash stands for None.

    Example:
        >>> count(3103)
        '3 103'
    """
    found, _, _ = parts(value)
    return "–" if found is None else f"{found:,.0f}".replace(",", " ")


def count_of(number: int, noun: str) -> str:
    """Format a whole number of things; `noun` is their singular.

    Example:
        >>> count_of(1, "patient"), count_of(3103, "image")
        ('1 patient', '3 103 images')
    """
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def duration(seconds: Any) -> str:
    """Format seconds; an en dash stands for None.

    Example:
        >>> duration(896), duration(7500)
        ('14 min 56 s', '2 h 5 min')
    """
    found, _, _ = parts(seconds)
    if found is None:
        return "–"
    minutes, rest = divmod(math.ceil(found), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows of a table as lines whose columns are aligned.

    Example:
        >>> aligned([["", "AUC"], ["breast", "0.81"]])
        ['        AUC', 'breast  0.81']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
