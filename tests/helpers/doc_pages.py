"""The files and commands that a page of the documentation prints."""

import re
import shlex
from pathlib import Path

from helpers.commands import REPOSITORY


def write_files(page: str, place: Path) -> list[str]:
    """Writes the files of a page of `docs/howto` into a folder and returns their names."""
    text = (REPOSITORY / "docs" / "howto" / f"{page}.md").read_text()
    files = re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)```$", text, re.MULTILINE | re.DOTALL)
    for name, content in files:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(content)
    return [name for name, _ in files]


def printed_commands(page: Path) -> list[str]:
    """Returns the commands in indented blocks of a page, each in one line, without its comment."""
    text = page.read_text().replace("\\\n", " ")
    lines = re.findall(r"^    (python (?:\w+\.py|-m mammo\.).*)$", text, re.MULTILINE)
    return [re.split(r"\s#\s", line)[0].strip() for line in lines]


def commands_of(page: str) -> list[tuple[str, list[str]]]:
    """Returns the commands of a page of `docs/howto`: each command's name and its arguments."""
    text = (REPOSITORY / "docs" / "howto" / f"{page}.md").read_text()
    found = re.findall(r"^    python -m mammo\.(\w+) (.*)$", text, re.MULTILINE)
    return [(door, shlex.split(arguments)) for door, arguments in found]
