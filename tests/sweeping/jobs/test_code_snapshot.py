"""The copy of the code and of the user's modules that jobs import."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import REPOSITORY, copy_of_the_clone

from mammo.sweeping.jobs.code_snapshot import import_path


def python(place: Path, *arguments: str, path: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=place, env=environment, capture_output=True, text=True, timeout=60
    )


def frozen(place: Path) -> Path:
    """A sweep in the working directory `place`, with the copy of the code."""
    (place / "sweep").mkdir()
    begin = "import pathlib, mammo.sweeping.jobs.code_snapshot as code; code.freeze(pathlib.Path('sweep'))"
    ended = python(place, "-c", begin, path=os.environ.get("PYTHONPATH", str(REPOSITORY)))
    assert ended.returncode == 0, ended.stderr
    return place / "sweep"


def test_jobs_import_the_copies_of_the_package_and_of_own_modules(tmp_path: Path) -> None:
    clone = copy_of_the_clone(tmp_path)
    (clone / "my_network").mkdir()
    own = [clone / "my_loss.py", clone / "my_network" / "__init__.py", clone / "my_network" / "layers.py"]
    for file in own:
        file.write_text("value = 'submitted'\n")
    # not modules of the user: a data folder, and names of Python's library and of an installed package
    (clone / "data").mkdir()
    for name in ("data/convert.py", "random.py", "torch.py"):
        (clone / name).write_text("raise RuntimeError('hides another module')\n")
    sweep = frozen(clone)
    for file in [*own, clone / "mammo" / "__init__.py"]:
        file.write_text("raise RuntimeError('edited')\n")
    ask = (
        "import mammo, random, my_loss as m, my_network.layers as n; print(mammo.__file__, m.value, n.value)"
    )
    ended = python(clone, "-c", ask, path=import_path(sweep / "code"))
    assert ended.stdout.split() == [str(sweep / "code" / "mammo" / "__init__.py"), "submitted", "submitted"]
    copied = {path.name for path in (sweep / "code" / "own").iterdir()} - {"__pycache__"}
    assert copied == {"my_loss.py", "my_network"}


@pytest.mark.parametrize("module", ["jobs.training_job", "search_worker"])
def test_a_job_that_imports_other_code_refuses_to_start(module: str, tmp_path: Path) -> None:
    sweep = frozen(tmp_path)
    ended = python(tmp_path, "-m", f"mammo.sweeping.{module}", str(sweep), "0", path=str(REPOSITORY))
    assert ended.returncode == 1
    places = f"{REPOSITORY / 'mammo'}, not from {sweep / 'code' / 'mammo'}"
    assert ended.stderr.startswith(
        f"error: the job imports mammo from {places}, the copy of its submission; "
    )
    assert len(ended.stderr.splitlines()) == 1
