"""`python train.py -m ...` on this machine, by real commands."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import Popen
from typing import Any

import pandas as pd
import pytest
import yaml
from helpers.commands import REPOSITORY, copy_of_the_clone, line
from helpers.fork_server import ForkedPython

from mammo.runs.code_version import file_digest, folder_digest
from mammo.sweeping.jobs.multirun import Multirun

SMALL = (
    "model=custom_cnn", "data.patients=24", "data.height=64", "data.width=48", "report=false",
    "trainer.max_epochs=2",
)  # fmt: skip


def command(*arguments: str, code: Path = REPOSITORY) -> list[str]:
    return [sys.executable, str(code / "train.py"), "-m", *SMALL, "hydra.sweep.dir=sweep", *arguments]


def run(
    folder: Path, *arguments: str, popen: type[Popen] = ForkedPython, **options: Any
) -> subprocess.CompletedProcess[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with popen(command(*arguments), cwd=folder, **pipes | options) as process:
        out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def facts(job: Path) -> dict[str, object]:
    return dict(json.loads((job / "run.json").read_text()))


def wait_for(path: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.05)


@pytest.fixture
def folder(tmp_path: Path, shared_cache: Path) -> Path:
    """A working folder whose phantom and store are shared with other tests."""
    (tmp_path / "cache").symlink_to(shared_cache)
    return tmp_path


@pytest.mark.slow
def test_jobs_side_by_side_share_store_and_cores_and_a_failed_one_stays_alone(tmp_path: Path) -> None:
    # new interpreters, which choose their number of threads
    settings = ("optim.lr=1e-3,1e30,1e-4", "trainer.gradient_clip_val=null", "hydra.launcher.n=2")
    ended = run(tmp_path, *settings, popen=subprocess.Popen)
    assert ended.returncode == 1
    assert "error: 1 of 3 jobs failed, see sweep/summary.csv" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert re.search(r"^ *1 +failed +optim.lr=1e\+30 +the loss is nan in epoch 1", ended.stdout, re.MULTILINE)
    summary = pd.read_csv(tmp_path / "sweep" / "summary.csv")
    assert summary["status"].tolist() == ["finished", "failed", "finished"]
    assert summary["settings"].tolist() == ["optim.lr=0.001", "optim.lr=1e+30", "optim.lr=0.0001"]
    assert summary["low"].notna().tolist() == [True, False, True]
    failed = tmp_path / "sweep" / "1-phantom-custom_cnn"
    assert "in _check" in (failed / "traceback.txt").read_text()
    assert summary["traceback"][1] == (failed / "traceback.txt").read_text()
    for number in (0, 2):
        job = facts(tmp_path / "sweep" / f"{number}-phantom-custom_cnn")
        assert job["part_of"] == str(tmp_path / "sweep")
        assert f"optim.lr={[1e-3, 0, 1e-4][number]}" in job["overrides"]  # type: ignore[operator]
        cores = len(os.sched_getaffinity(0))
        assert f"CPU, {max(1, cores // 2)} threads" in str(job["device"])
    assert ended.stderr.count("preparing: 52 of 52") == 1
    assert Multirun(tmp_path / "sweep").searched() == ["optim.lr"]
    compared = line("compare", "runs=sweep", "output=compare")
    with ForkedPython(compared, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as comparing:
        told, _ = comparing.communicate(timeout=100)
    assert comparing.returncode == 0
    rows = [row.split()[0] for row in told.splitlines()[1:3]]
    assert rows == ["lr=0.001", "lr=0.0001"]  # the finished ones, labelled by what differs
    leaderboard = pd.read_csv(tmp_path / "sweep" / "leaderboard.csv")
    assert leaderboard["state"].tolist() == ["finished", "finished", "failed"]
    best = yaml.safe_load((tmp_path / "sweep" / "experiment" / "best.yaml").read_text())
    assert best["optim"]["lr"] == leaderboard["optim.lr"][0]
    assert "-m mammo.compare runs=sweep split=val" in ended.stdout
    assert "preparing" not in (tmp_path / "sweep" / "jobs" / "0.log").read_text()


@pytest.mark.slow
def test_a_killed_job_is_told_and_goes_on_when_the_command_is_given_again(folder: Path) -> None:
    settings = ("seed=0,1", "trainer.max_epochs=40", "hydra.launcher.n=1")
    sweep = ForkedPython(command(*settings), cwd=folder, stderr=subprocess.PIPE, text=True)
    wait_for(folder / "sweep" / "0-phantom-custom_cnn" / "checkpoints" / "previous.ckpt")
    [writer] = (folder / "sweep" / "0-phantom-custom_cnn" / ".writer").glob("[0-9]*")
    os.kill(json.loads(writer.read_text())["pid"], signal.SIGKILL)
    _, told = sweep.communicate(timeout=200)
    assert sweep.returncode == 1
    assert "job 0 (seed=0): failed: its process ended with code -9, see sweep/jobs/0.log" in told
    assert re.search(
        r"^job 1 \(seed=1\): validation AUC 0\.\d{3}, 95 % interval 0\.\d{3} to ", told, re.MULTILINE
    )
    again = run(folder, *settings)
    assert again.returncode == 0, again.stderr
    assert "1 of 2 jobs to run" in again.stderr
    assert facts(folder / "sweep" / "0-phantom-custom_cnn")["resumed"] == 1
    other = run(folder, "seed=0,2", "trainer.max_epochs=40")
    assert other.returncode == 1
    assert "hydra.sweep.dir=sweep: holds another multirun, whose job 1 is" in other.stderr


@pytest.mark.slow
def test_a_command_given_again_attaches_to_running_jobs(folder: Path) -> None:
    settings = ("seed=0,1", "trainer.max_epochs=30", "hydra.launcher.n=1")
    first = ForkedPython(command(*settings), cwd=folder, stderr=subprocess.DEVNULL)
    running = folder / "sweep" / "0-phantom-custom_cnn"
    wait_for(running / "metrics.csv")
    [writer] = (running / ".writer").glob("[0-9]*")
    process = json.loads(writer.read_text())["pid"]
    os.kill(process, signal.SIGSTOP)  # so that it does not end before the next command
    first.kill()  # its job goes on
    first.wait()
    again = ForkedPython(command(*settings), cwd=folder, stderr=subprocess.PIPE, text=True)
    assert again.stderr is not None
    attached = again.stderr.readline()
    os.kill(process, signal.SIGCONT)
    wait_for(folder / "sweep" / "jobs" / "1.log")
    third = run(folder, *settings)
    _, told = again.communicate(timeout=200)
    assert (again.returncode, third.returncode) == (0, 0), told + third.stderr
    assert attached == "1 of 2 jobs to run, 1 are running or queued, in sweep\n", told
    assert "another command runs these jobs; this one shows their progress" in third.stderr
    assert "0 of 2 jobs to run, in sweep" in third.stderr
    for number in (0, 1):
        job = folder / "sweep" / f"{number}-phantom-custom_cnn"
        assert pd.read_csv(job / "metrics.csv")["epoch"].tolist() == list(range(1, 31))
        assert "resumed" not in facts(job)


def cmdline(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.slow
def test_waiting_jobs_of_a_command_in_the_clone_run_the_code_of_their_submission(folder: Path) -> None:
    clone = copy_of_the_clone(folder)
    arguments = command("seed=0,1", "hydra.launcher.n=1", "optim.lr=1e-3", code=clone)
    path = {"PYTHONPATH": str(clone)}
    sweep = ForkedPython(arguments, cwd=clone, env=os.environ | path, stderr=subprocess.PIPE, text=True)
    wait_for(clone / "sweep" / "jobs" / "0.log")
    before = folder_digest(clone / "mammo")
    (clone / "mammo" / "training" / "fit.py").write_text("raise RuntimeError('edited')\n")
    trainer = clone / "conf" / "trainer" / "auto.yaml"
    trainer.write_text(trainer.read_text().replace("gradient_clip_val: 1.0", "gradient_clip_val: 9.0"))
    _, told = sweep.communicate(timeout=200)
    assert sweep.returncode == 0, told
    for number in (0, 1):
        job = clone / "sweep" / f"{number}-phantom-custom_cnn"
        assert "gradient_clip_val: 1.0" in (job / "config.yaml").read_text()
        [code] = facts(job)["code"]  # type: ignore[misc]
        assert code["sha256"] == before != folder_digest(clone / "mammo")
        assert facts(job)["config_sha256"] == file_digest(job / "config.yaml")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        (["run_dir=x"], "run_dir=x: is for a single run; give hydra.sweep.dir=... with -m"),
        (["optim.lrr=1,2"], "optim.lrr=1: no such key; did you mean optim.lr?"),
        (["data.height=64,4"], "data.height=4: must be at least 16"),
        (["hydra/launcher=slurm"], "hydra/launcher=slurm: there is no sbatch on this machine"),
        (["hydra/launcher=submitit_slurm"], "hydra/launcher=slurm: there is no sbatch on this machine"),
        (["hydra/launcher=joblib"], "hydra/launcher=joblib: give hydra/launcher=local"),
        (["hydra/launcher=slurm", "hydra.launcher.partion=gpu"], "hydra.launcher.partion=gpu: no such key"),
        (
            ["hydra.sweep.subdir=same", "seed=0,1"],
            "hydra.sweep.subdir=same: jobs 0 and 1 would write to the same folder; "
            "give a name with ${hydra.job.num}",
        ),
        (
            ["model=timm", "model.name=resnet18,convnext_atoo"],
            "model.name=convnext_atoo: timm has no such network; did you mean",
        ),
        (["hydra.sweep.dir=file/sweep"], "file/sweep: Not a directory"),
    ],
)
def test_a_mistake_is_told_before_any_job_begins(mistake: list[str], sentence: str, folder: Path) -> None:
    (folder / "file").write_text("")
    path = str(Path(sys.executable).parent)  # a PATH without Slurm
    ended = run(folder, *mistake, env=os.environ | {"PATH": path})
    assert ended.returncode == 1
    assert f"error: {sentence}" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not [*folder.glob("sweep/jobs"), *folder.glob("sweep/multirun.json")]


@pytest.mark.slow
def test_choices_of_ones_own_are_frozen_too(folder: Path) -> None:
    own = folder / "own" / "experiment" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("# @package _global_\noptim:\n  lr: 0.0123\n")
    arguments = command("experiment=mine", "seed=0", "hydra/launcher=basic")
    arguments[3:3] = ["--config-dir", "own"]  # options come before overrides
    sweep = ForkedPython(arguments, cwd=folder, stderr=subprocess.PIPE, text=True)
    wait_for(folder / "sweep" / "jobs" / "0.log")
    own.unlink()
    _, told = sweep.communicate(timeout=200)
    assert sweep.returncode == 0, told
    assert "lr: 0.0123" in (folder / "sweep" / "0-phantom-custom_cnn" / "config.yaml").read_text()
