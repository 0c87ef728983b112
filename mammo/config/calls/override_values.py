"""Values in the grammar of Hydra's overrides."""

import functools
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException


def quoted(value: bool | int | float | str | None) -> str:
    """Return the value as Hydra's grammar reads it back, a string in quotes where it needs them.

    Example:
        >>> [quoted(value) for value in (None, True, 5e-05, "resnet18", "5e-05", "a, b")]
        ['null', 'true', '5e-05', 'resnet18', "'5e-05'", "'a, b'"]
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if not isinstance(value, str):
        return repr(value)
    try:
        read = parser().parse_override(f"key={value}").value()
    except HydraException:
        read = None
    return (
        value if read == value and isinstance(read, str) else QuotedString(value, Quote.single).with_quotes()
    )


@functools.cache
def parser() -> Any:
    """Return Hydra's parser of overrides."""
    return OverridesParser.create()
