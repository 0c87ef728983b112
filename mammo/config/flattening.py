"""The dotted keys of nested configurations."""

from collections.abc import Collection, Mapping, Sequence
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


def differing_keys(configs: Sequence[Mapping[Any, Any]]) -> list[str]:
    """Return the dotted keys in whose values configurations differ; a key that is missing has the value None.

    Example:
        >>> differing_keys([{"seed": 0, "data": {"fold": 0}}, {"seed": 0, "data": {"fold": 1}}])
        ['data.fold']
    """
    flat = [flatten(config) for config in configs]
    keys = dict.fromkeys(key for config in flat for key in config)
    return [key for key in keys if any(config.get(key) != flat[0].get(key) for config in flat)]


def without_keys(node: Mapping[Any, Any], keys: Collection[str], prefix: str = "") -> dict[Any, Any]:
    """Return the configuration without the leaves of these dotted keys.

    Args:
        node: nested mappings with plain values.
        keys: dotted keys, with the prefix.
        prefix: text before every key.

    Example:
        >>> without_keys({"seed": 0, "data": {"fold": 0, "folds": 5}}, ["data.fold"])
        {'seed': 0, 'data': {'folds': 5}}
    """
    return {
        key: without_keys(value, keys, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in node.items()
        if f"{prefix}{key}" not in keys
    }
