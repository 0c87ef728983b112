"""`python train.py -m ... hydra/launcher=slurm` on a real Slurm, by real commands."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from helpers.commands import REPOSITORY, command, copy_of_the_clone
from helpers.fork_server import ForkedPython
from helpers.own_parts import write_images, write_page_files
from helpers.slurm_cluster import Slurm

SMALL = ["model=custom_cnn", "data.patients=24", "data.height=64", "data.width=48", "report=false"]
SLURM = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.sweep.dir=sweep"]


class Multirun:
    """A running `train.py -m` with its own folder.

    Args:
        slurm: the cluster.
        place: working folder.
        arguments: arguments in addition to SLURM.
        code: folder that contains `train.py`.
    """

    def __init__(self, slurm: Slurm, place: Path, *arguments: str, code: Path = REPOSITORY) -> None:
        self.slurm = slurm
        self.folder = place / "sweep"
        self._told = place / "told.txt"
        with self._told.open("w") as told:
            self.process = ForkedPython(
                [sys.executable, str(code / "train.py"), "-m", *arguments, *SLURM],
                cwd=place,
                env=slurm.environment | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(code)},
                stdout=subprocess.DEVNULL,
                stderr=told,
            )

    @property
    def told(self) -> str:
        return self._told.read_text()

    def end(self, seconds: float = 200) -> int:
        """Waits for the end and returns the exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            pytest.fail(f"not within {seconds} s\n{self.told}\n{self.slurm.run('squeue')}")

    def ids(self) -> list[str]:
        """Slurm ids of the jobs, in order."""
        self.wait_for(lambda: "Slurm jobs " in self.told)
        [ids] = re.findall("^Slurm jobs (.*)\n", self.told, re.MULTILINE)
        return str(ids).split(", ")

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Waits until the condition holds; fails if the parent ends first."""
        self.slurm.wait_for(lambda: condition() or self.process.poll() is not None, 150)
        assert condition(), self.told

    def job(self, number: int) -> Path:
        """The run folder of a job."""
        [folder] = self.folder.glob(f"{number}-*")
        return folder

    def epochs(self, number: int) -> int:
        """Number of epochs that a job has trained."""
        return sum(
            len(file.read_text().splitlines()) - 1 for file in self.folder.glob(f"{number}-*/metrics.csv")
        )

    def log(self, number: int) -> str:
        """What the processes of a job have printed."""
        [folder] = (self.folder / "jobs").glob(f"*_{number}")
        return "".join(file.read_text() for file in folder.glob("*_log.*"))


def train(slurm: Slurm, place: Path, *arguments: str) -> None:
    """Trains a single run without Slurm."""
    environment = slurm.environment | {"OMP_NUM_THREADS": "1"}
    command("train", *arguments, folder=place, env=environment, timeout=200).check_returncode()


def facts(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "run.json").read_text()))


def weights(run: Path, name: str) -> dict[str, torch.Tensor]:
    return dict(torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"])


def rows_of(run: Path) -> list[list[str]]:
    """Rows of `metrics.csv`."""
    with (run / "metrics.csv").open() as file:
        return list(csv.reader(file))[1:]


def curves(run: Path) -> list[list[float]]:
    """Loss, AUC and accuracy in training and validation, and learning rate of each epoch."""
    return [[float(value) for value in row[1:8]] for row in rows_of(run)]


@dataclass(frozen=True)
class Disturbed:
    """Four jobs, each on its own node: one is preempted, one requeued, one loses its node, one fails."""

    multirun: Multirun
    ids: list[str]
    code: int  # exit code
    quiet: Path  # a single run, equal to the first three without interruption


@pytest.fixture(scope="module")
def disturbed(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Disturbed:
    place = tmp_path_factory.mktemp("disturbed")
    settings = [*SMALL, "trainer.max_epochs=50", "trainer.gradient_clip_val=null"]
    multirun = Multirun(slurm, place, *settings, "optim.lr=1e-3,1e-3,1e-3,1e30")
    ids = multirun.ids()
    multirun.wait_for(lambda: all(multirun.epochs(number) > 5 for number in range(3)))
    nodes = {row["id"]: row["node"] for row in slurm.squeue()}
    slurm.scancel_signal(f"{ids[0]}.0")
    slurm.requeue(ids[1])
    slurm.kill_node(nodes[ids[2]])
    try:
        train(slurm, place, *settings, "optim.lr=1e-3", "run_dir=quiet")
        code = multirun.end()
    finally:
        slurm.start_node(nodes[ids[2]])
    return Disturbed(multirun, ids, code, place / "quiet")


@pytest.mark.parametrize(
    ("number", "state"),
    [(0, "REQUEUED"), (1, "REQUEUED"), (2, "NODE_FAIL")],
    ids=["USR2", "requeue", "node lost"],
)
def test_a_disturbed_job_ends_as_if_nothing_had_been(disturbed: Disturbed, number: int, state: str) -> None:
    """The results are equal bit for bit."""
    run, quiet = disturbed.multirun.job(number), disturbed.quiet
    assert disturbed.multirun.slurm.states(disturbed.ids[number]) == [state, "COMPLETED"]
    assert (facts(run)["status"], facts(run)["resumed"]) == ("finished", 1)
    assert "resumed" not in facts(quiet)
    for name in ("last", "best"):
        mine, its = weights(run, name), weights(quiet, name)
        assert mine.keys() == its.keys()
        assert [key for key in its if not torch.equal(mine[key], its[key])] == []
    assert curves(run) == curves(quiet)
    predictions = Path("evaluation", "val", "predictions.csv")
    assert (run / predictions).read_bytes() == (quiet / predictions).read_bytes()
    assert f"resumes from {run}/checkpoints/" in disturbed.multirun.log(number)


def test_a_failed_job_stays_alone_and_says_why(disturbed: Disturbed) -> None:
    multirun = disturbed.multirun
    assert disturbed.code == 1
    assert "error: 1 of 4 jobs failed, see sweep/summary.csv" in multirun.told
    assert "Traceback" not in multirun.told
    assert multirun.slurm.states(disturbed.ids[3]) == ["FAILED"]
    summary = pd.read_csv(multirun.folder / "summary.csv")
    assert summary["status"].tolist() == [*3 * ["finished"], "failed"]
    assert summary["auc"].notna().tolist() == [*3 * [True], False]
    traceback = (multirun.job(3) / "traceback.txt").read_text()
    assert traceback.splitlines()[-1].startswith(
        "mammo.errors.DataError: the loss is nan in epoch 1, batch 2"
    )
    assert summary["traceback"].tolist()[3] == traceback
    assert facts(multirun.job(3))["status"] == "failed"
    assert not any((multirun.job(number) / "traceback.txt").exists() for number in range(3))


def test_jobs_belong_to_their_multirun_and_share_a_store(disturbed: Disturbed) -> None:
    multirun = disturbed.multirun
    for number, lr in enumerate([*3 * ["0.001"], "1e+30"]):
        job = facts(multirun.job(number))
        assert job["part_of"] == str(multirun.folder)
        assert {f"optim.lr={lr}", "trainer.max_epochs=50"} <= set(job["overrides"])
        assert job["device"].startswith("CPU, 1 threads")
        assert "preparing" not in multirun.log(number)
    assert multirun.told.count("preparing: 52 of 52") == 1


@dataclass(frozen=True)
class Abandoned:
    """Two jobs, one at a time, submitted in a clone of the code.

    While one waits, code and config of the clone are edited and the parent is interrupted.
    """

    multirun: Multirun
    ids: list[str]
    code: int  # exit code of the parent
    told: str
    told_again: str  # by the same command, given while the jobs wait and run


LONG_ENOUGH = "trainer.max_epochs=40"  # that the first job still runs when the command is given again


@pytest.fixture(scope="module")
def abandoned(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Abandoned:
    code = copy_of_the_clone(tmp_path_factory.mktemp("abandoned"))
    (code / "cache").symlink_to(shared_cache)
    launcher = ["hydra.launcher.array_parallelism=1", "hydra.launcher.additional_parameters={mail-type: END}"]
    settings = [*SMALL, LONG_ENOUGH, "seed=0,1", *launcher]
    multirun = Multirun(slurm, code, *settings, code=code)
    ids = multirun.ids()
    multirun.wait_for(lambda: slurm.state(ids[0]) == "RUNNING")
    (code / "mammo" / "training" / "fit.py").write_text("raise RuntimeError('edited')\n")
    trainer = code / "conf" / "trainer" / "auto.yaml"
    trainer.write_text(trainer.read_text().replace("gradient_clip_val: 1.0", "gradient_clip_val: 9.0"))
    assert any(row["state"] == "PENDING" for row in slurm.squeue(ids[0].partition("_")[0]))
    multirun.process.send_signal(signal.SIGINT)
    ended, told = multirun.end(20), multirun.told
    assert slurm.squeue(ids[0].partition("_")[0])
    again = Multirun(slurm, code, *settings, code=code)
    assert again.end() == 0, again.told
    return Abandoned(multirun, ids, ended, told, again.told)


def test_code_and_config_of_queued_jobs_are_those_of_their_submission(abandoned: Abandoned) -> None:
    for number in range(2):
        run = abandoned.multirun.job(number)
        assert facts(run)["status"] == "finished"
        assert "gradient_clip_val: 1.0" in (run / "config.yaml").read_text()


def test_a_command_given_again_attaches_to_the_queued_jobs(abandoned: Abandoned) -> None:
    told = abandoned.told_again
    assert "0 of 2 jobs to run, 2 are running or queued" in told
    assert re.search(
        r"^1 waiting \(1 for JobArrayTaskLimit\), 1 running \(job 0 seed=0: ", told, re.MULTILINE
    )
    assert re.search(r"^job 1 \(seed=1\): validation AUC 0\.\d{3}", told, re.MULTILINE)
    assert "Slurm jobs" not in told
    for number in range(2):
        assert "resumed" not in facts(abandoned.multirun.job(number))
        epochs = [int(row[0]) for row in rows_of(abandoned.multirun.job(number))]
        assert epochs == list(range(1, 1 + len(epochs)))
        assert f"trainer.max_epochs={len(epochs)}" == LONG_ENOUGH


def test_interrupted_parent_leaves_the_jobs_and_names_them(abandoned: Abandoned) -> None:
    assert abandoned.code == 130
    sentence = f"the jobs continue in Slurm; to cancel them: scancel {' '.join(abandoned.ids)}"
    assert abandoned.told.splitlines()[-1] == sentence
    assert "Traceback" not in abandoned.told
    multirun = abandoned.multirun
    assert [multirun.slurm.states(job) for job in abandoned.ids] == [["COMPLETED"], ["COMPLETED"]]
    written = (multirun.job(1) / "run.json").read_bytes()
    again = Multirun(multirun.slurm, multirun.folder.parent, *SMALL, LONG_ENOUGH, "seed=0,1")
    assert again.end() == 0, again.told
    assert "0 of 2 jobs to run" in again.told
    assert "Slurm jobs" not in again.told
    assert (multirun.job(1) / "run.json").read_bytes() == written
    assert pd.read_csv(multirun.folder / "summary.csv")["status"].tolist() == ["finished", "finished"]


@pytest.mark.parametrize(
    ("mistake", "reason"),
    [
        ("hydra.launcher.partition=nowhere", "Invalid partition name specified"),
        ("hydra.launcher.constraint=nothing", "Invalid feature specification"),
    ],
)
def test_what_slurm_refuses_is_told_in_one_sentence(
    mistake: str, reason: str, slurm: Slurm, tmp_path: Path, shared_cache: Path
) -> None:
    (tmp_path / "cache").symlink_to(shared_cache)
    before = slurm.run("sacct", "--allocations", "--noheader")
    multirun = Multirun(slurm, tmp_path, *SMALL, "seed=0,1", mistake)
    assert multirun.end() == 1
    told = multirun.told.splitlines()
    assert told[-1].startswith("error: hydra/launcher=slurm: Slurm refuses the jobs: ")
    assert told[-1].endswith(f"{reason}; change {mistake}")
    assert not [line for line in told[:-1] if not line.startswith(("preparing", "2 of 2 jobs to run"))]
    assert slurm.run("sacct", "--allocations", "--noheader") == before


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            ["hydra.launcher.partition=short"],
            "the time limit is above that of the partition (PartitionTimeLimit); change "
            "hydra.launcher.timeout_min=1440 or hydra.launcher.partition=short; the jobs are cancelled",
        ),
        (
            ["hydra.launcher.nodes=9"],
            "the partition has not so many nodes for a job (PartitionNodeLimit); change "
            "hydra.launcher.nodes=9 or hydra.launcher.partition=null; the jobs are cancelled",
        ),
    ],
    ids=["time", "nodes"],
)
def test_jobs_that_can_never_start_are_cancelled_with_the_key_to_change(
    settings: list[str], reason: str, slurm: Slurm, tmp_path: Path, shared_cache: Path
) -> None:
    (tmp_path / "cache").symlink_to(shared_cache)
    multirun = Multirun(slurm, tmp_path, *SMALL, "seed=0,1", *settings)
    assert multirun.end() == 1
    sentence = f"error: hydra/launcher=slurm: the jobs can never start, because {reason}"
    assert multirun.told.splitlines()[-1] == sentence
    array = multirun.ids()[0].partition("_")[0]
    assert set(slurm.states(array)) == {"CANCELLED by 0"}


def test_killed_and_cancelled_jobs_are_told_apart(slurm: Slurm, tmp_path: Path, shared_cache: Path) -> None:
    (tmp_path / "cache").symlink_to(shared_cache)
    multirun = Multirun(slurm, tmp_path, *SMALL, "seed=0,1", "trainer.max_epochs=1000")
    cancelled, killed = multirun.ids()
    multirun.wait_for(lambda: multirun.epochs(1) > 1)
    writer = max((multirun.job(1) / ".writer").iterdir(), key=lambda file: int(file.name))
    slurm.run("scancel", cancelled)
    os.kill(json.loads(writer.read_text())["pid"], signal.SIGKILL)
    assert multirun.end() == 1
    assert f"job 0 (seed=0): failed: Slurm job {cancelled}: cancelled by root, see " in multirun.told
    assert f"job 1 (seed=1): failed: Slurm job {killed}: killed by signal 9, see " in multirun.told


def test_two_nodes_train_as_one_process_does_and_go_on_after_preemption(
    slurm: Slurm, tmp_path: Path, shared_cache: Path
) -> None:
    (tmp_path / "cache").symlink_to(shared_cache)
    settings = [  # without batch normalisation, whose batches differ in two processes
        "data.patients=20", "data.height=64", "data.width=48", "data.batch_size=12", "report=false",
        "model=timm", "model.name=test_convnext", "optim=sgd", "optim.lr=0.01", "trainer.precision=32-true",
        "trainer.max_epochs=8",
    ]  # fmt: skip
    nodes = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=1", "trainer.num_nodes=2"]
    address = "hydra.launcher.setup=['export MASTER_ADDR=127.0.0.1']"  # no name server can resolve node1
    multirun = Multirun(slurm, tmp_path, *settings, *nodes, address)
    [job] = multirun.ids()
    multirun.wait_for(lambda: multirun.epochs(0) > 1)
    assert slurm.squeue(job)[0]["node"] == "node[1-2]"
    slurm.scancel_signal(f"{job}.0")
    train(slurm, tmp_path, *settings, "trainer=cpu", "run_dir=alone")
    assert multirun.end() == 0, multirun.told
    assert slurm.states(job) == ["REQUEUED", "COMPLETED"]
    run, alone = multirun.job(0), tmp_path / "alone"
    told = facts(run)
    assert (told["status"], told["device"]) == ("finished", "2 processes, CPU, float32")
    assert told["resumed"] == 1
    assert curves(run) == [pytest.approx(row, abs=1e-5) for row in curves(alone)]
    assert told["score"] == pytest.approx(facts(alone)["score"], nan_ok=True)
    for name in ("last", "best"):
        torch.testing.assert_close(weights(run, name), weights(alone, name), rtol=1e-4, atol=1e-5)
    assert not (run / "traceback.txt").exists()


def test_jobs_use_the_own_parts_as_they_were_at_submission(slurm: Slurm, tmp_path: Path) -> None:
    """Network, loss of two terms, optimiser of PyTorch, schedule, callback, data set and augmentation."""
    write_page_files(tmp_path)
    write_images(tmp_path / "images")
    own = ["model=tiny", "loss=two_terms", "optim=radam", "schedule=exponential", "callbacks=say"]
    own += ["data=folders", "data.root=images", "augment=affine", "trainer.max_epochs=2", "report=false"]
    multirun = Multirun(slurm, tmp_path, "--config-dir", "my_conf", *own, "model.width=4,8")
    multirun.ids()
    (tmp_path / "my_parts.py").write_text("raise RuntimeError('edited')\n")
    assert multirun.end() == 0, multirun.told
    for number, width in enumerate((4, 8)):
        run = multirun.job(number)
        assert facts(run)["status"] == "finished"
        assert f"width: {width}" in (run / "config.yaml").read_text()
        assert "epoch 2 has ended" in multirun.log(number)
        curves = pd.read_csv(run / "metrics.csv")
        total = curves["train/loss_ce"] + curves["train/loss_size"]
        assert curves["train/loss"].tolist() == pytest.approx(total.tolist(), abs=1e-5)
        assert curves["train/lr"].tolist() == pytest.approx([0.0009, 0.00081])
