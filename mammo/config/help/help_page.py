"""The text of `--help`: what a command does, its groups, and its keys with type, value and meaning."""

import enum
import re
import shutil
import textwrap
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from mammo.config.arguments import command_line, config_folders, groups_of, keys_of_command, split_options
from mammo.config.checks import CONF
from mammo.config.composition import Group, compose_with_groups
from mammo.config.help.conf_comments import choice_files, read_yaml, resolved_keys, summary
from mammo.config.help.key_types import is_schema, type_text

_OPTIONS = {
    "--cfg job": "print the configuration and stop; with --resolve, the values of its ${...}",
    "--info defaults-tree": "print the files that the configuration is composed from, and stop",
    "--config-dir FOLDER": "take choices of your own, FOLDER/GROUP/CHOICE.yaml, besides those of the package",
    "--version": "print the version and stop",
    "--hydra-help": "print the options of Hydra and stop",
}
_MULTIRUN = (
    "train with each combination of several values, such as optim.lr=1e-3,1e-4, as jobs of hydra/launcher"
)
_COLUMN = 34  # where the type and the meaning of a key begin


def help_page(command: str, program: str, arguments: Sequence[str]) -> str:
    """Return the help of a command; groups that the arguments choose are shown with the keys of the choice.

    Args:
        command: name of the command.
        program: how the user started it.
        arguments: arguments of the command.

    Raises:
        ConfigError: an override is wrong; the message names it.
    """
    overrides, folders = split_options(arguments)[1], config_folders(arguments)
    if command == "sweep":  # the other overrides are those of its trainings
        own = ("hydra", *keys_of_command(command))
        overrides = [each for each in overrides if re.split("[.=/]", each.lstrip("+~"))[0] in own]
    cfg, launcher, groups = compose_with_groups(command, overrides)
    if command not in ("train", "sweep"):
        del groups["hydra/launcher"]
    order = [*groups_of(command), *groups]
    groups = dict(sorted(groups.items(), key=lambda item: order.index(item[0])))
    lines = _opening(command, program)
    if groups:
        lines += ["", "Groups, given as GROUP=CHOICE; the choice in [brackets] is in force:"]
    for name, group in groups.items():
        options = sorted({*group.options, *(file.stem for file in choice_files(name, folders))})
        shown = [f"[{option}]" if option == group.choice else option for option in options]
        lines += _row(name, ", ".join(shown))
    if command == "sweep":
        lines += ["", f"Every group and key of {command_line('train')} can be given too, for all trials."]
    lines += ["", "Keys, given as KEY=VALUE; the value in force is shown, and ??? must be given:"]
    meanings = _meanings(command, groups, folders)
    rows = [*_keys(cfg), *(_keys(launcher, "hydra.launcher.") if "hydra/launcher" in groups else [])]
    section: str | None = None
    for key, kind, value in sorted(rows, key=lambda row: "." in row[0]):
        if key in groups and not value:  # a group without a choice, or with one that has no keys
            continue
        found = next((name for name in groups if f"{key}.".startswith(f"{name.replace('/', '.')}.")), None)
        if found is not None and found != section:
            section, file = found, _file(found, groups[found].choice, folders)
            text = summary(file) if file else ""
            lines += ["", f"{found}={groups[found].choice}{': ' if text else ''}{text}"]
        lines += _key_row(key, kind, value, meanings.get(key, ""))
    return "\n".join([*lines, "", "Options:", *_options(command)])


def _opening(command: str, program: str) -> list[str]:
    """Return what the command does, and its usual calls under the name that it was started by."""
    head = read_yaml(CONF / f"{command}.yaml")[0].splitlines()
    calls = [line.replace(command_line(command), program) for line in head if line.startswith("python ")]
    texts = [line for line in head if not line.startswith("python ")]
    return [*texts, "", "Usage:", *(f"  {call}" for call in calls)]


def _options(command: str) -> list[str]:
    options = ({"-m": _MULTIRUN} if command == "train" else {}) | _OPTIONS
    return [line for option, text in options.items() for line in _row(option, text)]


def _file(group: str, choice: str | None, folders: Sequence[Path]) -> Path | None:
    return next((file for file in choice_files(group, folders) if file.stem == choice), None)


def _meanings(command: str, groups: Mapping[str, Group], folders: Sequence[Path]) -> dict[str, str]:
    """Return the meaning of each key: of the choice in force, or else of another choice of the group."""
    meanings = {name: key.meaning for name, key in read_yaml(CONF / f"{command}.yaml")[1].items()}
    for name, group in groups.items():
        files = choice_files(name, folders)
        for file in sorted(files, key=lambda file: file.stem != group.choice):
            for key, item in resolved_keys(file, folders).items():
                full = f"{name.replace('/', '.')}.{key}"
                meanings[full] = meanings.get(full) or item.meaning
    return meanings


def _keys(node: DictConfig, prefix: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield the dotted name, the type and the value of each key of a resolved configuration."""
    schema = OmegaConf.get_type(node)
    hints = typing.get_type_hints(schema) if is_schema(schema) else {}
    for key in map(str, node):
        value = "???" if OmegaConf.is_missing(node, key) else node[key]
        hint = hints.get(key, Any)
        if isinstance(value, DictConfig) and value and (hint is Any or is_schema(OmegaConf.get_type(value))):
            yield from _keys(value, f"{prefix}{key}.")
            continue
        plain = OmegaConf.to_container(value, enum_to_str=True) if OmegaConf.is_config(value) else value
        plain = plain.value if isinstance(plain, enum.Enum) else plain
        kind = type(plain) if hint is Any and plain is not None else hint
        yield f"{prefix}{key}", type_text(kind).replace("`", ""), plain


def _key_row(key: str, kind: str, value: Any, meaning: str) -> list[str]:
    text = "???" if value == "???" else yaml.safe_dump(value, default_flow_style=True, width=1000)
    choices = kind.removesuffix(" or null").split(", ")
    if len(choices) > 1 and all(choice in meaning for choice in choices):
        kind = "choice"  # the meaning explains the choices
    return _row(f"{key}={text.removesuffix('...' + chr(10)).strip()}", f"{kind}; {meaning}".rstrip("; "))


def _row(name: str, text: str) -> list[str]:
    """Return a name and its text, which begins in a column of its own, on as many lines as it needs."""
    width = max(80, min(160, shutil.get_terminal_size((120, 24)).columns))
    start = f"  {name}".ljust(_COLUMN)
    start += "" if start.endswith(" ") else "  "
    return textwrap.wrap(text, width, initial_indent=start, subsequent_indent=" " * _COLUMN) or [
        start.rstrip()
    ]
