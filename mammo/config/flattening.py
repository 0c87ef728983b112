"""A nested configuration as one level of dotted keys."""

from collections.abc import Mapping
from typing import Any


def flatten(node: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Return every leaf with its dotted key, in the order of the configuration; an empty mapping has none.

    Args:
        node: nested mappings with plain values.
        prefix: text before every key.

    Example:
        >>> flatten({"seed": 0, "optim": {"lr": 0.001}})
        {'seed': 0, 'optim.lr': 0.001}
    """
    flat: dict[str, Any] = {}
    for key, value in node.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat
