"""Keys of the YAML files of `conf/` with their defaults, and the comments that say what they mean."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from mammo.config.checks import CONF

_LINE = re.compile(r"^(?P<indent> *)(?P<key>[\w.+]+):(?P<rest>.*)$")
_COMMENT = re.compile(r"(?:^|\s)#\s?(?P<text>.*)$")


@dataclasses.dataclass
class Key:
    """A key with its default, as a YAML file writes it, and its comment."""

    default: str
    meaning: str


def read_yaml(file: Path) -> tuple[str, dict[str, Key]]:
    """Return the comment at the top of a file of `conf/`, and its keys by dotted name."""
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
    """Split what follows a key's colon into the value and the comment."""
    if rest.strip().startswith(("'", '"')):
        quoted = re.match(r"""\s*(?P<value>'[^']*'|"[^"]*")(?P<rest>.*)$""", rest)
        if quoted:
            comment = _COMMENT.search(quoted["rest"])
            return quoted["value"], comment["text"].strip() if comment else ""
    comment = _COMMENT.search(rest)
    value = rest[: comment.start()] if comment else rest
    return value.strip(), comment["text"].strip() if comment else ""


def summary(file: Path) -> str:
    """Return the first line of the comment at the top of a file that is not a call of a command."""
    lines = read_yaml(file)[0].splitlines()
    return next((line for line in lines if line and not line.startswith("python ")), "")


def choice_files(group: str, folders: Sequence[Path] = (CONF,)) -> list[Path]:
    """List the files of a group that a user can choose, those with a leading underscore left out.

    Args:
        group: folder below `conf/`, such as `optim` or `hydra/launcher`.
        folders: config folders, of which an earlier one has precedence.
    """
    found = {file.name: file for folder in reversed(folders) for file in (folder / group).glob("*.yaml")}
    return sorted(
        (file for name, file in found.items() if not name.startswith("_")), key=lambda file: file.name
    )


def resolved_keys(file: Path, folders: Sequence[Path] = (CONF,)) -> dict[str, Key]:
    """Return the keys of a file and those of the files of the same group in its defaults list."""
    keys: dict[str, Key] = {}
    content = yaml.safe_load(file.read_text())
    defaults = content.get("defaults", ["_self_"]) if isinstance(content, dict) else ["_self_"]
    for entry in [*defaults, *([] if "_self_" in defaults else ["_self_"])]:
        if entry == "_self_":
            for name, key in read_yaml(file)[1].items():
                inherited = keys.get(name)
                meaning = key.meaning or (inherited.meaning if inherited else "")
                keys[name] = Key(key.default, meaning)
        elif isinstance(entry, str):
            places = folders if entry.startswith("/") else [file.parent, *folders]
            name = f"{entry.partition('@')[0].lstrip('/')}.yaml"
            if base := next((place / name for place in places if (place / name).is_file()), None):
                keys |= resolved_keys(base, folders)
    return keys
