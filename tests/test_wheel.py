"""The package installed from its wheel and used in an empty folder outside the checkout."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from helpers.commands import COMMANDS, REPOSITORY

import mammo

pytestmark = pytest.mark.slow

SMALL = ["data.patients=20", "data.height=64", "data.width=48", "model=custom_cnn", "trainer=cpu"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with only the wheel and the dependencies of the tests' environment."""
    folder = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(REPOSITORY)], check=True, timeout=300)
    (wheel,) = folder.glob("mammo-*.whl")
    environment = folder / "environment"
    venv.create(environment, symlinks=True)
    (site,) = environment.glob("lib/python*/site-packages")
    # Python ignores .pth files in a folder that a .pth file adds, so the editable install is not found
    dependencies = Path(pytest.__file__).parents[1]
    (site / "dependencies.pth").write_text(f"{dependencies}\n")
    python = environment / "bin" / "python"
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
    ]
    subprocess.run([*install, "--no-deps", "--force-reinstall", str(wheel)], check=True, timeout=300)
    return environment / "bin"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder."""
    return tmp_path_factory.mktemp("empty")


def run(*line: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        list(map(str, line)), cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )


def test_every_command_is_there_under_both_names(installed: Path, folder: Path) -> None:
    where = run(installed / "python", "-c", "import mammo; print(mammo.__file__)", folder=folder)
    assert Path(where.stdout.strip()).is_relative_to(installed.parent)
    for command in COMMANDS:
        script = run(installed / f"mammo-{command}", "--version", folder=folder)
        assert script.stdout == f"mammo {mammo.__version__}\n", script.stderr
        module = run(installed / "python", "-m", f"mammo.{command}", "--version", folder=folder)
        assert module.stdout == script.stdout, module.stderr


def test_the_commands_work_one_after_the_other(installed: Path, folder: Path) -> None:
    def succeeds(command: str, *arguments: str) -> str:
        result = run(installed / f"mammo-{command}", *arguments, folder=folder)
        assert result.returncode == 0, result.stderr
        return result.stdout

    data = [*SMALL[:3], "data.masks=true"]
    assert "patients" in succeeds("audit", *data)
    succeeds("prepare", *data)
    assert "validation AUC" in succeeds("train", *SMALL, "trainer.max_epochs=1", "run_dir=runs/a")
    assert (folder / "runs/a/evaluation/val/report.html").is_file()
    assert "written to" in succeeds("evaluate", "run=runs/a", "split=test", "heatmap=none")
    shutil.copytree(folder / "runs/a", folder / "runs/b")
    succeeds("compare", "runs=[runs/a,runs/b]", "output=comparison")
    assert (folder / "comparison/compare.html").is_file()
    film = next(folder.glob("cache/**/*.dcm"))
    succeeds("predict", "run=runs/a", f"input={film}", "output=scores.csv", "workers=0")
    assert (folder / "scores.csv").is_file()
    succeeds("export", "run=runs/a", "format=safetensors", "output=model.safetensors")
    assert (folder / "model.safetensors").is_file()
    search = ["sweep=lr", "sweep.budget.trials=1", "sweep.workers=1", "sweep.pruner.name=none"]
    succeeds("sweep", *search, "sweep_dir=sweep", "trainer.max_epochs=1", "report=false", *SMALL)
    assert (folder / "sweep/leaderboard.csv").is_file()
    assert not (folder / "sweep/code/mammo/conf").exists()  # it would hide `code/conf`
    succeeds("simulate", "study=folds", "replicates=1")
    succeeds("bench", "stage=loader", "repeats=1", "batches=2", "steps=1", "warmup=1", *SMALL[:3])


def test_own_groups_are_added(installed: Path, folder: Path) -> None:
    own = folder / "my_conf" / "model"
    own.mkdir(parents=True)
    (own / "small_cnn.yaml").write_text("defaults: [custom_cnn]\ndropout: 0.3\n")
    line = [installed / "mammo-train", "--config-dir", "my_conf", "model=small_cnn", "--cfg", "job"]
    result = run(*line, folder=folder)
    assert "dropout: 0.3" in result.stdout, result.stderr
