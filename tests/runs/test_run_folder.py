"""The facts that a run folder records."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import REPOSITORY

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
    code = "from mammo.runs import git_commit; print(git_commit())"
    environment = os.environ | {"PYTHONPATH": str(place)}
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=place.anchor, env=environment, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


def test_commit_of_a_checkout(project: Path) -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=project, capture_output=True, text=True)
    assert recorded(project) == head.stdout.strip()


def test_an_environment_within_another_checkout_has_no_commit(project: Path) -> None:
    """Otherwise the commit of the user's project would be recorded as that of this code."""
    site = project / ".venv" / "site-packages"
    site.mkdir(parents=True)
    assert recorded(site) == "None"
