"""What a command prints at its end: the paths that it wrote, and the commands that usually come next."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mammo.config.arguments import program_name
from mammo.config.calls.override_values import quoted
from mammo.config.composition import config_dirs

_given: list[str] = []  # the call of this process, as the user typed it


def ending(written: Mapping[str, object], *commands: str) -> str:
    """Return the end of a command's output.

    Args:
        written: files and folders by what they are, such as `report`.
        commands: commands that usually come next, ready to be copied.

    Example:
        >>> print(ending({"run folder": "runs/a", "report": "runs/a.html"}, "tensorboard --logdir runs"))
        run folder runs/a
        report     runs/a.html
        next       tensorboard --logdir runs
    """
    rows = [*written.items(), *(("next" if not place else "", text) for place, text in enumerate(commands))]
    width = max(10, *(len(name) for name, _ in rows))
    return "\n".join(f"{name:{width}} {text}" for name, text in rows)


def call(command: str, *overrides: str, **values: Any) -> str:
    """Return the call of a command in the way in which this process was started, quoted for the shell.

    Args:
        command: name of the command, such as `evaluate`.
        overrides: overrides as the user typed them.
        values: values of further keys: paths, texts, numbers, or lists of them.
    """
    given = [*overrides, *(f"{key}={_value(value)}" for key, value in values.items())]
    own = [part for folder in config_dirs() if overrides for part in ("--config-dir", str(folder))]
    return " ".join([_start(command), *map(shlex.quote, [*own, *given])])


def tensorboard(folder: Path) -> str:
    """Return the command that shows the runs below a folder in TensorBoard."""
    program = shutil.which("tensorboard")
    python = Path(sys.executable)
    if program is None or Path(program).parent != python.parent:
        program = _nearby(python.with_name("tensorboard"))
    else:
        program = "tensorboard"
    return f"{shlex.quote(program)} --logdir {shlex.quote(str(folder))}"


def remember_call(command: str, arguments: Sequence[str]) -> None:
    """Keep the call of this process for `this_call`, because Hydra gets other arguments."""
    _given[:] = [_start(command, program_name(command, sys.argv[0])), *arguments]


def this_call(changes: Mapping[str, Any] | None = None, *, without: Sequence[str] = ()) -> str:
    """Return the call of this process as the user typed it, with changed values of some keys.

    Args:
        changes: new values by key.
        without: keys that are left out.
    """
    changes = changes or {}
    program, *arguments = _given or ["the same command"]
    kept = [each for each in arguments if each.partition("=")[0] not in (*changes, *without)]
    new = [f"{key}={_value(value)}" for key, value in changes.items()]
    return " ".join([program, *map(shlex.quote, [*kept, *new])])


def _start(command: str, usual: str | None = None) -> str:
    program = Path(sys.argv[0]).name
    if program.startswith("mammo-"):
        return f"mammo-{command}"
    if usual is None:
        has_file = command in ("train", "sweep") and Path(f"{command}.py").is_file()
        usual = f"python {command}.py" if has_file else f"python -m mammo.{command}"
    return usual.replace("python", shlex.quote(_python()), 1) if usual.startswith("python ") else usual


def _python() -> str:
    """Return the name under which the shell finds this interpreter, or else its path."""
    folder = Path(sys.executable).parent
    for name in ("python", "python3"):
        found = shutil.which(name)
        if found is not None and Path(found).parent == folder:
            return name
    return _nearby(Path(sys.executable))


def _nearby(program: Path) -> str:
    """Return the path of a program, relative to the working folder if it is inside."""
    here = Path(os.getcwd())
    return str(program.relative_to(here) if program.is_relative_to(here) else program)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_value, value))}]"
    return quoted(str(value) if isinstance(value, Path) else value)
