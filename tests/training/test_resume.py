"""Runs that are killed and resumed end as if they had not been interrupted."""

import json
import os
import platform
import random
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.commands import command
from helpers.commands import start as start_command
from omegaconf import DictConfig
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mammo.config.composition import Compositions
from mammo.config.resume import reopen
from mammo.errors import ConfigError, DataError
from mammo.runs import RunFolder
from mammo.runs.run_lock import RunLock
from mammo.training.checkpoints import Checkpoints
from mammo.training.fit import fit

SMALL = [
    "data.patients=20", "data.height=64", "data.width=48", "data.batch_size=4", "model=custom_cnn",
    "model.dropout=0.3", "augment=strong", "trainer=cpu", "trainer.precision=32-true", "trainer.max_epochs=3",
    "report=false",
]  # fmt: skip


PATHS = ["data.root=phantom", "data.store=store"]  # in the working folder
TWO_EPOCHS = ["data.batch_size=2", "trainer.max_epochs=2"]  # of fewer samples than images
COMPOSITIONS = Compositions()


class Killed(BaseException):
    """Simulates a kill: what a run writes at its end is not written."""


def composed(place: Path, *overrides: str) -> DictConfig:
    paths = [f"data.root={place}/phantom", f"data.store={place}/store", "name=x"]
    return COMPOSITIONS.training([*SMALL, *paths, *overrides])


@pytest.fixture
def start(place: Path) -> Callable[..., bool]:
    def start(run: Path, *overrides: str, kill_at: Callable[[int], bool] | None = None) -> bool:
        """Trains until the end, or until `kill_at` is true for the number of a checkpoint just written."""
        saved = 0

        def save(self: Checkpoints, *arguments: Any, **options: Any) -> None:
            nonlocal saved
            write(self, *arguments, **options)
            saved += 1
            if kill_at is not None and kill_at(saved):
                raise Killed

        write = Checkpoints._save
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Checkpoints, "_save", save)
            try:
                with RunLock(run) as lock:
                    fit(composed(place, *overrides), run_dir=run, overrides=list(overrides), lock=lock)
            except Killed:
                return False
        return True

    return start


def go_on(place: Path, run: Path, *overrides: str) -> RunFolder:
    folder, cfg = reopen(composed(place, f"resume={run}", *overrides), overrides=list(overrides))
    with RunLock(folder.path) as lock:
        finished = fit(cfg, run_dir=folder.path, overrides=list(overrides), lock=lock)
    assert finished is not None
    return finished


def differences(first: Any, second: Any, place: str = "") -> Iterator[str]:
    """Yields the places where two checkpoints are not equal bit for bit."""
    if isinstance(first, dict):
        for key in first.keys() | second.keys():
            if key not in first or key not in second:
                yield f"{place}/{key}"
            else:
                yield from differences(first[key], second[key], f"{place}/{key}")
    elif isinstance(first, list | tuple):
        if len(first) != len(second):
            yield place
        for number, pair in enumerate(zip(first, second, strict=False)):
            yield from differences(*pair, f"{place}/{number}")
    elif isinstance(first, torch.Tensor):
        if not torch.equal(first, second):
            yield place
    elif first != second:
        yield place


def assert_same_end(run: Path, reference: Path) -> None:
    for name in ("last", "best"):
        ends = (
            torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
            for folder in (run, reference)
        )
        assert not list(differences(*ends))
    curves = (
        [line.split(",")[:7] for line in (folder / "metrics.csv").read_text().splitlines()]
        for folder in (run, reference)
    )
    assert next(curves) == next(curves)
    for name in ("evaluation/val/predictions.csv", "split/train.txt"):
        assert (run / name).read_bytes() == (reference / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "choices",
    [
        ["optim=adamw", "trainer.max_epochs=2"],
        ["schedule=plateau", "schedule.patience=0", "optim=rmsprop"],
        ["trainer.ema_decay=0.9", "schedule=step", "schedule.step_epochs=1", "trainer.max_epochs=2"],
        ["data.micro_batches=2", "schedule=onecycle", "trainer.max_epochs=2"],
        ["optim=sgd", "optim.freeze_epochs=1", "optim.unfreeze_every=1", "optim.layer_decay=0.8"],
        [
            "data.loader_workers=2",
            "data.balance=sampling",
            "augment.mixup=0.4",
            "optim=adam",
            "trainer.max_epochs=2",
        ],
        ["trainer.patience=1", "loss=focal"],
        ["data.sample_unit=breast", "model.fusion=attention", "model.share_views=false", *TWO_EPOCHS],
        ["data.sample_unit=exam", "model.fusion=concat", "augment=strong", *TWO_EPOCHS],
        [
            *("data.sample_unit=patch", "task=patch_pathology", "data.patch.size=24", "data.batch_size=24"),
            *("data.patch.per_lesion=2", "data.patch.per_image=2", "data.loader_workers=1"),
            "trainer.max_epochs=2",
        ],
        [
            *("model=timm", "model.name=test_convnext", "model.dropout=0.3"),
            *("model/head=mil", "model.head.crop=32", "model.head.crops=2"),
            "trainer.max_epochs=2",
        ],
    ],
    ids=" ".join,
)
def test_killed_after_any_checkpoint_ends_the_same(
    choices: list[str], start: Callable[..., bool], place: Path, tmp_path: Path
) -> None:
    """Checkpoints within epochs and at their ends restore every state.

    A copy of the run folder, made when a checkpoint is written, is what a kill at this moment leaves.
    """
    copies: list[Path] = []

    def copy(_: int) -> bool:
        copies.append(tmp_path / f"killed{len(copies)}")
        shutil.copytree(tmp_path / "reference", copies[-1], ignore=shutil.ignore_patterns(".writer"))
        return False

    assert start(tmp_path / "reference", *choices, "trainer.checkpoint_steps=3", kill_at=copy)
    for killed in copies:
        assert go_on(place, killed).facts()["resumed"] == 1
        assert_same_end(killed, tmp_path / "reference")
    assert len(copies) > 3


@pytest.mark.slow
def test_kill_9_at_random_moments_ends_the_same(place: Path) -> None:
    """The real command is killed three times."""
    choices = [*SMALL, *PATHS, "trainer.max_epochs=8"]
    choices.append("trainer.checkpoint_steps=1")
    began = time.monotonic()
    assert command("train", *choices, "run_dir=runs/whole", folder=place).returncode == 0
    seconds = json.loads((place / "runs" / "whole" / "run.json").read_text())["seconds"]
    assert seconds < time.monotonic() - began
    rng = random.Random(0)
    arguments = [*choices, "run_dir=runs/killed"]
    for _ in range(3):
        with start_command("train", *arguments, folder=place) as process:
            assert process.stderr is not None
            while "validation images" not in process.stderr.readline():
                assert process.poll() is None
            time.sleep(rng.uniform(0, seconds / 4))
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        arguments = ["resume=runs/killed"]
    assert command("train", "resume=latest", folder=place).returncode == 0
    assert_same_end(place / "runs" / "killed", place / "runs" / "whole")
    events = EventAccumulator(str(place / "runs" / "killed" / "tensorboard")).Reload()
    for side in ("train", "val"):
        assert [event.step for event in events.Scalars(f"{side}/auc")] == list(range(1, 9))


@pytest.mark.slow
def test_a_run_that_is_still_training_is_not_entered(place: Path) -> None:
    choices = [*SMALL, *PATHS, "trainer.max_epochs=1000"]
    with start_command("train", *choices, "run_dir=runs/busy", folder=place) as process:
        assert process.stderr is not None
        while "epoch 1/1000" not in process.stderr.readline():
            assert process.poll() is None
        second = command("train", "resume=runs/busy", folder=place)
        assert second.returncode == 1
        assert f"still running on {platform.node()}, process {process.pid}; wait" in second.stderr
        assert process.poll() is None
        process.kill()
    assert json.loads((place / "runs" / "busy" / "run.json").read_text())["status"] == "running"
    epochs = [row.split(",")[0] for row in (place / "runs" / "busy" / "metrics.csv").read_text().splitlines()]
    assert epochs == ["epoch", *map(str, range(1, len(epochs)))]


@pytest.mark.slow
def test_killed_before_the_first_checkpoint_starts_again(
    start: Callable[..., bool], place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(tmp_path / "a", kill_at=lambda saved: saved == 1)
    for file in (tmp_path / "a" / "checkpoints").iterdir():
        file.unlink()
    go_on(place, tmp_path / "a")
    assert "has no checkpoint yet: the run starts at its beginning" in capsys.readouterr().err
    start(tmp_path / "b")
    assert_same_end(tmp_path / "a", tmp_path / "b")
    events = EventAccumulator(str(tmp_path / "a" / "tensorboard")).Reload()
    for side in ("train", "val"):
        assert [event.step for event in events.Scalars(f"{side}/auc")] == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut short", "a byte changed", "missing"])
def test_damaged_checkpoint_falls_back_to_the_one_before(
    damage: str, start: Callable[..., bool], place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(tmp_path / "whole")
    start(tmp_path / "a", kill_at=lambda saved: saved == 2)
    last = tmp_path / "a" / "checkpoints" / "last.ckpt"
    content = bytearray(last.read_bytes())
    if damage == "missing":
        last.unlink()
    elif damage == "cut short":
        last.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 0xFF
        last.write_bytes(content)
    go_on(place, tmp_path / "a")
    told = capsys.readouterr().err
    assert ("last.ckpt is damaged: the run resumes from the previous one" in told) == (damage != "missing")
    assert "resumes from" in told
    assert "previous.ckpt" in told
    assert_same_end(tmp_path / "a", tmp_path / "whole")


@pytest.mark.slow
def test_changed_setting_is_refused_with_the_difference(
    start: Callable[..., bool], place: Path, tmp_path: Path
) -> None:
    start(tmp_path / "a", kill_at=lambda saved: saved == 1)
    before = (tmp_path / "a" / "config.yaml").read_bytes()
    for change, sentence in (
        ("optim.lr=0.5", "the run has optim.lr=0.001, not 0.5; start a new run for it"),
        ("trainer.max_epochs=2", "the run has trainer.max_epochs=3, not 2; give this value or more"),
        ("augment=none", "the run has augment.flip_horizontal=0.5, not 0.0"),
        ("model.activation=elu", "the run has model.activation=relu, not elu"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            go_on(place, tmp_path / "a", change)
    assert (tmp_path / "a" / "config.yaml").read_bytes() == before
    go_on(place, tmp_path / "a", "optim.lr=0.001", "trainer.checkpoint_steps=3", "augment=strong")


@pytest.mark.slow
def test_other_images_are_refused(start: Callable[..., bool], place: Path, tmp_path: Path) -> None:
    start(tmp_path / "a", kill_at=lambda saved: saved == 1)
    names = tmp_path / "a" / "split" / "train.txt"
    names.write_text("".join(names.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(DataError, match="the run began with other images"):
        go_on(place, tmp_path / "a")


@pytest.mark.slow
def test_finished_run_grows_or_says_that_it_is_finished(place: Path) -> None:
    def run(*arguments: str) -> str:
        result = command("train", *arguments, folder=place)
        assert result.returncode == 0, result.stderr
        return result.stdout

    paths = [*PATHS, "trainer.max_epochs=1", "schedule=constant"]
    run(*SMALL, *paths, "run_dir=runs/grown")
    folder = place / "runs" / "grown"
    times = {file: os.stat(file).st_mtime_ns for file in folder.rglob("*")}
    told = run("resume=runs/grown")
    assert told.startswith("already finished, nothing to do\nvalidation AUC ")
    assert {file: os.stat(file).st_mtime_ns for file in folder.rglob("*")} == times
    run("resume=runs/grown", "trainer.max_epochs=2")
    run(*SMALL, *paths[:2], "trainer.max_epochs=2", "schedule=constant", "run_dir=runs/whole2")
    assert_same_end(folder, place / "runs" / "whole2")
    facts = json.loads((folder / "run.json").read_text())
    assert (facts["epochs"], facts["status"], facts["resumed"]) == (2, "finished", 1)


@pytest.mark.slow
def test_auto_begins_a_run_where_there_is_none_and_else_continues_it(place: Path) -> None:
    paths = [*PATHS, "schedule=constant", "resume=auto"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return command("train", *SMALL, *paths, *arguments, folder=place)

    assert run("trainer.max_epochs=1", "run_dir=runs/auto").returncode == 0
    done = run("trainer.max_epochs=1", "run_dir=runs/auto")
    assert done.stdout.startswith("already finished, nothing to do\n"), done.stderr
    assert run("trainer.max_epochs=2", "run_dir=runs/auto").returncode == 0
    facts = json.loads((place / "runs" / "auto" / "run.json").read_text())
    assert (facts["epochs"], facts["resumed"]) == (2, 1)
    changed = run("trainer.max_epochs=2", "run_dir=runs/auto", "seed=5")
    assert "the run has seed=0, not 5; start a new run" in changed.stderr
    assert "resume=auto: needs the folder of the run; give run_dir=PATH" in run().stderr


def test_latest_is_the_run_that_started_last(tmp_path: Path) -> None:
    for name, started in (("b", "2026-01-02"), ("a", "2026-01-03"), ("many/0", "2026-01-01")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").write_text(json.dumps({"started": started}))
        (tmp_path / name / "config.yaml").write_text("trainer: {fast_dev_run: false}\n")
    assert RunFolder.find("latest", parent=tmp_path).path.name == "a"


@pytest.mark.slow
def test_ctrl_c_ends_with_the_command_that_resumes(place: Path) -> None:
    arguments = [*SMALL, *PATHS, "trainer.max_epochs=300", "run_dir=my runs/a"]
    with start_command("train", *arguments, folder=place, start_new_session=True) as training:
        assert training.stderr
        lines = iter(training.stderr)
        assert any(line.startswith("epoch 1/300: ") for line in lines)
        os.killpg(training.pid, signal.SIGINT)  # as the terminal does
        *_, told = lines
    assert training.returncode == 130
    assert told.startswith("interrupted; to resume: ")
    assert shlex.split(told)[-1] == "resume=my runs/a"
    assert RunFolder(place / "my runs" / "a").facts()["status"] == "interrupted"
