"""Parts of an experiment from nodes with `_target_`: found, checked against their signature, and built.

A node is a mapping with `_target_`, the dotted path of a class or function, and its keyword arguments. What
the framework has to offer (such as the number of classes) is handed over where the signature asks for it.
"""

import difflib
import enum
import importlib
import inspect
import re
import sys
import traceback
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mammo.errors import ConfigError, MammoError

TARGET = "_target_"


def part_name(node: Mapping[str, Any]) -> str | None:
    """Return the name of a part for people: its key `name`, or the last part of its `_target_`."""
    return node.get("name") or str(node.get(TARGET) or "").rpartition(".")[2] or None


@dataclass(frozen=True)
class Role:
    """What a part is, and which classes and functions are of this kind.

    Attributes:
        name: what the part is, for messages.
        base: classes of the part; a function must declare to return one.
        call: names of the parameters of the part when it is called; None if any may be called.
        nests: whether nodes with `_target_` among the arguments, also in lists, are parts of this role.
    """

    name: str
    base: tuple[type, ...] = ()
    call: tuple[str, ...] | None = None
    nests: bool = False

    def accepts(self, target: Any) -> bool:
        """Return whether the target is a class of the role, or a function that declares to return one."""
        if inspect.isclass(target):
            return self._is_part(target)
        if inspect.isfunction(target):
            try:
                returned = typing.get_type_hints(target).get("return")
            except (NameError, TypeError):
                return False
            return inspect.isclass(returned) and self._is_part(returned)
        return False

    def _is_part(self, part: type) -> bool:
        if self.base and not issubclass(part, self.base):
            return False
        if self.call is None:
            return bool(self.base)
        method = getattr(part, "forward", None) or part.__call__
        try:
            return tuple(inspect.signature(method).parameters)[1:] == self.call
        except (TypeError, ValueError):
            return False


def build(node: Mapping[str, Any], *, key: str, role: Role, offered: Mapping[str, Any] | None = None) -> Any:
    """Return the part that a node describes.

    Args:
        node: `_target_` and keyword arguments, as plain values.
        key: key of the node in the configuration, for messages.
        role: what the part must be.
        offered: arguments that the signature may ask for; a value in the node has precedence.

    Raises:
        ConfigError: see `check_node`; or the part refuses its arguments.
    """
    target = check_node(node, key=key, role=role, offered=(offered or {}).keys())
    parameters = inspect.signature(target).parameters
    hints = _hints(target)
    handed = {
        name: _plain(value, hints.get(name)) for name, value in (offered or {}).items() if name in parameters
    }
    given = {
        name: _plain(_built(value, key=f"{key}.{name}", role=role) if role.nests else value, hints.get(name))
        for name, value in node.items()
        if name != TARGET
    }
    try:
        return target(**handed | given)
    except MammoError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key}: {node[TARGET]} refuses its arguments: {_first_line(error)}") from error
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise ConfigError(
            f"{key}: {node[TARGET]} fails: {type(error).__name__}: {_first_line(error)} "
            f"({Path(place.filename).name}, line {place.lineno})"
        ) from error


def _built(value: Any, *, key: str, role: Role) -> Any:
    """Return an argument with the parts in the place of their nodes."""
    if isinstance(value, Mapping) and TARGET in value:
        return build(value, key=key, role=role)
    if isinstance(value, list):
        return [_built(each, key=f"{key}[{place}]", role=role) for place, each in enumerate(value)]
    return value


def check_node(
    node: Mapping[str, Any], *, key: str, role: Role, offered: "typing.Iterable[str]" = ()
) -> Callable[..., Any]:
    """Check a node without building it, and return the class or function that it names.

    Raises:
        ConfigError: the target cannot be imported, is not of the role, does not take an argument of the
            node, or needs one that is missing; or an argument is not of the annotated type.
    """
    name = node.get(TARGET)
    if not isinstance(name, str):
        raise ConfigError(f"{key}: has no {TARGET}; give the dotted path of a {role.name}")
    target: Callable[..., Any] = locate(name, key=key)
    if not role.accepts(target):
        raise ConfigError(f"{key}.{TARGET}={name}: is no {role.name}; {_remedy(role)}")
    parameters = inspect.signature(target).parameters
    takes_any = any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values())
    named = [
        parameter
        for parameter in parameters.values()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    known = [parameter.name for parameter in named]
    for argument in node:
        if argument != TARGET and argument not in known and not takes_any:
            near = difflib.get_close_matches(argument, known, n=1)
            choose = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known) or 'no argument'}"
            raise ConfigError(f"{key}.{argument}: {name} has no such argument; {choose}")
    for parameter in named:
        given = parameter.name in node or parameter.name in offered
        if parameter.default is parameter.empty and not given:
            raise ConfigError(f"{key}: {name} needs {parameter.name}; give +{key}.{parameter.name}=...")
    hints = _hints(target)
    for argument, value in node.items():
        if role.nests and _check_nested(value, key=f"{key}.{argument}", role=role):
            continue
        if argument in hints and not _fits(value, hints[argument]):
            wanted = inspect.formatannotation(hints[argument])
            raise ConfigError(f"{key}.{argument}={value}: {name} takes {wanted}")
    return target


def _check_nested(value: Any, *, key: str, role: Role) -> bool:
    """Check the nodes in an argument, and return whether there are any."""
    if isinstance(value, Mapping) and TARGET in value:
        check_node(value, key=key, role=role)
        return True
    if isinstance(value, list):
        found = [_check_nested(each, key=f"{key}[{place}]", role=role) for place, each in enumerate(value)]
        return any(found)
    return False


def locate(name: str, *, key: str) -> Any:
    """Return the object of a dotted path; modules beside the working directory are found too.

    Raises:
        ConfigError: there is no such module or name, or the import of the module fails.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    # the package lightning has the same classes, but they are not those of the Trainer that is used
    name = re.sub(r"^lightning\.pytorch\b", "pytorch_lightning", name)
    parts = name.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ConfigError(f"{key}.{TARGET}={name}: is no dotted path; give package.module.Name")
    found: Any = None
    for count in range(1, len(parts)):
        module = ".".join(parts[:count])
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise ConfigError(f"{key}.{TARGET}={name}: {_failure(module, error)}") from error
            if count == 1:
                raise ConfigError(
                    f"{key}.{TARGET}={name}: there is no module {error.name} here; install it, or start "
                    "the command in the folder that contains it"
                ) from error
            count -= 1
            break
        except Exception as error:
            raise ConfigError(f"{key}.{TARGET}={name}: {_failure(module, error)}") from error
    else:
        count = len(parts) - 1
    for position in range(count, len(parts)):
        if not hasattr(found, parts[position]):
            path = ".".join(parts[:position])
            public = [each for each in vars(found) if not each.startswith("_")]
            near = difflib.get_close_matches(parts[position], public, n=1)
            remedy = f"did you mean {path}.{near[0]}?" if near else "check its name"
            raise ConfigError(f"{key}.{TARGET}={name}: {path} has no {parts[position]}; {remedy}")
        found = getattr(found, parts[position])
    return found


def _failure(module: str, error: Exception) -> str:
    return f"the import of {module} fails: {type(error).__name__}: {_first_line(error)}; correct the module"


def _remedy(role: Role) -> str:
    if role.call is not None:
        return f"give a class whose objects are called with ({', '.join(role.call)})"
    names = " or ".join(f"{base.__module__}.{base.__qualname__}" for base in role.base)
    return f"give a subclass of {names}, or a function that declares to return one"


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    function = target.__init__ if inspect.isclass(target) else target
    try:
        return typing.get_type_hints(function)
    except Exception:  # annotations that exist for type checkers only
        return {}


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a plain value may be of an annotated type; types that YAML does not have always fit."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if origin is Literal:
        return value in typing.get_args(hint)
    if hint in (type(None), None):
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin in (list, tuple):
        return isinstance(value, list | tuple)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping)
    if inspect.isclass(hint) and issubclass(hint, enum.Enum):
        return isinstance(value, hint) or value in [member.value for member in hint]
    if inspect.isclass(hint):
        return isinstance(value, hint) or (isinstance(value, str) and issubclass(hint, Path))
    return True


def _plain(value: Any, hint: Any) -> Any:
    """Return a string as a path or as a member of an enumeration where the signature says so."""
    for each in (hint, *typing.get_args(hint)) if isinstance(value, str) else ():
        if each is Path:
            return Path(value)
        if inspect.isclass(each) and issubclass(each, enum.Enum) and value in [m.value for m in each]:
            return each(value)
    return value


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
