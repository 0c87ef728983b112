"""Overrides of several values, and what to give instead where a command does not take them."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override
from hydra.errors import HydraException

from mammo.config.checks import CONF
from mammo.config.composition import compose_with_choices
from mammo.errors import ConfigError

_MULTIRUN = ("-m", "--multirun")
_PARAMS = "hydra.sweeper.params"
_SPACE = "'+sweep.space={optim.lr: {log_uniform: [1e-5, 1e-2]}}'"


def refuse_sweeps(command: str, arguments: Sequence[str]) -> None:
    """Refuse overrides of several values that the command cannot take.

    `train.py -m` takes lists of values; ranges, and several values without `-m`, are for `sweep.py` and its
    `sweep.space`.

    Args:
        command: name of the command; of commands other than `train` and `sweep` nothing is refused.
        arguments: command line without the name of the program.

    Raises:
        ConfigError: an override of several values.
    """
    if command not in ("train", "sweep"):
        return
    multirun = any(option in arguments for option in _MULTIRUN)
    if multirun and command == "sweep":
        raise ConfigError(
            "-m: sweep.py runs several trials by itself; leave it out, give the number of trials at the same "
            f"time as sweep.workers=N, and what is searched as {_SPACE}"
        )
    for argument in arguments:
        try:
            override = OverridesParser.create().parse_override(argument)
        except HydraException:  # an option, or an error that Hydra reports
            continue
        key = override.key_or_group
        if key == "hydra/sweeper" and override.value() != "basic":
            raise ConfigError(f"{argument}: a search is a command of its own, python sweep.py {_SPACE}")
        if key == _PARAMS or key.startswith(f"{_PARAMS}."):
            raise ConfigError(f"{argument}: give the values themselves: -m {_of_params(override)}")
        if not override.is_sweep_override() or key.partition(".")[0] in ("hydra", "sweep"):
            continue
        value: Any = override.value()
        if isinstance(value, IntervalSweep):
            domain = "log_uniform" if "log" in value.tags else "uniform"
            if all(isinstance(bound, int) for bound in (value.start, value.end)):
                domain = "int"
            space = _space(key, domain, f"[{value.start}, {value.end}]", command, arguments)
            raise ConfigError(f"{argument}: a range is for a search: python sweep.py {space}")
        if isinstance(value, Glob):
            options = _options(key, arguments)
            values = value.filter(options)
            if not values:
                raise ConfigError(f"{argument}: no choice matches{_choose_from(options)}")
        else:
            values = list(override.sweep_string_iterator())
        if not multirun:
            remedy = "-m to train with each of them"
            if command == "sweep":
                remedy = _space(key, "choice", f"[{', '.join(values)}]", command, arguments)
            raise ConfigError(f"{argument}: several values; give {remedy}")


def _space(key: str, kind: str, values: str, command: str, arguments: Sequence[str]) -> str:
    """Return the override of `sweep.py` that searches the key.

    It removes what the search has of the key, and for `train.py`, which chose no search, the other keys.
    """
    chosen = [argument for argument in arguments if argument.startswith("sweep=")]
    before = compose_with_choices("sweep", chosen)[0].sweep.get("space") or {}
    others = [f"{other}: null" for other in before if other != key] if command == "train" else []
    removed = [f"{word}: null" for word in before.get(key) or {} if word not in (kind, "when")]
    domain = ", ".join([*removed, f"{kind}: {values}"])
    return f"'+sweep.space={{{', '.join([*others, f'{key}: {{{domain}}}'])}}}'"


def _of_params(override: Override) -> str:
    """Return what `-m` takes instead of keys of Hydra's sweeper."""
    value, key = override.value(), override.key_or_group.removeprefix(_PARAMS).lstrip(".")
    if not key and isinstance(value, dict) and value:
        return " ".join(f"{name}={values}" for name, values in value.items())
    return f"{key or 'KEY'}={value if value not in ('', None) else 'VALUE,VALUE'}"


def _options(group: str, arguments: Sequence[str]) -> list[str]:
    """List the choices of a group in `conf` and in the config folder of the command line."""
    folders = [CONF]
    for argument, following in pairwise([*arguments, ""]):
        name, equals, value = argument.partition("=")
        if name in ("--config-dir", "-cd"):
            folders.append(Path(value if equals else following))
    files = {file.stem for folder in folders for file in (folder / group).glob("*.yaml")}
    return sorted(name for name in files if not name.startswith("_"))


def _choose_from(options: list[str]) -> str:
    return f"; choose from {', '.join(options)}" if options else ", for it is no group; give its values"
