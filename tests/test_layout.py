"""The layout of the package: unique file names, and folders and files of limited size."""

from collections import Counter
from pathlib import Path

from helpers.commands import REPOSITORY

MODULES = sorted((REPOSITORY / "mammo").rglob("*.py"))
# the commands of the top level call those of the package
HANDED_OVER = {"train.py", "sweep.py"}
MOST_LINES = 400
MOST_FILES = 14  # in the largest folder: the commands and the modules that all of them use


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths if path.name not in ("__init__.py", "__main__.py", "conftest.py")]


def test_no_two_files_share_a_name() -> None:
    for paths in (MODULES, sorted((REPOSITORY / "tests").rglob("*.py"))):
        assert [name for name, count in Counter(names(paths)).items() if count > 1] == []
    assert {path.name for path in REPOSITORY.glob("*.py")} == HANDED_OVER


def test_no_module_is_long() -> None:
    lines = {str(path): len(path.read_text().splitlines()) for path in MODULES}
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}


def test_no_room_holds_many_files() -> None:
    rooms = Counter(path.parent for path in MODULES if path.name != "__init__.py")
    assert {str(room): count for room, count in rooms.items() if count > MOST_FILES} == {}


def test_every_room_says_what_it_is_for() -> None:
    for room in {path.parent for path in MODULES}:
        text = (room / "__init__.py").read_text().split('"""')[1]
        assert len(text) > 20, room
        assert len(text.strip().splitlines()) <= 5, room
