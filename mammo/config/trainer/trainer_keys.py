"""Arguments of Lightning's Trainer that are no keys here, earlier names of keys, and checks of values.

An argument of `pytorch_lightning.Trainer` is either a key of `trainer`, with its meaning there, or one of
`REFUSED`, with the reason and what does it here.
"""

import importlib.util
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from mammo.errors import ConfigError

# arguments of `pytorch_lightning.Trainer`
REFUSED = {
    "logger": "loggers are a group; give logger=tensorboard, csv, wandb, mlflow, none, or several as [a,b]",
    "callbacks": "callbacks are a group; give callbacks=NAME of a file my_conf/callbacks/NAME.yaml",
    "limit_test_batches": "a training does not score test images; use python -m mammo.evaluate split=test",
    "limit_predict_batches": "a training predicts nothing; use python -m mammo.predict",
    "enable_checkpointing": (
        "every run keeps its best and its last checkpoint; see trainer.checkpoint_minutes and "
        "trainer.checkpoint_steps"
    ),
    "use_distributed_sampler": (
        "the sampler of this package divides each batch among the processes; see data.balance for its draws"
    ),
    "barebones": "a run needs its checkpoints and curves; use python -m mammo.bench to measure speed",
    "plugins": "the processes and the number format choose them; give trainer.num_nodes or trainer.precision",
    "reload_dataloaders_every_n_epochs": (
        "the images of a training do not change, and their order does in each epoch; leave it out"
    ),
    "default_root_dir": "the folder of a run is run_dir; give run_dir=PATH",
    "enable_autolog_hparams": (
        "the loggers always get the settings of the run; give logger=none for no logger"
    ),
    "model_registry": "checkpoints stay in the run folder; use python -m mammo.export to pass a network on",
}
_RENAMED = {
    "trainer.accumulate": "is now data.micro_batches, which divides a batch; "
    "trainer.accumulate_grad_batches multiplies it, as in Lightning",
    "trainer.gradient_clip": "is now trainer.gradient_clip_val, as in Lightning",
    "trainer.nodes": "is now trainer.num_nodes, as in Lightning",
}
_PRECISION = {
    "float32": "32-true",
    "32": "32-true",
    "bfloat16": "bf16-mixed",
    "bf16": "bf16-mixed",
    "float16": "16-mixed",
    "16": "16-mixed",
}
_VALUES = {
    "trainer.precision": {
        **{
            old: f"is {new}, as in Lightning; give trainer.precision={new}" for old, new in _PRECISION.items()
        },
        **dict.fromkeys(
            ("16-true", "bf16-true", "64-true", "64", "transformer-engine", "transformer-engine-float16"),
            "the weights are float32 in every training; give 32-true, bf16-mixed, 16-mixed or auto",
        ),
    },
    "trainer.devices": dict.fromkeys(
        ("auto", "-1"),
        "a batch is divided among a known number of processes; give the number, and CUDA_VISIBLE_DEVICES to "
        "choose GPUs",
    ),
    "trainer.profiler": {"xla": "there is no TPU here; give simple, advanced or pytorch"},
}
_STRATEGY = (
    "each process keeps the whole network, so that its checkpoints can be read; give ddp, or "
    "ddp_find_unused_parameters_true for a network with parts that do not always take part"
)
# loggers that need a package that is not installed with this one, by the last part of `_target_`
_PACKAGES = {
    "WandbLogger": ("wandb", "wandb"),
    "MLFlowLogger": ("mlflow", "mlflow"),
    "CometLogger": ("comet_ml", None),
    "NeptuneLogger": ("neptune", None),
}


def explained(key: str) -> str | None:
    """Return why there is no such key and what does it here; None for an unknown name."""
    if key in _RENAMED:
        return _RENAMED[key]
    return REFUSED.get(key.removeprefix("trainer.")) if key.startswith("trainer.") else None


def explained_value(override: str) -> str | None:
    """Return why a value of Lightning, or an earlier one, is not taken; None for an unknown value."""
    key, _, value = override.lstrip("+").partition("=")
    if key == "trainer.devices" and value.startswith("["):
        value = "auto"
    if key == "trainer.strategy":
        return _STRATEGY
    return _VALUES.get(key, {}).get(value.strip("'\""))


def check_trainer(trainer: DictConfig) -> None:
    """Check the values whose types allow more than has a meaning.

    Raises:
        ConfigError: a value has no meaning; the message names it.
    """
    for key in ("limit_train_batches", "limit_val_batches", "overfit_batches"):
        value = trainer[key]
        if value is None or (key == "overfit_batches" and value == 0):
            continue
        if value == 0 and key == "limit_val_batches":
            raise ConfigError(
                "trainer.limit_val_batches=0: the best epoch is chosen by its validation score; give 1 or "
                "more, or trainer.check_val_every_n_epoch=N for fewer validations"
            )
        _check_share(key, value)
    if trainer.overfit_batches and (trainer.limit_train_batches or trainer.limit_val_batches):
        raise ConfigError(
            f"trainer.overfit_batches={trainer.overfit_batches}: limits training and validation by itself; "
            "leave out trainer.limit_train_batches and trainer.limit_val_batches"
        )
    _check_share("val_check_interval", trainer.val_check_interval)
    if trainer.check_val_every_n_epoch is None and isinstance(trainer.val_check_interval, float):
        raise ConfigError(
            f"trainer.val_check_interval={trainer.val_check_interval}: a share of an epoch cannot be counted "
            "across epochs; give a number of batches, or trainer.check_val_every_n_epoch=1"
        )
    if not isinstance(trainer.deterministic, bool) and trainer.deterministic != "warn":
        raise ConfigError(f"trainer.deterministic={trainer.deterministic}: must be true, false or warn")
    if not isinstance(trainer.fast_dev_run, int) or trainer.fast_dev_run < 0:
        raise ConfigError(f"trainer.fast_dev_run={trainer.fast_dev_run}: must be true, false or at least 1")
    if trainer.max_steps == 0:
        raise ConfigError("trainer.max_steps=0: must be at least 1, or -1 for no limit")
    if trainer.min_epochs is not None and trainer.min_epochs > trainer.max_epochs:
        raise ConfigError(
            f"trainer.min_epochs={trainer.min_epochs}: is above trainer.max_epochs={trainer.max_epochs}"
        )
    if trainer.min_steps is not None and 0 < trainer.max_steps < trainer.min_steps:
        raise ConfigError(
            f"trainer.min_steps={trainer.min_steps}: is above trainer.max_steps={trainer.max_steps}"
        )
    if trainer.sync_batchnorm and trainer.accelerator == "cpu":
        raise ConfigError(
            "trainer.sync_batchnorm=true: PyTorch has it for GPUs only; leave it out, or train on GPUs"
        )


def _check_share(key: str, value: Any) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or value <= 0 or (isinstance(value, float) and value > 1):
        raise ConfigError(
            f"trainer.{key}={value}: must be a number of batches of at least 1, or a share above 0.0 and at "
            "most 1.0"
        )


def require_package(name: str, node: Any) -> None:
    """Check that the package of a logger is installed.

    Raises:
        ConfigError: it is not; the message names what installs it.
    """
    target = str(node.get("_target_") or "") if isinstance(node, Mapping) else ""
    package, extra = _PACKAGES.get(target.rpartition(".")[2], (None, None))
    if package is not None and importlib.util.find_spec(package) is None:
        wanted = package if extra is None else f"'mammo[{extra}]'"
        raise ConfigError(f"logger.{name}: the package {package} is not installed; pip install {wanted}")
