"""User mistakes that are only found once networks, files or memory are used."""

import os
import pickle
import resource
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.commands import command, line
from helpers.networks import build_model
from omegaconf import OmegaConf

from mammo.errors import ConfigError, DataError
from mammo.training.devices.batch_memory import is_out_of_memory, largest_batch
from mammo.training.setup import _refuse_no_boxes


def told(folder: Path, *arguments: str, **environment: str) -> str:
    """The last line of a command that must fail with one sentence."""
    return sentence(command("train", *arguments, folder=folder, env=os.environ | environment))


def sentence(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    return last


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.file,)


@pytest.mark.slow
def test_weights_of_another_network(tmp_path: Path) -> None:
    torch.save(build_model(name="resnet34", num_classes=2).state_dict(), tmp_path / "w.pt")
    last = told(tmp_path, "model=resnet18", "model.weights=w.pt")
    assert "model.weights=w.pt: weights of another network" in last
    assert not (tmp_path / "cache").exists()  # reported before anything is prepared
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["text", "payload"])
def test_file_that_holds_no_plain_weights(kind: str, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    if kind == "text":
        (tmp_path / "w.pt").write_text("no weights")
    else:
        (tmp_path / "w.pt").write_bytes(pickle.dumps({"fc.weight": Payload(trap)}))
    assert "model.weights=w.pt: " in told(tmp_path, "model.weights=w.pt")
    assert not trap.exists()
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_pretrained_without_a_network(tmp_path: Path) -> None:
    closed = "http://127.0.0.1:9"
    last = told(tmp_path, "model.pretrained=true", HF_ENDPOINT=closed, HF_HOME=str(tmp_path / "hub"))
    assert "model.pretrained=true: the weights of resnet18 cannot be downloaded" in last
    assert "model.weights=FILE" in last


@pytest.mark.slow
def test_unknown_network_of_timm(tmp_path: Path) -> None:
    last = told(tmp_path, "model=timm", "model.name=convnext_tinny")
    assert "model.name=convnext_tinny: " in last
    assert "convnext_tiny" in last


@pytest.mark.slow
def test_batch_that_does_not_fit_the_memory(tmp_path: Path) -> None:
    """The memory of the process is too small; the error of a GPU differs, see below."""
    arguments = ["data.patients=20", "data.film_scale=1", "data.height=512", "data.width=512"]
    arguments += ["data.batch_size=24", "data.masks=false", "model=resnet50", "run_dir=r", "data.workers=1"]
    memory = 9 * 2**30
    result = subprocess.run(
        line("train", *arguments),
        cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (memory, memory)),
    )  # fmt: skip
    last = sentence(result)
    assert "data.batch_size=24, data.micro_batches=1: 24 images of 512 x 512 at once do not fit" in last
    assert "raise data.micro_batches" in last


def test_what_out_of_memory_looks_like() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.slow
def test_largest_batch_is_a_power_of_two_within_memory_and_images(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_model(name="custom_cnn", num_classes=2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert largest_batch(network, size=(64, 48), accelerator="cpu", most=23) == 16
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    import mammo.training.devices.batch_memory as memory

    monkeypatch.setattr(memory, "_peak_of_step", lambda network, batch, size, device: batch * 1000)
    monkeypatch.setattr(memory, "_memory_in_use", lambda device: 0)
    monkeypatch.setattr(memory, "_free_memory", lambda device: 50_000)
    assert largest_batch(network, size=(64, 48), accelerator="cpu", most=10_000) == 32
    monkeypatch.setattr(memory, "_free_memory", lambda device: 500)
    with pytest.raises(ConfigError, match="not even one sample fits"):
        largest_batch(network, size=(64, 48), accelerator="cpu", most=10_000)


def test_places_of_lesions_without_a_box_are_refused() -> None:
    class Boxless(list[int]):
        def boxes(self, indices: range) -> np.ndarray:
            return np.full((len(indices), 1, 1, 4), np.nan)

    data: Any = SimpleNamespace(train=Boxless([1, 2]), store=SimpleNamespace(masks=None))
    with pytest.raises(
        DataError, match=r"loss\.cell_weight=1\.0: no lesion of the training images has a box"
    ):
        _refuse_no_boxes(OmegaConf.create({"data": {}, "loss": {"cell_weight": 1.0}}), data)
    _refuse_no_boxes(OmegaConf.create({"data": {}, "loss": {"cell_weight": 0.0}}), data)
    with pytest.raises(DataError, match=r"data\.batch_masks=true: no lesion of the images has a mask; give"):
        _refuse_no_boxes(OmegaConf.create({"data": {"batch_masks": True}, "loss": {}}), data)
    _refuse_no_boxes(OmegaConf.create({"data": {}, "loss": {}}), data)
