"""The page `reference/configuration.md`, written from the schema and from `conf/` when the site is built.

The dataclasses of `mammo.config.schema` give the name, type and choices of each key. The YAML files of
`conf/` give its default and, in the comment beside or above it, its meaning. The build fails if a key of the
schema is missing from the page.
"""

import dataclasses
import re
import typing
from pathlib import Path
from typing import Any

from mammo.config import schema
from mammo.config.arguments import command_line
from mammo.config.checks import CONF
from mammo.config.help.conf_comments import Key, choice_files, read_yaml, resolved_keys, summary
from mammo.config.help.key_types import is_schema, schema_keys, type_text
from mammo.config.schema import COMMANDS

PAGE = Path(__file__).resolve().parent / "reference" / "configuration.md"


def all_schema_keys() -> set[tuple[str, str]]:
    """Lists every field of every dataclass of the schema as (name of the class, name of the key)."""
    classes = [item for item in vars(schema).values() if is_schema(item)]
    return {(item.__name__, field.name) for item in classes for field in dataclasses.fields(item)}


# the group that holds the keys of each dataclass of the schema; the commands' own classes are in COMMANDS
GROUPS: dict[str, tuple[str, ...]] = {
    "data": (
        *("PhantomConfig", "CbisDdsmConfig", "CsvConfig", "PublicSetConfig", "BiradsSetConfig"),
        "CombinedConfig",
    ),
    "task": ("TaskConfig",),
    "model": ("BackboneConfig", "CustomCnnConfig"),
    "model/pool": ("GemConfig", "PoolConfig", "AttentionPoolConfig"),
    "model/head": ("HeadConfig", "PatchMapConfig", "CropMilConfig", "ResidualBlocksConfig"),
    "augment": ("AugmentConfig",),
    "optim": ("OptimConfig", "AdamConfig", "MomentumConfig"),
    "schedule": (
        "ScheduleConfig",
        "StepConfig",
        "CosineConfig",
        "OneCycleConfig",
        "PlateauConfig",
        "MultiStepConfig",
    ),
    "loss": ("LossConfig", "FocalConfig"),
    "callbacks": (),
    "logger": (),
    "trainer": ("TrainerConfig",),
    "sweep": ("SearchConfig", "StudyConfig"),
}


def group_rows(group: str) -> dict[str, list[str]]:
    """Collects the rows of a group's table: key -> type, default, meaning, choices that have the key.

    A key whose default differs between the choices gets each default with the choice that sets it.
    """
    types_of: dict[str, str] = {}
    for name in GROUPS[group]:
        types_of |= schema_keys(getattr(schema, name))
    files = {file.stem: resolved_keys(file) for file in choice_files(group)}
    if group == "sweep":  # what all searches share is in a file that is no choice
        files = {"search": resolved_keys(CONF / "sweep" / "_search.yaml"), "study2019": files["study2019"]}
    rows: dict[str, list[str]] = {}
    for key, kind in types_of.items():
        having = {choice: keys[key] for choice, keys in files.items() if key in keys}
        by_default: dict[str, list[str]] = {}
        for choice, item in having.items():
            by_default.setdefault(item.default, []).append(choice)
        if len(by_default) == 1:
            default = _code(next(iter(by_default)))
        else:
            default = "; ".join(f"{_code(value)} ({', '.join(names)})" for value, names in by_default.items())
        meanings = dict.fromkeys(item.meaning for item in having.values() if item.meaning)
        only = "" if len(having) in (0, len(files)) else f"Of {', '.join(f'`{name}`' for name in having)}."
        meaning = " / ".join(meanings)
        rows[key] = [kind, default, " ".join(part for part in (meaning, only) if part)]
        if f"{group}/{key}" in GROUPS:
            rows[key] = [f"group [`{group}/{key}`](#group-{group}-{key})", "", "keys of the group"]
    return rows


def command_rows(name: str) -> dict[str, list[str]]:
    """Collects the rows of the keys that belong to a command itself, not to a group it uses."""
    root = COMMANDS[name]
    defaults = read_yaml(CONF / f"{name}.yaml")[1]
    hints = typing.get_type_hints(root)
    rows = {}
    for field in dataclasses.fields(root):
        if field.name in GROUPS:
            link = f"group [`{field.name}`](#group-{field.name})"
            rows[field.name] = [link, "", "keys of the group, written " + f"`{field.name}.KEY`"]
        else:
            item = defaults.get(field.name, Key("", ""))
            rows[field.name] = [type_text(hints[field.name]), _code(item.default), item.meaning]
    return rows


def _code(value: str) -> str:
    return "required" if value == "???" else f"`{value}`" if value else ""


def _cell(text: str) -> str:
    """Escapes the characters that would end a table's cell or begin a tag."""
    parts = re.split(r"(`[^`]*`)", text)
    for position in range(0, len(parts), 2):
        parts[position] = parts[position].replace("<", r"\<").replace("*", r"\*").replace("[", r"\[")
    return "".join(parts).replace("|", r"\|")


def table(rows: dict[str, list[str]], *, prefix: str = "") -> list[str]:
    """Writes rows as a Markdown table with the columns key, type, default and meaning.

    Args:
        rows: key -> type, default, meaning.
        prefix: text before each key, such as `optim.`.
    """
    lines = ["| key | type or choices | default | meaning |", "|---|---|---|---|"]
    for key, (kind, default, meaning) in rows.items():
        kind = kind if kind.startswith("group [") else _cell(kind)
        lines.append(f"| `{prefix}{key}` | {kind} | {_cell(default)} | {_cell(meaning)} |")
    return [*lines, ""]


def reference() -> str:
    """Writes the whole page.

    Raises:
        KeyError: a key of the schema is missing from the page.
    """
    lines = [
        "# Configuration",
        "",
        "Every key of every command, generated from `mammo/config/schema.py` and `conf/`. A key is given on",
        "the command line as `KEY=VALUE`, a group as `GROUP=CHOICE`. `null` is no value. A default that",
        "differs between the choices of a group is given with the choices that set it.",
        "",
    ]
    named: set[tuple[str, str]] = set()
    lines += ["## Commands", ""]
    for name, root in COMMANDS.items():
        rows = command_rows(name)
        named |= {(root.__name__, key) for key in rows}
        lines += [f"### {name}", "", f"`{command_line(name)}`, installed as `mammo-{name}`", "", *table(rows)]
    lines += ["## Groups", ""]
    for group, classes in GROUPS.items():
        lines += [f"(group-{group.replace('/', '-')})=", f"### {group}", ""]
        lines += [f"| `{group}=` | |", "|---|---|"]
        for file in choice_files(group):
            lines.append(f"| `{file.stem}` | {_cell(summary(file))} |")
        rows = group_rows(group)
        lines += ["", *table(rows, prefix=f"{group.replace('/', '.')}.")]
        tops = {key.partition(".")[0] for key in rows}
        for name in classes:
            named |= {
                (name, field.name)
                for field in dataclasses.fields(getattr(schema, name))
                if field.name in tops
            }
        nested = {
            annotation
            for name in classes
            for annotation in typing.get_type_hints(getattr(schema, name)).values()
            if is_schema(annotation)
        }
        for item in nested:
            leaves = {key.rpartition(".")[2] for key in rows if "." in key}
            named |= {
                (item.__name__, field.name) for field in dataclasses.fields(item) if field.name in leaves
            }
    for group in ("experiment", "hydra/launcher"):
        anchor = group.replace("/", "-")
        lines += [f"(group-{anchor})=", f"### {group}", "", f"| `{group}=` | |", "|---|---|"]
        for file in choice_files(group):
            lines.append(f"| `{file.stem}` | {_cell(summary(file))} |")
        lines += [""]
    for file in choice_files("hydra/launcher"):
        rows = {key: ["", _code(item.default), item.meaning] for key, item in read_yaml(file)[1].items()}
        lines += [f"Keys of `hydra/launcher={file.stem}`:", "", *table(rows, prefix="hydra.launcher.")]
    missing = all_schema_keys() - named
    if missing:
        keys = ", ".join(sorted(f"{owner}.{key}" for owner, key in missing))
        raise KeyError(f"keys of the schema missing from the page of the configuration: {keys}")
    return "\n".join(lines)


def write_page(*_: object) -> None:
    """Writes the page, if it changed."""
    text = reference()
    PAGE.parent.mkdir(exist_ok=True)
    if not PAGE.is_file() or PAGE.read_text() != text:
        PAGE.write_text(text)


def setup(app: Any) -> dict[str, bool]:
    """Connects the page to the start of a build of Sphinx."""
    app.connect("builder-inited", write_page)
    return {"parallel_read_safe": True}
