"""The facts that a run folder records."""

import datetime
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import REPOSITORY

from mammo.errors import ConfigError
from mammo.runs import RunFolder, dated_folder, run_folder
from mammo.runs.run_lock import RunLock

GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with one commit that contains a single file."""
    (tmp_path / "file").write_text("")
    for command in (["init", "--quiet"], ["add", "file"], ["commit", "--quiet", "--message=first"]):
        subprocess.run([*GIT, *command], cwd=tmp_path, check=True)
    return tmp_path


def recorded(place: Path) -> str:
    """The commit that the package records if it is installed in `place`."""
    shutil.copytree(REPOSITORY / "mammo", place / "mammo", ignore=shutil.ignore_patterns("__pycache__"))
    return commit_in(place)


def commit_in(place: Path) -> str:
    code = "from mammo.runs import git_commit; print(git_commit())"
    environment = os.environ | {"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=place.anchor, env=environment, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


def test_commit_of_a_checkout(project: Path) -> None:
    (project / "conf").mkdir()
    assert recorded(project).endswith("-dirty")  # the package is not part of the commit
    for arguments in (["add", "mammo"], ["commit", "--quiet", "--message=second"]):
        subprocess.run([*GIT, *arguments], cwd=project, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=project, capture_output=True, text=True)
    assert commit_in(project) == head.stdout.strip()
    (project / "notes.txt").write_text("no code")
    assert commit_in(project) == head.stdout.strip()
    (project / "conf" / "own.yaml").write_text("lr: 0.1")
    assert commit_in(project) == f"{head.stdout.strip()}-dirty"


def test_an_environment_within_another_checkout_has_no_commit(project: Path) -> None:
    """Otherwise the commit of the user's project would be recorded as that of this code."""
    site = project / ".venv" / "site-packages"
    site.mkdir(parents=True)
    assert recorded(site) == "None"


class OneSecond(datetime.datetime):
    """A clock that does not move."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "OneSecond":
        return cls(2026, 1, 2, 3, 4, 5)


def make_folder(parent: Path) -> str:
    """The name of a new folder, with a file in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_folder.datetime, "datetime", OneSecond)
        with dated_folder("name", parent=parent) as folder:
            (folder / "run.json").write_text("{}")
    return folder.name


def test_the_name_of_a_network_makes_no_folder_of_its_own(tmp_path: Path) -> None:
    with dated_folder("phantom-hub/net", parent=tmp_path) as folder:
        assert folder.parent == tmp_path
        assert folder.name.endswith("-phantom-hub-net")


def test_processes_of_the_same_second_get_folders_of_their_own(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as processes:
        names = processes.map(make_folder, [tmp_path] * 12, chunksize=1)
    first = "20260102-030405-name"
    assert sorted(names) == sorted([first, *(f"{first}-{number}" for number in range(2, 13))])


def test_the_folder_of_a_slurm_job_has_its_id_and_an_empty_one_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with dated_folder("name", parent=tmp_path / "runs") as job:
        assert job.is_dir()
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    with dated_folder("name", parent=tmp_path / "runs") as task:
        pass
    assert re.fullmatch(r"\d{8}-\d{6}-name-7", job.name)
    assert re.fullmatch(r"\d{8}-\d{6}-name-5_2", task.name)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "variables", [{"LOCAL_RANK": "1"}, {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}]
)
def test_only_the_first_process_of_a_training_makes_a_folder(
    variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with dated_folder("name", parent=tmp_path) as folder:
        assert not folder.exists()


def test_the_second_process_with_the_same_run_dir_is_refused_before_it_writes(tmp_path: Path) -> None:
    settings = {"config": {"seed": 1}, "overrides": ["seed=1"]}
    with RunLock(tmp_path / "run") as first, RunLock(tmp_path / "run") as second:
        (tmp_path / "run").mkdir()
        first.acquire()
        with pytest.raises(ConfigError, match="still running on"):
            RunFolder.create(tmp_path / "run", **settings, lock=second)
        assert not RunFolder(tmp_path / "run").facts()
    RunFolder.create(tmp_path / "run", **settings)
    with pytest.raises(
        ConfigError, match="holds a run already; give another folder, or remove it, or add res"
    ):
        RunFolder.create(tmp_path / "run", **settings)
