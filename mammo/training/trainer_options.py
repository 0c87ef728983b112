"""The options of `pl.Trainer` for a training, from the keys of `trainer`."""

import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback, ProgressBar
from pytorch_lightning.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler

from mammo.config.instantiation import TARGET
from mammo.data.progress_bar import shows_bars
from mammo.errors import ConfigError

_PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}
# options that have the value of their key, in a training only and in every forward pass
_OF_TRAINING = (
    "max_epochs",
    "min_epochs",
    "max_steps",
    "min_steps",
    "gradient_clip_val",
    "check_val_every_n_epoch",
    "num_sanity_val_steps",
    "log_every_n_steps",
    "enable_model_summary",
    "detect_anomaly",
)
_OF_SCORING = ("deterministic", "benchmark", "inference_mode")


def limits(cfg: DictConfig) -> dict[str, Any]:
    """Return `limit_train_batches` and `limit_val_batches` in batches of Lightning, the parts of a batch."""
    trainer, parts = cfg.trainer, cfg.data.micro_batches
    train, val = trainer.limit_train_batches, trainer.limit_val_batches
    if trainer.overfit_batches:
        train = val = trainer.overfit_batches
    if trainer.fast_dev_run:
        train = val = int(trainer.fast_dev_run)
    return {
        name: value * parts if isinstance(value, int) else value
        for name, value in (("limit_train_batches", train), ("limit_val_batches", val))
    }


def scoring_options(cfg: DictConfig, *, accelerator: str, precision: str) -> dict[str, Any]:
    """Return the options for training and scoring, except those for several processes.

    Args:
        cfg: checked configuration.
        accelerator: `gpu` or `cpu`.
        precision: number format, see `choose_precision`.
    """
    return {
        "accelerator": accelerator,
        "devices": 1,
        "plugins": [LightningEnvironment()],  # one process, also in a Slurm job with several
        "use_distributed_sampler": False,
        "precision": precision,
        "limit_val_batches": limits(cfg)["limit_val_batches"],
        "logger": False,
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
        "enable_progress_bar": show_progress(cfg),
        **{name: cfg.trainer[name] for name in _OF_SCORING},
    }


def training_only_options(cfg: DictConfig, *, run_dir: Path) -> dict[str, Any]:
    """Return the options for training only, without callbacks and loggers.

    Args:
        cfg: checked configuration.
        run_dir: folder of the run, for the profile.
    """
    trainer, parts = cfg.trainer, cfg.data.micro_batches
    interval = trainer.val_check_interval
    options = {name: trainer[name] for name in _OF_TRAINING} | {
        "gradient_clip_algorithm": str(trainer.gradient_clip_algorithm),
        "max_time": trainer.max_time if isinstance(trainer.max_time, str | None) else dict(trainer.max_time),
        "accumulate_grad_batches": parts * trainer.accumulate_grad_batches,
        "limit_train_batches": limits(cfg)["limit_train_batches"],
        "val_check_interval": interval * parts if isinstance(interval, int) else interval,
        "profiler": _profiler(trainer.profiler, run_dir),
    }
    if trainer.fast_dev_run:  # not Lightning's, which writes no checkpoint
        options |= {"max_epochs": 1, "min_epochs": None, "num_sanity_val_steps": 0}
        options |= {"val_check_interval": 1.0, "check_val_every_n_epoch": 1}
    return options


def _profiler(name: str | None, run_dir: Path) -> Profiler | None:
    return None if name is None else _PROFILERS[name](dirpath=run_dir, filename="profile")


def show_progress(cfg: DictConfig) -> bool:
    """Return whether the training shows a progress bar."""
    wanted = cfg.trainer.enable_progress_bar
    return shows_bars() if wanted is None else bool(wanted)


def with_callbacks(options: dict[str, Any], callbacks: Sequence[Callback]) -> dict[str, Any]:
    """Return the options with the callbacks; one of them that is a progress bar is shown."""
    shown = any(isinstance(callback, ProgressBar) for callback in callbacks)
    return options | {"callbacks": list(callbacks)} | ({"enable_progress_bar": True} if shown else {})


def build_trainer(options: dict[str, Any]) -> pl.Trainer:
    """Return Lightning's Trainer.

    Raises:
        ConfigError: it refuses an option.
    """
    try:
        return pl.Trainer(**options)
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise ConfigError(f"trainer: Lightning refuses its arguments: {reason}; correct them") from error


def try_trainer(cfg: DictConfig, callbacks: Sequence[Callback]) -> None:
    """Build a Trainer that is not used, so that wrong options are reported before data are prepared."""
    options = scoring_options(cfg, accelerator="cpu", precision="32-true")
    options |= training_only_options(cfg, run_dir=Path())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a GPU that is not used, and those of the Trainer that is used
        build_trainer(with_callbacks(options, callbacks))


def refuse_unknown_score(
    name: str, node: dict[str, Any], callback: Callback, *, known: Collection[str]
) -> None:
    """Check that the score that a callback monitors exists.

    Args:
        name: name of the callback.
        node: its node.
        callback: the callback, such as `EarlyStopping` or `ModelCheckpoint`.
        known: names of the scores of the validation, without those of the terms of the loss.

    Raises:
        ConfigError: a training logs no such score.
    """
    monitor = getattr(callback, "monitor", None)
    if isinstance(monitor, str) and monitor not in known and not monitor.startswith("val/loss_"):
        raise ConfigError(
            f"callbacks.{name}.monitor={monitor}: {node[TARGET]} needs a score of the validation; give "
            f"{', '.join(known)}"
        )
