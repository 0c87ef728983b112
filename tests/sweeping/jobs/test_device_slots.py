"""How the cores and GPUs of a machine are divided among jobs."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammo.sweeping.jobs.device_slots import slots, visible_gpus


@given(n=st.integers(1, 20), gpus_each=st.integers(1, 3))
def test_every_process_has_cores_and_no_core_is_idle_or_shared_without_need(n: int, gpus_each: int) -> None:
    cores = os.sched_getaffinity(0)
    shared = [core for slot in slots(n, gpus_each=gpus_each) for core in slot.cores]
    assert set(shared) == cores
    assert len(shared) == max(n, len(cores))


@pytest.fixture
def four_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adds an `nvidia-smi` that lists four GPUs to the PATH."""
    tool = tmp_path / "nvidia-smi"
    lines = "".join(f"echo 'GPU {number}: NVIDIA H200 (UUID: GPU-{number})'\n" for number in range(4))
    tool.write_text(f"#!/bin/sh\n{lines}")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(
    ("n", "gpus_each", "gpus"),
    [
        (None, 1, ["0", "1", "2", "3"]),
        (None, 2, ["0,1", "2,3"]),
        (2, 1, ["0", "1"]),
        (6, 1, ["0", "1", "2", "3", "0", "1"]),
        (None, 8, ["0,1,2,3"]),
    ],
)
def test_each_process_has_its_own_gpus(n: int | None, gpus_each: int, gpus: list[str]) -> None:
    given = [slot.environment()["CUDA_VISIBLE_DEVICES"] for slot in slots(n, gpus_each=gpus_each)]
    assert given == gpus


@pytest.mark.usefixtures("four_gpus")
def test_only_visible_gpus_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert visible_gpus() == ["2", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []


def test_a_machine_without_gpus_sets_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "CUDA_VISIBLE_DEVICES" not in slots(1)[0].environment()
