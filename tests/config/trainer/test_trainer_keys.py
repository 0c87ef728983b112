"""Each argument of Lightning's Trainer is a key that has its effect, or is refused with what does it here."""

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from omegaconf import DictConfig

from mammo.config.composition import compose_train
from mammo.config.schema import TrainerConfig
from mammo.config.trainer.trainer_keys import REFUSED
from mammo.errors import ConfigError
from mammo.training.trainer_options import scoring_options, training_only_options

ARGUMENTS = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}
KEYS = ARGUMENTS & {field.name for field in dataclasses.fields(TrainerConfig)}
# the processes: test_distributed.py and test_gpu.py
ELSEWHERE = {"accelerator", "devices", "num_nodes", "strategy", "sync_batchnorm", "precision"}
# a value that is not the default one
VALUES: dict[str, Any] = {
    "max_epochs": 3,
    "min_epochs": 2,
    "max_steps": 7,
    "min_steps": 2,
    "max_time": "00:01:00:00",
    "accumulate_grad_batches": 2,
    "gradient_clip_val": 0.5,
    "gradient_clip_algorithm": "value",
    "deterministic": False,
    "benchmark": True,
    "inference_mode": False,
    "limit_train_batches": 3,
    "limit_val_batches": 0.5,
    "overfit_batches": 2,
    "fast_dev_run": 2,
    "val_check_interval": 0.5,
    "check_val_every_n_epoch": 2,
    "num_sanity_val_steps": 1,
    "detect_anomaly": True,
    "profiler": "simple",
    "enable_progress_bar": True,
    "enable_model_summary": True,
    "log_every_n_steps": 5,
}


def options(cfg: DictConfig) -> dict[str, Any]:
    scoring = scoring_options(cfg, accelerator="cpu", precision="32-true")
    made = scoring | training_only_options(cfg, run_dir=Path("run")) | {"plugins": None}
    made["profiler"] = type(made["profiler"])
    return made


def test_no_argument_of_the_trainer_is_forgotten() -> None:
    assert KEYS | REFUSED.keys() == ARGUMENTS
    assert not KEYS & REFUSED.keys()
    assert VALUES.keys() | ELSEWHERE == KEYS


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_refused_argument_names_what_does_it_here(name: str) -> None:
    for override in (f"trainer.{name}=1", f"+trainer.{name}=1"):
        with pytest.raises(ConfigError) as refused:
            compose_train([override])
        assert str(refused.value).endswith(f": {REFUSED[name]}")
        assert ";" in REFUSED[name]


@pytest.fixture(scope="module")
def default() -> dict[str, Any]:
    return options(compose_train([]))


@pytest.mark.parametrize("key", sorted(VALUES))
def test_a_key_reaches_the_trainer(key: str, default: dict[str, Any]) -> None:
    changed = options(compose_train([f"trainer.{key}={VALUES[key]}"]))
    differ = {name for name in changed if changed[name] != default[name]}
    if key == "overfit_batches":
        assert differ == {"limit_train_batches", "limit_val_batches"}
    elif key == "fast_dev_run":
        assert {name: changed[name] for name in sorted(differ)} == {
            "limit_train_batches": 2, "limit_val_batches": 2, "max_epochs": 1,
        }  # fmt: skip
    else:
        assert differ == {key}
        assert key == "profiler" or changed[key] == VALUES[key]


def test_counts_of_batches_do_not_depend_on_their_parts() -> None:
    limits = [
        "trainer.limit_train_batches=3",
        "trainer.val_check_interval=2",
        "trainer.limit_val_batches=0.5",
    ]
    made = options(compose_train([*limits, "data.micro_batches=4", "trainer.accumulate_grad_batches=2"]))
    assert made["limit_train_batches"] == 12
    assert made["val_check_interval"] == 8
    assert made["limit_val_batches"] == 0.5
    assert made["accumulate_grad_batches"] == 8


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["trainer.accumulate=2"], "trainer.accumulate=2: is now data.micro_batches, which divides a batch"),
        (["trainer.gradient_clip=1"], "trainer.gradient_clip=1: is now trainer.gradient_clip_val, as in"),
        (["trainer.nodes=2"], "trainer.nodes=2: is now trainer.num_nodes, as in Lightning"),
        (["trainer.precision=bfloat16"], "is bf16-mixed, as in Lightning; give trainer.precision=bf16-mixed"),
        (["trainer.precision=16"], "trainer.precision=16: is 16-mixed, as in Lightning"),
        (["trainer.precision=64-true"], "the weights are float32 in every training; give 32-true"),
        (["trainer.devices=auto"], "trainer.devices=auto: a batch is divided among a known number of"),
        (["trainer.devices=[0,1]"], "CUDA_VISIBLE_DEVICES to choose GPUs"),
        (["trainer.strategy=fsdp"], "trainer.strategy=fsdp: each process keeps the whole network"),
        (["trainer.limit_val_batches=0"], "the best epoch is chosen by its validation score; give 1 or more"),
        (["trainer.limit_train_batches=1.5"], "must be a number of batches of at least 1, or a share above"),
        (["trainer.overfit_batches=few"], "trainer.overfit_batches=few: must be a number of batches of"),
        (["trainer.overfit_batches=2", "trainer.limit_val_batches=3"], "limits training and validation by"),
        (["trainer.check_val_every_n_epoch=null"], "a share of an epoch cannot be counted across epochs"),
        (["trainer.deterministic=maybe"], "trainer.deterministic=maybe: must be true, false or warn"),
        (["trainer.fast_dev_run=-1"], "trainer.fast_dev_run=-1: must be true, false or at least 1"),
        (["trainer.max_steps=0"], "trainer.max_steps=0: must be at least 1, or -1 for no limit"),
        (["trainer.min_epochs=20"], "trainer.min_epochs=20: is above trainer.max_epochs=14"),
        (["trainer.max_steps=5", "trainer.min_steps=9"], "trainer.min_steps=9: is above trainer.max_steps=5"),
        (["trainer.sync_batchnorm=true", "trainer=cpu"], "PyTorch has it for GPUs only; leave it out"),
    ],
)
def test_old_names_and_values_without_a_meaning_are_refused(overrides: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compose_train(overrides)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
