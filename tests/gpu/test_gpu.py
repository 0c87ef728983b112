"""Tests that need a GPU: a run from training to export, its resume after a kill, and the bench."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.commands import line

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU here"),
]

DATA = ["data.patients=40", "data.height=256", "data.width=192", "data.film_scale=2"]
SETTINGS = [*DATA, "data.batch_size=16", "trainer=gpu", "report=false"]


def run(*arguments: str, folder: Path) -> str:
    """Standard output of a command that must succeed."""
    command, *rest = arguments
    done = subprocess.run(line(command, *rest), cwd=folder, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return done.stdout


def facts(run_folder: Path) -> dict[str, Any]:
    return dict(json.loads((run_folder / "run.json").read_text()))


def weights(run_folder: Path) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(run_folder / "checkpoints/last.ckpt", weights_only=True, map_location="cpu")
    return dict(checkpoint["state_dict"])


@pytest.fixture(scope="module")
def trained(place: Path) -> Path:
    """A working folder with a ResNet-18 that was trained for three epochs in bfloat16."""
    run(
        "train",
        *SETTINGS,
        "trainer.precision=bf16-mixed",
        "trainer.max_epochs=3",
        "run_dir=run",
        folder=place,
    )
    return place


def test_training_is_on_the_gpu_in_bfloat16(trained: Path) -> None:
    done = facts(trained / "run")
    assert done["status"] == "finished"
    assert done["device"] == f"{torch.cuda.get_device_name()}, bfloat16"
    assert 0 <= done["score"]["value"] <= 1


def test_evaluation_gives_the_scores_of_the_training(trained: Path) -> None:
    run("evaluate", "run=run", "split=val", folder=trained)
    metrics = json.loads((trained / "run/evaluation/val/metrics.json").read_text())
    assert metrics["image"]["auc"]["value"] == pytest.approx(
        facts(trained / "run")["score"]["value"], abs=0.02
    )


def test_export_answers_on_its_own(trained: Path) -> None:
    run("export", "run=run", "format=onnx", "output=model.onnx", folder=trained)
    assert (trained / "model.onnx").stat().st_size > 1e6


def test_one_process_of_ddp_trains_as_none(trained: Path) -> None:
    alone = [*SETTINGS, "trainer.max_epochs=1", "trainer.precision=32-true", "trainer.deterministic=warn"]
    run("train", *alone, "run_dir=alone", folder=trained)
    ddp = ["trainer=ddp", "trainer.devices=1", "trainer.accelerator=gpu"]
    run("train", *[key for key in alone if key != "trainer=gpu"], *ddp, "run_dir=ddp", folder=trained)
    expected, found = weights(trained / "alone"), weights(trained / "ddp")
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)


def test_a_killed_run_resumes(trained: Path) -> None:
    folder = trained / "killed"
    settings = [*SETTINGS, "trainer.max_epochs=6", f"run_dir={folder}"]
    with subprocess.Popen(line("train", *settings), cwd=trained, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 200
        while not (folder / "checkpoints/previous.ckpt").exists():
            assert time.monotonic() < end
            assert process.poll() is None, "the training ended before it could be killed"
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    run("train", f"resume={folder}", folder=trained)
    assert facts(folder)["status"] == "finished"
    assert facts(folder)["resumed"] == 1
    assert len((folder / "metrics.csv").read_text().splitlines()) == 1 + 6


@pytest.mark.parametrize("stage", ["step", "train"])
def test_the_bench_measures_the_gpu(stage: str, trained: Path) -> None:
    bench = [f"stage={stage}", "repeats=1", "steps=4", "warmup=1", "data.batch_size=8", "trainer=gpu", *DATA]
    done = subprocess.run(
        line("bench", *bench, f"output={stage}.json"),
        cwd=trained, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((trained / f"{stage}.json").read_text())[stage]["images_per_second"] > 0
