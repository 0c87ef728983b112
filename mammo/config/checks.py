"""Checks of a composed configuration beyond its types, and its keys as arguments of functions."""

import difflib
import inspect
import os
import typing
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mammo.compat import child_node, is_missing
from mammo.config.choices import Normalisation, Source, SplitName
from mammo.errors import ConfigError
from mammo.runs import slurm_suffix

# number of usable cores, also under the limits of Slurm or a container
OmegaConf.register_new_resolver("cores", lambda: len(os.sched_getaffinity(0)), replace=True)

OmegaConf.register_new_resolver("slurm_suffix", slurm_suffix, replace=True)

# `conf/` is inside the package in a wheel, and beside the package in a checkout
_PACKAGE = Path(__file__).resolve().parent.parent
CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"

# Smallest and largest allowed value of a number; None: no limit.
_LIMITS: dict[str, tuple[float, float | None]] = {
    "seed": (0, 2**32 - 1),
    "data.seed": (0, 2**32 - 1),
    "data.height": (16, None),
    "data.width": (16, None),
    "data.max_rejected": (0, 1),
    "data.workers": (1, None),
    "data.loader_workers": (0, None),
    "data.fold": (0, None),
    "data.folds": (2, None),
    "data.val_fraction": (0, 1),
    "data.batch_size": (1, None),
    "data.difficulty": (0, 1),
    "data.film_scale": (1, None),
    "model.dropout": (0, 1),
    "model.drop_path": (0, 1),
    "augment.flip_horizontal": (0, 1),
    "augment.flip_vertical": (0, 1),
    "augment.rotation_deg": (0, 180),
    "augment.shear_deg": (0, 60),
    "augment.zoom": (0, 0.9),
    "augment.brightness": (0, 1),
    "augment.contrast": (0, 1),
    "augment.mixup": (0, None),
    "optim.lr": (0, None),
    "optim.head_lr": (0, None),
    "optim.layer_decay": (0, 1),
    "optim.weight_decay": (0, None),
    "optim.freeze_epochs": (0, None),
    "optim.unfreeze_every": (1, None),
    "optim.momentum": (0, 0.9999),
    "schedule.warmup_epochs": (0, None),
    "schedule.step_epochs": (1, None),
    "schedule.factor": (0, 1),
    "schedule.initial_lr_fraction": (0, 1),
    "schedule.final_lr_fraction": (0, 1),
    "schedule.patience": (0, None),
    "loss.label_smoothing": (0, 1),
    "loss.gamma": (0, None),
    "loss.box_weight": (0, None),
    "trainer.max_epochs": (1, None),
    "trainer.patience": (1, None),
    "trainer.devices": (1, None),
    "trainer.nodes": (1, None),
    "trainer.accumulate": (1, None),
    "trainer.gradient_clip": (0, None),
    "trainer.ema_decay": (0, 0.999999),
    "trainer.checkpoint_minutes": (0, None),
    "trainer.checkpoint_steps": (1, None),
    "trainer.picture_epochs": (1, None),
}

# Shares that are above 0 and below 1.
_SHARES = ("prevalence", "target_sensitivity", "target_specificity")


def check(cfg: DictConfig) -> None:
    """Check what the types cannot: missing values, numbers out of range, folders that do not exist.

    Raises:
        ConfigError: a check fails; the message names key, value and remedy.
    """
    for key, known in _added_keys(cfg, ""):
        raise ConfigError(f"+{key}: no such key{nearest(key, known)}")
    for key in sorted(OmegaConf.missing_keys(cfg)):
        raise ConfigError(f"{key} has no value: give {key}=...")
    for key, (low, high) in _LIMITS.items():
        value = OmegaConf.select(cfg, key)
        if value is not None and (value < low or (high is not None and value > high)):
            allowed = f"at least {low}" if high is None else f"between {low} and {high}"
            raise ConfigError(f"{key}={value}: must be {allowed}")
    for key in _SHARES:
        value = OmegaConf.select(cfg, key)
        if value is not None and not 0 < value < 1:
            raise ConfigError(f"{key}={value}: must be above 0 and below 1")
    if cfg.get("data") is not None:
        _check_data(cfg.data)
    if "model" in cfg:
        _check_training(cfg)


def _check_training(cfg: DictConfig) -> None:
    pretrained, weights = (OmegaConf.select(cfg, f"model.{key}") for key in ("pretrained", "weights"))
    if pretrained and weights is not None:
        raise ConfigError("model.pretrained=true and model.weights=FILE exclude each other: give one of them")
    if cfg.data.normalisation == Normalisation.weights and not pretrained and weights is None:
        raise ConfigError(
            "data.normalisation=weights: needs model.pretrained=true or model.weights=FILE; give one of "
            "them, or data.normalisation=train"
        )
    if weights is not None and not Path(weights).is_file():
        raise ConfigError(f"model.weights={weights}: no such file")
    if OmegaConf.select(cfg, "model.box_head") and cfg.trainer.compile:
        raise ConfigError("model.box_head=true and trainer.compile=true exclude each other: give one of them")
    channels = OmegaConf.select(cfg, "model.channels")
    if channels not in (None, 1, 3):
        raise ConfigError(f"model.channels={channels}: must be 1 (grey) or 3 (the grey image three times)")
    _check_batch(cfg)
    if cfg.optim.get("unfreeze_every") is not None and not cfg.optim.get("freeze_epochs"):
        raise ConfigError("optim.unfreeze_every: needs frozen epochs before it; give optim.freeze_epochs=N")


def _check_batch(cfg: DictConfig) -> None:
    """Raise an error unless each part of a batch gives every process the same number of images."""
    size, pieces, devices = cfg.data.batch_size, cfg.trainer.accumulate, cfg.trainer.devices
    # the config of an older run lacks the key
    nodes = OmegaConf.select(cfg, "trainer.nodes", default=1)
    processes = devices * nodes
    if size is None:
        if processes > 1:
            raise ConfigError(
                f"data.batch_size=null: the largest batch that fits is found for one process only, not for "
                f"trainer.devices={devices} x trainer.nodes={nodes}; give data.batch_size=N"
            )
    elif size % (pieces * processes):
        divisors = ", ".join(str(n) for n in range(1, size + 1) if size % n == 0)
        if processes == 1:
            raise ConfigError(
                f"trainer.accumulate={pieces}: does not divide data.batch_size={size}; choose from {divisors}"
            )
        raise ConfigError(
            f"trainer.accumulate={pieces} x trainer.devices={devices} x trainer.nodes={nodes}: does not "
            f"divide data.batch_size={size}; the product must be one of {divisors}"
        )


def _added_keys(node: DictConfig, prefix: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each key that `+key=value` added to a node without such a key, and the keys of its schema."""
    schema = OmegaConf.get_type(node)
    if "_target_" in list(node):
        return  # its keys are checked against the signature
    known = [field.name for field in fields(schema)] if is_dataclass(schema) else list(node)
    for key in map(str, node):
        if key not in known:
            yield f"{prefix}{key}", [f"{prefix}{name}" for name in known]
        elif isinstance(child := child_node(node, key), DictConfig) and not is_missing(child):
            yield from _added_keys(child, f"{prefix}{key}.")


def _check_data(data: DictConfig) -> None:
    if data.split == SplitName.kfold and data.fold >= data.folds:
        raise ConfigError(
            f"data.fold={data.fold}: with data.folds={data.folds} folds it must be 0 to {data.folds - 1}"
        )
    if data.sample is not None and (len(data.sample) != 3 or min(data.sample) < 0):
        raise ConfigError(f"data.sample={list(data.sample)}: give three counts, [train,val,test]")
    if (data.split == SplitName.file) != (data.split_file is not None):
        raise ConfigError("data.split=file and data.split_file=PATH belong together: give both or neither")
    if data.source != Source.phantom and not Path(data.root).is_dir():
        raise ConfigError(f"data.root={data.root}: no such folder")
    for key in ("cases", "table", "lesions", "split_file"):
        path = OmegaConf.select(data, key)
        if path is not None and not Path(path).exists():
            raise ConfigError(f"data.{key}={path}: no such file or folder")


def nearest(key: str, known: list[str]) -> str:
    """Return the end of a message about an unknown name: the most similar known name, if there is one."""
    near = difflib.get_close_matches(key, [name for name in known if name != key], n=1)
    return f"; did you mean {near[0]}?" if near else ""


def arguments_for(function: Callable[..., Any], node: DictConfig) -> dict[str, Any]:
    """Return the keys of a node that are parameters of the function, as plain Python values and paths.

    A key has one name for the user (`data.height`), even if several parts of the code use it.
    """
    plain = OmegaConf.to_container(node, resolve=True)
    assert isinstance(plain, dict)
    wanted = inspect.signature(function).parameters
    arguments = {str(key): value for key, value in plain.items() if key in wanted}
    for name, value in arguments.items():
        annotation = wanted[name].annotation
        if isinstance(value, str) and Path in (annotation, *typing.get_args(annotation)):
            arguments[name] = Path(value)
    return arguments
