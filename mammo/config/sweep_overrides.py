"""Overrides of several values, and what to give instead where a command does not take them."""

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override
from hydra.errors import HydraException

from mammo.config.arguments import by_key, config_folders
from mammo.config.composition import compose_with_choices, options_of
from mammo.errors import ConfigError

_MULTIRUN = ("-m", "--multirun")
_PARAMS = "hydra.sweeper.params"
_SPACE = "'+sweep.space={optim.lr: {log_uniform: [1e-5, 1e-2]}}'"


def refuse_sweeps(command: str, arguments: Sequence[str]) -> None:
    """Refuse overrides of several values that the command cannot take.

    `-m` takes lists of values; ranges, and several values without `-m`, are for `sweep.py` and its
    `sweep.space`.

    Args:
        command: name of the command.
        arguments: command line without the name of the program.

    Raises:
        ConfigError: an override of several values.
    """
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
        if command not in ("train", "sweep"):
            if not multirun:
                listed = ",".join(override.sweep_string_iterator())
                raise ConfigError(
                    f"{argument}: several values; give a list, {key}=[{listed}], or -m to run with each"
                )
            continue
        value: Any = override.value()
        if isinstance(value, IntervalSweep):
            domain = "log_uniform" if "log" in value.tags else "uniform"
            if all(isinstance(bound, int) for bound in (value.start, value.end)):
                domain = "int"
            space = _space(key, domain, f"[{value.start}, {value.end}]", command, arguments)
            raise ConfigError(f"{argument}: a range is for a search: python sweep.py {space}")
        if isinstance(value, Glob):
            options = options_of(key)
            values = value.filter(options)
            if not values:
                raise ConfigError(f"{argument}: no choice matches{_choose_from(options)}")
            for choice in values:
                if missing := _required_keys(key, choice, arguments):
                    raise ConfigError(
                        f"{argument}: {choice} needs {missing[0]}; give it, or {key}=glob({value.include[0]},"
                        f"exclude={choice})"
                    )
        else:
            values = list(override.sweep_string_iterator())
        if not multirun:
            remedy = "-m to train with each of them"
            if command == "sweep":
                remedy = _space(key, "choice", f"[{', '.join(values)}]", command, arguments)
            raise ConfigError(f"{argument}: several values; give {remedy}")


def expand_globs(overrides: Sequence[str]) -> list[str]:
    """Return overrides with `GROUP=glob(...)` as the choices that match.

    Hydra would add files that are no choices.

    Args:
        overrides: overrides of the command line.
    """
    expanded = []
    for text in overrides:
        if "glob(" in text:
            override = OverridesParser.create().parse_override(text)
            value: Any = override.value()
            if isinstance(value, Glob):
                choices = value.filter(options_of(override.key_or_group))
                text = f"{override.get_key_element()}={','.join(choices)}"
        expanded.append(text)
    return expanded


def _required_keys(group: str, choice: str, arguments: Sequence[str]) -> list[str]:
    """Return the keys of a choice without a value, which the command line does not give either."""
    from mammo.config.help.conf_comments import choice_files, resolved_keys

    folders = config_folders(arguments)
    file = next(file for file in choice_files(group, folders) if file.stem == choice)
    names = [f"{group}.{name}" for name, key in resolved_keys(file, folders).items() if key.default == "???"]
    return [name for name in names if not any(argument.startswith(f"{name}=") for argument in arguments)]


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
    text = str(override.input_line).partition("=")[2] if key and value is not None else ""
    return f"{key or 'KEY'}={text or 'VALUE,VALUE'}"


def _choose_from(options: list[str]) -> str:
    return f"; choose from {', '.join(options)}" if options else ", for it is no group; give its values"


def continued(recorded: Sequence[str], given: Sequence[str], *, group: str) -> dict[str, str]:
    """Return the overrides in force, by key: the given ones, and the recorded ones whose keys are not given.

    Args:
        recorded: overrides of an earlier command.
        given: overrides of this command.
        group: group of the overrides; where another of its choices is given, no recorded one is in force.
    """
    before, now = by_key(recorded), by_key(given)
    return now if now.get(group) not in (None, before.get(group)) else before | now
