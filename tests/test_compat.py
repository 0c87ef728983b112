"""The private names of libraries that `mammo.compat` uses exist and behave as it expects."""

import copy
import dataclasses
import inspect
import subprocess
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.sweeper import Sweeper
from omegaconf import II, MISSING, DictConfig, OmegaConf
from submitit.slurm.slurm import SlurmJobEnvironment

from mammo.compat import (
    OptionError,
    accept_requeue_that_ends_its_command,
    child_node,
    cpu_computes_bfloat16,
    is_missing,
    keep_config_store_uncopied,
    leave_checks_to_launcher,
    leave_mode_to_options,
    read_options,
)
from mammo.config.checks import CONF


def test_a_copy_of_the_config_store_is_the_store() -> None:
    keep_config_store_uncopied()
    store = ConfigStore.instance()
    assert copy.deepcopy(store) is store
    assert copy.deepcopy({"store": store})["store"] is store


def test_sweepers_leave_the_check_of_jobs_to_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sweeper, "validate_batch_is_legal", Sweeper.validate_batch_is_legal)  # is restored
    assert "load_sweep_config" in inspect.getsource(Sweeper.validate_batch_is_legal)
    leave_checks_to_launcher()
    # not of an object: Hydra's search for plugins makes the sweepers' classes anew
    legal: Any = Sweeper.validate_batch_is_legal
    assert legal(None, [["no.such.key=1"]]) is None


def test_the_mode_is_that_of_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hydra, "get_mode", Hydra.get_mode)  # is restored
    assert list(inspect.signature(Hydra.get_mode).parameters) == ["self", "config_name", "overrides"]
    assert "run_mode = hydra.get_mode(config_name=config_name, overrides=overrides)" in inspect.getsource(
        hydra._internal.utils
    )
    leave_mode_to_options()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        assert GlobalHydra.instance().hydra.get_mode("train", ["hydra.mode=MULTIRUN"]) is None


def test_options_are_read_as_hydra_reads_them() -> None:
    given = read_options(["seed=1", "-m", "--config-dir", "mine", "--info"])
    assert (given.overrides, given.multirun, given.config_dir, given.info) == (
        ["seed=1"],
        True,
        "mine",
        "all",
    )
    names = {"run", "cfg", "shell_completion", "resolve", "config_name", "config_path", "experimental_rerun"}
    assert names <= {*vars(given)}
    with pytest.raises(OptionError, match="unrecognized arguments: --nosuch"):
        read_options(["--nosuch"])


@dataclasses.dataclass
class Inner:
    key: int = MISSING


@dataclasses.dataclass
class Outer:
    given: Inner = dataclasses.field(default_factory=Inner)
    missing: Inner = MISSING
    link: int = II("nothing.there")


def test_child_node_neither_resolves_nor_raises() -> None:
    node = OmegaConf.structured(Outer)
    assert isinstance(child_node(node, "given"), DictConfig)
    assert not is_missing(child_node(node, "given"))
    assert isinstance(child_node(node, "missing"), DictConfig)
    assert is_missing(child_node(node, "missing"))
    assert not isinstance(child_node(node, "link"), DictConfig)


@pytest.mark.parametrize("avx512", [True, False])
@pytest.mark.parametrize("amx", [True, False])
def test_bfloat16_is_computed_by_avx512_or_amx(
    monkeypatch: pytest.MonkeyPatch, avx512: bool, amx: bool
) -> None:
    assert isinstance(cpu_computes_bfloat16(), bool)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert cpu_computes_bfloat16() == (avx512 or amx)


@pytest.mark.parametrize(("ending", "fails"), [("kill -TERM $$", False), ("exit 0", False), ("exit 1", True)])
def test_a_requeue_may_end_its_own_command(
    ending: str, fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called\n{ending}\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(SlurmJobEnvironment, "_requeue", SlurmJobEnvironment._requeue)  # is restored
    accept_requeue_that_ends_its_command()
    if fails:
        with pytest.raises(subprocess.CalledProcessError):
            SlurmJobEnvironment()._requeue(1)
    else:
        SlurmJobEnvironment()._requeue(1)
    assert (tmp_path / "called").read_text() == "requeue 7\n"
