"""Real trainings with several processes (gloo, CPU), compared with those of one process."""

import csv
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from helpers.commands import REPOSITORY
from helpers.fork_server import ForkedPython
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric.utilities.rank_zero import rank_zero_only
from omegaconf import OmegaConf

import mammo.config.composition  # noqa: F401, registers the schemas that CONF names
from mammo.config.checks import CONF, check
from mammo.data.loading.samplers import EpochSampler, PartSampler, share
from mammo.errors import ConfigError, DataError
from mammo.training.devices.distributed import find_processes
from mammo.training.setup import _refuse_few_samples, _syncs_batchnorm

# 23 training images, 11 in the last optimiser step; no batch normalisation, which depends on the shares
SMALL = [
    "data.patients=20", "data.height=64", "data.width=48", "data.batch_size=12", "model=timm",
    "model.name=test_convnext", "optim=sgd", "optim.lr=0.01", "trainer.precision=32-true",
    "trainer.max_epochs=2", "report=false",
]  # fmt: skip
ALONE = ["trainer=cpu"]
TWO = ["trainer=ddp", "trainer.accelerator=cpu"]
NODES = [*TWO, "trainer.devices=1", "trainer.num_nodes=2"]

Popen = subprocess.Popen[str]

SPOILED = f"""
import os, sys
sys.path.insert(0, {str(REPOSITORY)!r})
from mammo.training.module import MammogramModule
import train

step = MammogramModule.training_step

def spoiled(self, batch, batch_idx):
    outputs = step(self, batch, batch_idx)
    what, rank, epoch, index = os.environ["SPOILED"].split()
    place = (self.trainer.global_rank, self.trainer.current_epoch, batch_idx)
    if place != (int(rank), int(epoch), int(index)):
        return outputs
    if what == "kill":
        os.kill(os.getpid(), 9)
    if what == "error":
        raise OSError("the disk is gone")
    return {{name: loss * float("nan") for name, loss in outputs.items()}}

MammogramModule.training_step = spoiled
train.main()
"""


def begin(
    place: Path,
    *arguments: str,
    program: Path = REPOSITORY / "train.py",
    popen: type[Popen] = ForkedPython,
    **environment: str,
) -> Popen:
    return popen(
        [sys.executable, str(program), *arguments], cwd=place, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def train(place: Path, *arguments: str, popen: type[Popen] = ForkedPython) -> str:
    """Runs a training and returns all that it prints."""
    out, err = end(begin(place, *arguments, popen=popen))
    return out + err


def end(process: Popen, code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, out + err
    return out, err


@pytest.fixture(scope="module")
def alone(place: Path) -> Path:
    train(place, *SMALL, *ALONE, "augment=strong", "run_dir=runs/alone")
    return place / "runs" / "alone"


@pytest.fixture(scope="module")
def two(place: Path, alone: Path) -> Path:
    # new interpreters, as a user starts them
    told = train(place, *SMALL, *TWO, "augment=strong", "run_dir=runs/two", popen=subprocess.Popen)
    for once in ("23 training and 4 validation images", "epoch 1/2", "epoch 2/2", "run folder runs/two"):
        assert told.count(once) == 1, told
    assert "Warning" not in told
    return place / "runs" / "two"


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def curves(run: Path) -> list[list[float]]:
    """Loss, AUC and accuracy in training and validation, and learning rate of each epoch."""
    return [
        [float(value) for value in row[1:8]] for row in list(csv.reader((run / "metrics.csv").open()))[1:]
    ]


def assert_alike(run: Path, reference: Path) -> None:
    assert curves(run) == [pytest.approx(row, abs=1e-6) for row in curves(reference)]
    for name in ("best", "last"):
        torch.testing.assert_close(weights(run, name), weights(reference, name), rtol=1e-5, atol=1e-6)
    scores = (json.loads((folder / "run.json").read_text())["score"] for folder in (run, reference))
    assert next(scores) == pytest.approx(next(scores), nan_ok=True)


@pytest.mark.slow
def test_two_processes_train_as_one_does(alone: Path, two: Path) -> None:
    """The augmentation is random and the last batch uneven."""
    assert_alike(two, alone)
    assert {path.relative_to(two) for path in two.rglob("*") if "tfevents" not in path.name} == {
        path.relative_to(alone) for path in alone.rglob("*") if "tfevents" not in path.name
    }
    facts = json.loads((two / "run.json").read_text())
    assert (facts["status"], facts["device"]) == ("finished", "2 processes, CPU, float32")
    assert [folder.name for folder in (two.parent).iterdir()].count("two") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "choices",
    [
        ["breast", "model.share_views=false", "data.batch_size=4"],
        ["exam", "model.fusion=attention", "data.batch_size=4"],
        ["image", "model/head=patch_map"],
        ["image", "model/head=mil", "model.head.crop=32", "model.head.crops=2"],
    ],
    ids=" ".join,
)
def test_samples_of_every_unit_and_heads(choices: list[str], place: Path) -> None:
    """Some samples lack a view, and a process may get none of it."""
    unit, *more = choices
    settings = [*SMALL, f"data.sample_unit={unit}", *more, "augment=strong"]
    alone, two = (
        f"runs/{''.join(filter(str.isalnum, ''.join(choices)))}-{name}" for name in ("alone", "two")
    )
    train(place, *settings, *ALONE, f"run_dir={alone}")
    train(place, *settings, *TWO, f"run_dir={two}")
    assert_alike(place / two, place / alone)


@pytest.mark.slow
def test_patches_are_the_same_in_every_process(place: Path) -> None:
    choices = ["data.sample_unit=patch", "task=patch_pathology", "data.patch.size=32", "data.batch_size=24"]
    choices += ["data.patch.per_lesion=2", "data.patch.per_image=2"]
    train(place, *SMALL, *ALONE, *choices, "run_dir=runs/patches-alone")
    train(place, *SMALL, *TWO, *choices, "run_dir=runs/patches-two")
    assert_alike(place / "runs" / "patches-two", place / "runs" / "patches-alone")


@pytest.mark.slow
def test_parts_of_a_batch_and_layers_frozen_at_first(place: Path) -> None:
    choices = ["data.micro_batches=2", "optim.freeze_epochs=1", "optim.unfreeze_every=1", "augment=none"]
    choices += ["data.balance=sampling", "trainer.ema_decay=0.9", "schedule=plateau", "trainer.patience=1"]
    train(place, *SMALL, *ALONE, *choices, "run_dir=runs/parts-alone")
    train(place, *SMALL, *TWO, *choices, "run_dir=runs/parts-two")
    assert_alike(place / "runs" / "parts-two", place / "runs" / "parts-alone")


@pytest.mark.slow
@pytest.mark.parametrize("by", ["hand", "srun"])
def test_two_nodes_train_as_one_does(by: str, place: Path, alone: Path) -> None:
    """Each node is started separately, with environment variables that give its rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    places = [{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": node} for node in "01"]
    if by == "srun":
        common = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "1(x2)", "SLURM_JOB_ID": port}
        common |= {"SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "localhost", "SLURM_LOCALID": "0"}
        common |= {"SLURM_NTASKS": "2", "SLURM_NNODES": "2", "SLURM_STEP_NUM_NODES": "2"}
        places = [common | {"SLURM_NODEID": node, "SLURM_PROCID": node} for node in "01"]
    arguments = [*SMALL, *NODES, "augment=strong"]
    nodes = [
        begin(place, *arguments, f"run_dir=runs/{by}{rank}", **environment)
        for rank, environment in enumerate(places)
    ]
    (_, first), (out, err) = (end(node) for node in nodes)
    assert "epoch 2/2" in first
    assert "epoch" not in out + err
    assert_alike(place / "runs" / f"{by}0", alone)
    assert not (place / "runs" / f"{by}1").exists()


@pytest.mark.slow
def test_killed_within_an_epoch_goes_on(place: Path, two: Path) -> None:
    program = place / "spoiled.py"
    program.write_text(SPOILED)
    arguments = [*SMALL, *TWO, "augment=strong", "trainer.checkpoint_steps=1", "run_dir=runs/killed"]
    end(begin(place, *arguments, program=program, SPOILED="kill 0 1 1"), code=-signal.SIGKILL)
    train(place, "resume=runs/killed")
    killed = place / "runs" / "killed"
    assert json.loads((killed / "run.json").read_text())["resumed"] == 1
    assert curves(killed) == curves(two)
    for name in ("best", "last"):
        first, second = weights(killed, name), weights(two, name)
        assert all(torch.equal(first[key], second[key]) for key in first)
    files = [run / "evaluation" / "val" / "predictions.csv" for run in (killed, two)]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("nan", "error: the loss is nan in epoch 1, batch 2 ("),
        ("error", "error: another process of the training has ended; see its message above"),
    ],
)
def test_failure_of_one_process_ends_both(what: str, sentence: str, place: Path, two: Path) -> None:
    """Both end before the time limit of the command."""
    program = place / "spoiled.py"
    program.write_text(SPOILED)
    arguments = [*SMALL, *TWO, f"run_dir=runs/{what}"]
    _, told = end(begin(place, *arguments, program=program, SPOILED=f"{what} 1 0 1"), code=1)
    assert told.count(sentence) == 1, told
    assert ("OSError: the disk is gone" in told) == (what == "error")
    assert ("Traceback" in told) == (what == "error")
    assert json.loads((place / "runs" / what / "run.json").read_text())["status"] == "failed"


@pytest.mark.slow
def test_processes_that_begin_with_different_settings_are_refused(place: Path, two: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    nodes = [
        begin(
            place,
            *SMALL,
            *NODES,
            f"optim.lr=0.{rank}1",
            f"run_dir=runs/other{rank}",
            **common,
            NODE_RANK=rank,
        )
        for rank in "01"
    ]
    _, told = end(nodes[0], code=1)
    assert told.splitlines()[-1].startswith(
        "error: process 1 has a different config from process 0; start all processes by"
    )
    end(nodes[1])


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["data.batch_size=10", "trainer.devices=4"],
            "data.micro_batches=1 x trainer.devices=4 x trainer.num_nodes=1: does not divide "
            "data.batch_size=10; the product must be one of 1, 2, 5, 10",
        ),
        (
            ["data.batch_size=12", "trainer.num_nodes=3", "data.micro_batches=4"],
            "data.micro_batches=4 x trainer.devices=2 x trainer.num_nodes=3: does not divide data.batch",
        ),
        (["data.batch_size=null"], "data.batch_size=null: the largest batch that fits is found for one"),
        (["trainer.num_nodes=0"], "trainer.num_nodes=0: must be at least 1"),
    ],
)
def test_settings_refused_when_composing(overrides: list[str], sentence: str) -> None:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("train", overrides=["name=x", "trainer=ddp", *overrides])
    with pytest.raises(ConfigError) as refused:
        check(cfg)
    assert str(refused.value).startswith(sentence)


SRUN = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_TASKS_PER_NODE": "2(x2)"}
SRUN |= {"SLURM_STEP_NODELIST": "localhost", "SLURM_NODEID": "1", "SLURM_LOCALID": "1"}


@pytest.mark.parametrize(
    ("devices", "nodes", "environment", "rank"),
    [
        (1, 1, {}, 0),
        (2, 1, {}, 0),  # the first process, before it starts the second
        (2, 1, {"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, 1),
        (2, 2, {"NODE_RANK": "1"}, 2),
        (2, 2, {"LOCAL_RANK": "1", "GROUP_RANK": "1", "WORLD_SIZE": "4"}, 3),  # by torchrun
        (2, 2, SRUN, 3),
        # a batch script with several tasks that starts one process; a shell of srun
        (1, 1, {"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "x"}, 0),
        (2, 1, {"SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_TASKS_PER_NODE": "1"}, 0),
        (1, 1, SRUN, "srun started 2(x2) processes on its nodes"),
        (4, 1, SRUN, "srun started 2(x2) processes on its nodes"),
        (2, 1, {"LOCAL_RANK": "1", "WORLD_SIZE": "4"}, "the launcher started 4 processes"),
        (1, 2, {}, "start the training by Slurm"),
        (
            2,
            2,
            SRUN | {"SLURM_STEP_NODELIST": "no.such[1-2]"},
            "no.such1: the name of the first node is unknown",
        ),
    ],
)
def test_rank_is_what_the_launcher_gave(
    devices: int, nodes: int, environment: dict[str, str], rank: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if isinstance(rank, int):
        assert find_processes(devices=devices, nodes=nodes).rank == rank
    else:
        with pytest.raises(ConfigError) as refused:
            find_processes(devices=devices, nodes=nodes)
        assert rank in str(refused.value)


def test_too_few_images_are_refused() -> None:
    def data(processes: int, unit: str = "image") -> Any:
        return SimpleNamespace(processes=processes, sample_unit=unit, train=list("abcd"), val=list("ef"))

    _refuse_few_samples(data(2), "official")
    for unit, plural in (("image", "images"), ("breast", "breasts")):
        with pytest.raises(
            DataError, match=f"4 training and 2 validation {plural} are too few for 3 processes"
        ):
            _refuse_few_samples(data(3, unit), "official")


@given(
    images=st.integers(1, 60),
    each=st.integers(1, 6),
    processes=st.integers(1, 5),
    parts_seen=st.integers(0, 4),
    seed=st.integers(0, 9),
)
def test_training_parts_are_shared_out(
    images: int, each: int, processes: int, parts_seen: int, seed: int
) -> None:
    """The processes share the parts of one process in equally many batches, none of them too small."""
    size, least = each * processes, processes * min(2, each)
    labels = np.zeros(images, np.int64)
    order = list(EpochSampler(labels=labels, seed=seed, balanced=False))
    seen = min(parts_seen, images // size) * size
    shares = []
    for rank in range(processes):
        sampler = EpochSampler(labels=labels, seed=seed, balanced=False, seen=seen)
        shares.append(PartSampler(sampler, size=size, least=least, rank=rank, processes=processes))
    batches = [list(part) for part in shares]
    assert {len(mine) for mine in batches} == {len(shares[0]) - seen // size}
    assert len({len(part) for part in shares}) == 1
    together = [list(itertools.chain(*parts)) for parts in zip(*batches, strict=True)]
    kept = images - (images % size if images % size < least else 0)
    assert together == [order[first : first + size] for first in range(seen, kept, size)]
    for parts in zip(*batches, strict=True):
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        assert min(map(len, parts)) >= min(2, each)


@given(images=st.integers(1, 60), each=st.integers(1, 6), processes=st.integers(1, 5))
def test_every_validation_image_is_seen_once(images: int, each: int, processes: int) -> None:
    shares = [
        PartSampler(range(images), size=each * processes, least=0, rank=rank, processes=processes)  # type: ignore[arg-type]
        for rank in range(processes)
    ]
    batches = [list(part) for part in shares]
    assert [len(mine) for mine in batches] == [len(part) for part in shares]
    assert sorted(index for mine in batches for batch in mine for index in batch) == list(range(images))
    assert all(0 < len(batch) <= each for mine in batches for batch in mine)
    if images >= processes:
        assert all(batches)


@given(count=st.integers(0, 50), processes=st.integers(1, 9))
def test_shares_are_those_of_numpy(count: int, processes: int) -> None:
    mine = [list(range(count))[share(count, rank=rank, processes=processes)] for rank in range(processes)]
    assert mine == [part.tolist() for part in np.array_split(np.arange(count), processes)]


@pytest.mark.parametrize(
    ("wanted", "shared", "found"), [(None, True, True), (None, False, False), (False, True, False)]
)
def test_batch_normalisation_is_not_synchronised_where_a_process_may_lack_a_view(
    wanted: bool | None, shared: bool, found: bool
) -> None:
    cfg = OmegaConf.create({"trainer": {"sync_batchnorm": wanted}, "model": {"share_views": shared}})
    assert _syncs_batchnorm(cfg, on_gpu=True) is found
    assert not _syncs_batchnorm(cfg, on_gpu=False)
