"""The project's commands as a user gives them: `python train.py ...`, `python -m mammo.evaluate ...`."""

import atexit
import multiprocessing
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
COMMANDS = [
    "train",
    "sweep",
    "audit",
    "prepare",
    "evaluate",
    "compare",
    "predict",
    "export",
    "bench",
    "simulate",
]

# Each command runs in its own process, forked from a server that has imported PyTorch and the other slow
# modules and has run nothing.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["mammo.evaluation.training_run", "mammo.evaluation.run_evaluation"])


def line(door: str, *arguments: str) -> list[str]:
    """The whole command line, including the interpreter.

    Args:
        door: `train`, `sweep`, or a module of `mammo`.
        arguments: arguments of the command.
    """
    program = [str(REPOSITORY / f"{door}.py")] if door in ("train", "sweep") else ["-m", f"mammo.{door}"]
    return [sys.executable, *program, *arguments]


def copy_of_the_clone(place: Path) -> Path:
    """A folder in `place` with the package, `conf` and `train.py`, which a test may edit."""
    clone = place / "clone"
    for name in ("mammo", "conf"):
        shutil.copytree(REPOSITORY / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "train.py", clone)
    return clone


def command(door: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, without the time for its imports.

    Args:
        door: see `line`.
        arguments: arguments of the command.
        folder: the working folder.
    """
    whole = line(door, *arguments)
    with tempfile.TemporaryDirectory() as streams:
        files = [Path(streams) / name for name in ("out", "err")]
        process = _SERVER.Process(target=_run, args=(whole[1:], folder, dict(os.environ), files))
        process.start()
        process.join(timeout=600)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(whole, 600)
        return subprocess.CompletedProcess(whole, process.exitcode, *(file.read_text() for file in files))


def _run(program: list[str], folder: Path, environment: dict[str, str], streams: list[Path]) -> None:
    for number, file in enumerate(streams, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    try:
        if program[0] == "-m":
            sys.argv = program[1:]
            sys.path.insert(0, str(folder))
            runpy.run_module(program[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = program
            sys.path.insert(0, str(Path(program[0]).parent))
            runpy.run_path(program[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # multiprocessing does not call these
