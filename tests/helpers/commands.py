"""The project's commands as a user gives them: `python train.py ...`, `python -m mammo.evaluate ...`."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from helpers.fork_server import ForkedPython

REPOSITORY = Path(__file__).resolve().parents[2]
COMMANDS = [
    "train",
    "sweep",
    "download",
    "audit",
    "prepare",
    "evaluate",
    "compare",
    "runs",
    "predict",
    "export",
    "bench",
    "simulate",
]


def line(door: str, *arguments: str) -> list[str]:
    """The whole command line, including the interpreter.

    Args:
        door: `train`, `sweep`, or a module of `mammo`.
        arguments: arguments of the command.
    """
    program = [str(REPOSITORY / f"{door}.py")] if door in ("train", "sweep") else ["-m", f"mammo.{door}"]
    return [sys.executable, *program, *arguments]


def next_of(output: str) -> list[list[str]]:
    """The modules and arguments of the commands that come next; there are two."""
    _, found, after = f"\n{output}".partition("\nnext ")
    assert found, output
    words = [shlex.split(text) for text in after.splitlines()]
    assert len(words) == 2, output
    return [each[2:] if each[1] == "-m" else each for each in words]


def film_of(path: str, place: Path) -> Path:
    """The film of a row of a store in the shared cache.

    Args:
        path: `path` of the row, which leads through the working folder of the tests that made the store.
        place: a working folder, whose `cache` is the shared one.
    """
    return place / "cache" / path.partition("/cache/")[2]


def copy_of_the_clone(place: Path) -> Path:
    """A folder in `place` with the package, `conf` and `train.py`, which a test may edit."""
    clone = place / "clone"
    for name in ("mammo", "conf"):
        shutil.copytree(REPOSITORY / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "train.py", clone)
    return clone


def command(
    door: str, *arguments: str, folder: Path, timeout: float = 600, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, without the time for its imports.

    Args:
        door: see `line`.
        arguments: arguments of the command.
        folder: the working folder.
        timeout: time limit in seconds.
        options: other arguments of `subprocess.Popen`.
    """
    with start(door, *arguments, folder=folder, stdout=subprocess.PIPE, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def start(door: str, *arguments: str, folder: Path, **options: Any) -> ForkedPython:
    """Starts a command, without the time for its imports; its standard error is a pipe.

    Args:
        door: see `line`.
        arguments: arguments of the command.
        folder: the working folder.
        options: other arguments of `subprocess.Popen`.
    """
    defaults = {"cwd": folder, "stderr": subprocess.PIPE, "text": True}
    return ForkedPython(line(door, *arguments), **defaults | options)
