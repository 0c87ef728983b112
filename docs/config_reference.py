"""The page `reference/configuration.md`, written from the schema and from `conf/` when the site is built.

The dataclasses of `mammo.config.schema` give the name, type and choices of each key. The YAML files of
`conf/` give its default and, in the comment beside or above it, its meaning. The build fails if a key of the
schema is missing from the page.
"""

import dataclasses
import enum
import re
import types
import typing
from pathlib import Path
from typing import Any

import yaml

from mammo.config import schema

CONF = Path(__file__).resolve().parent.parent / "conf"
PAGE = Path(__file__).resolve().parent / "reference" / "configuration.md"

# file of conf/ -> class of the whole configuration that the command takes
COMMANDS: dict[str, tuple[str, type]] = {
    "train": ("python train.py", schema.TrainConfig),
    "sweep": ("python sweep.py", schema.SweepConfig),
    "audit": ("python -m mammo.audit", schema.AuditConfig),
    "prepare": ("python -m mammo.prepare", schema.PrepareConfig),
    "evaluate": ("python -m mammo.evaluate", schema.EvaluateConfig),
    "compare": ("python -m mammo.compare", schema.CompareConfig),
    "predict": ("python -m mammo.predict", schema.PredictConfig),
    "export": ("python -m mammo.export", schema.ExportConfig),
    "bench": ("python -m mammo.bench", schema.BenchConfig),
    "simulate": ("python -m mammo.simulate", schema.SimulateConfig),
}
_LINE = re.compile(r"^(?P<indent> *)(?P<key>[\w.+]+):(?P<rest>.*)$")
_COMMENT = re.compile(r"(?:^|\s)#\s?(?P<text>.*)$")


@dataclasses.dataclass
class Key:
    """A key with its default, as a YAML file writes it, and its comment."""

    default: str
    meaning: str


def read_yaml(file: Path) -> tuple[str, dict[str, Key]]:
    """Reads the comment at the top of a file of `conf/`, and its keys by dotted name.

    Args:
        file: YAML file of `conf/`.
    """
    keys: dict[str, Key] = {}
    parents: list[tuple[int, str]] = []
    above: list[str] = []
    head: list[str] = []
    skipping = in_head = True
    for line in file.read_text().splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            text = stripped.lstrip("# ").strip()
            if in_head and not text.startswith("@package"):
                head.append(text)
            above.append(text)
            continue
        in_head = False
        match = _LINE.match(line)
        if match is None:
            if not stripped:
                above = []
            continue
        indent, name = len(match["indent"]), match["key"]
        if indent == 0:
            skipping = name in ("defaults", "hydra")
        while parents and parents[-1][0] >= indent:
            parents.pop()
        parents.append((indent, name))
        if skipping:
            above = []
            continue
        value, comment = _split_comment(match["rest"])
        lines = [comment] if comment else [] if not keys and above == head else above
        keys[".".join(part for _, part in parents)] = Key(default=value, meaning=" ".join(lines))
        above = []
    return "\n".join(head), keys


def _split_comment(rest: str) -> tuple[str, str]:
    """Splits what follows a key's colon into the value and the comment."""
    if rest.strip().startswith(("'", '"')):
        quoted = re.match(r"""\s*(?P<value>'[^']*'|"[^"]*")(?P<rest>.*)$""", rest)
        if quoted:
            comment = _COMMENT.search(quoted["rest"])
            return quoted["value"], comment["text"].strip() if comment else ""
    comment = _COMMENT.search(rest)
    value = rest[: comment.start()] if comment else rest
    return value.strip(), comment["text"].strip() if comment else ""


def choice_files(group: str) -> list[Path]:
    """Lists the files of a group that a user can choose, those with a leading underscore left out.

    Args:
        group: folder below `conf/`, such as `optim` or `hydra/launcher`.
    """
    return sorted(file for file in (CONF / group).glob("*.yaml") if not file.name.startswith("_"))


def resolved_keys(file: Path) -> dict[str, Key]:
    """Reads the keys of a file and those of the files of the same group in its defaults list."""
    keys: dict[str, Key] = {}
    defaults = (yaml.safe_load(file.read_text()) or {}).get("defaults", ["_self_"])
    for entry in [*defaults, *([] if "_self_" in defaults else ["_self_"])]:
        if entry == "_self_":
            own = read_yaml(file)[1]
            for name, key in own.items():
                inherited = keys.get(name)
                meaning = key.meaning or (inherited.meaning if inherited else "")
                keys[name] = Key(key.default, meaning)
        elif isinstance(entry, str) and (file.parent / f"{entry}.yaml").is_file():
            keys |= resolved_keys(file.parent / f"{entry}.yaml")
    return keys


def type_text(annotation: Any) -> str:
    """Writes a type for the page: the choices of an enumeration, `or null` for an optional type.

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
    """Lists the keys of a dataclass with their types, those of nested dataclasses by dotted name.

    Args:
        root: dataclass of the schema.
        prefix: dotted name of `root`, with a final dot.
    """
    hints = typing.get_type_hints(root)
    keys: dict[str, str] = {}
    for field in dataclasses.fields(root):
        annotation = hints[field.name]
        nested = next((part for part in (annotation, *typing.get_args(annotation)) if _is_schema(part)), None)
        if nested is None:
            keys[prefix + field.name] = type_text(annotation)
        else:
            keys |= schema_keys(nested, f"{prefix}{field.name}.")
    return keys


def _is_schema(annotation: Any) -> bool:
    return isinstance(annotation, type) and dataclasses.is_dataclass(annotation)


def all_schema_keys() -> set[tuple[str, str]]:
    """Lists every field of every dataclass of the schema as (name of the class, name of the key)."""
    classes = [item for item in vars(schema).values() if _is_schema(item)]
    return {(item.__name__, field.name) for item in classes for field in dataclasses.fields(item)}


# the group that holds the keys of each dataclass of the schema; the commands' own classes are in COMMANDS
GROUPS: dict[str, tuple[str, ...]] = {
    "data": ("DataConfig", "PhantomConfig", "CbisDdsmConfig", "CsvConfig"),
    "task": ("TaskConfig",),
    "model": ("ModelConfig", "BackboneConfig", "CustomCnnConfig"),
    "augment": ("AugmentConfig",),
    "optim": ("OptimConfig", "AdamConfig", "MomentumConfig"),
    "schedule": ("ScheduleConfig", "StepConfig", "CosineConfig", "OneCycleConfig", "PlateauConfig"),
    "loss": ("LossConfig", "FocalConfig"),
    "callbacks": (),
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
    return rows


def command_rows(name: str) -> dict[str, list[str]]:
    """Collects the rows of the keys that belong to a command itself, not to a group it uses."""
    root = COMMANDS[name][1]
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
    for name, (line, root) in COMMANDS.items():
        rows = command_rows(name)
        named |= {(root.__name__, key) for key in rows}
        lines += [f"### {name}", "", f"`{line}`, installed as `mammo-{name}`", "", *table(rows)]
    lines += ["## Groups", ""]
    for group, classes in GROUPS.items():
        lines += [f"(group-{group})=", f"### {group}", ""]
        lines += [f"| `{group}=` | |", "|---|---|"]
        for file in choice_files(group):
            summary = next((text for text in read_yaml(file)[0].splitlines() if text), "")
            lines.append(f"| `{file.stem}` | {_cell(summary)} |")
        rows = group_rows(group)
        lines += ["", *table(rows, prefix=f"{group}.")]
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
            if _is_schema(annotation)
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
            texts = [
                text for text in read_yaml(file)[0].splitlines() if text and not text.startswith("python ")
            ]
            lines.append(f"| `{file.stem}` | {_cell(texts[0] if texts else '')} |")
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
