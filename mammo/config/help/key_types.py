"""Types of the keys of the schema, in words."""

import dataclasses
import enum
import types
import typing
from typing import Any


def type_text(annotation: Any) -> str:
    """Return a type in words: the choices of an enumeration, `or null` for an optional type.

    Args:
        annotation: annotation of a field of the schema.

    Example:
        >>> type_text(int | None)
        'int or null'
        >>> type_text(list[str])
        'list of str'
    """
    if annotation is Any:
        return "any"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        named = [type_text(part) for part in arguments if part is not type(None)]
        return " or ".join([*named, *(["null"] if type(None) in arguments else [])])
    if origin is list:
        return f"list of {type_text(arguments[0])}"
    if origin is dict:
        return "mapping"
    return str(getattr(annotation, "__name__", annotation))


def schema_keys(root: type, prefix: str = "") -> dict[str, str]:
    """Return the keys of a dataclass with their types, those of nested dataclasses by dotted name.

    Args:
        root: dataclass of the schema.
        prefix: dotted name of `root`, with a final dot.
    """
    hints = typing.get_type_hints(root)
    keys: dict[str, str] = {}
    for field in dataclasses.fields(root):
        annotation = hints[field.name]
        nested = next((part for part in (annotation, *typing.get_args(annotation)) if is_schema(part)), None)
        if nested is None:
            keys[prefix + field.name] = type_text(annotation)
        else:
            keys |= schema_keys(nested, f"{prefix}{field.name}.")
    return keys


def is_schema(annotation: Any) -> bool:
    """Return whether an annotation is a dataclass of the schema."""
    return isinstance(annotation, type) and dataclasses.is_dataclass(annotation)
