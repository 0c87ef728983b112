"""Checks of a composed configuration beyond its types, and its keys as arguments of functions."""

import contextlib
import difflib
import functools
import inspect
import os
import typing
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, ValidationError

from mammo.compat import child_node, is_missing
from mammo.config.choices import Normalisation, SplitName, View
from mammo.config.data.combined_sets import set_nodes
from mammo.config.data.data_schema import DataConfig
from mammo.config.data.label_words import label_words
from mammo.config.data.subgroup_cuts import subgroup_cuts
from mammo.config.task.task_checks import check_task, check_unit
from mammo.config.trainer.trainer_keys import check_trainer, explained, require_package
from mammo.config.usual_names import USUAL_NAMES, usual_name
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
    "data.micro_batches": (1, None),
    "data.patch.per_lesion": (0, None),
    "data.patch.per_image": (0, None),
    "data.patch.overlap": (0, 1),
    "data.difficulty": (0, 1),
    "data.obscured": (0, 1),
    "data.film_scale": (1, None),
    "model.dropout": (0, 1),
    "model.drop_path": (0, 1),
    "model.pool.hidden": (1, None),
    "model.head.reduce": (1, None),
    "model.head.crop": (1, None),
    "model.head.crops": (1, None),
    "model.head.hidden": (1, None),
    "model.head.window": (1, None),
    "model.head.blocks": (1, None),
    "model.head.out": (1, None),
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
    "schedule.gamma": (0, 1),
    "schedule.initial_lr_fraction": (0, 1),
    "schedule.final_lr_fraction": (0, 1),
    "schedule.patience": (0, None),
    "loss.label_smoothing": (0, 1),
    "loss.gamma": (0, None),
    "loss.box_weight": (0, None),
    "loss.cell_weight": (0, None),
    "trainer.max_epochs": (1, None),
    "trainer.patience": (1, None),
    "trainer.devices": (1, None),
    "trainer.num_nodes": (1, None),
    "trainer.accumulate_grad_batches": (1, None),
    "trainer.gradient_clip_val": (0, None),
    "trainer.min_epochs": (1, None),
    "trainer.max_steps": (-1, None),
    "trainer.min_steps": (1, None),
    "trainer.check_val_every_n_epoch": (1, None),
    "trainer.num_sanity_val_steps": (-1, None),
    "trainer.log_every_n_steps": (1, None),
    "trainer.ema_decay": (0, 0.999999),
    "trainer.checkpoint_minutes": (0, None),
    "trainer.checkpoint_steps": (1, None),
    "trainer.picture_epochs": (1, None),
    "resamples": (1, None),
    "patients": (2, None),  # of a download: one of each class
}

# Keys of which a part of the user's own may give the name another meaning.
_OF_SHIPPED_PARTS = (
    *("data.difficulty", "data.obscured", "data.film_scale"),
    *("model.dropout", "model.drop_path", "optim.momentum"),
    *(
        key
        for key in _LIMITS
        if key.startswith(("augment.", "schedule.", "loss.")) and key != "augment.mixup"
    ),
)

# Heads that leave the network as it is.
_GLOBAL = (None, "mammo.models.heads.head_nodes.global_head")

# Shares that are above 0 and below 1.
_SHARES = ("prevalence", "target_sensitivity", "target_specificity")


def check(cfg: DictConfig) -> None:
    """Check what the types cannot: missing values, numbers out of range, folders that do not exist.

    Raises:
        ConfigError: a check fails; the message names key, value and remedy.
    """
    check_values(cfg)
    require_values(cfg)


def require_values(cfg: DictConfig) -> None:
    """Refuse a configuration in which a key has no value.

    Raises:
        ConfigError: a key has no value; the message names all of them.
    """
    if missing := sorted(OmegaConf.missing_keys(cfg)):
        raise ConfigError(_without_value(missing))


def check_values(cfg: DictConfig, *, makes_root: bool = False) -> None:
    """Check the values that there are, as far as their checks need no other value.

    They are checked before `require_values`, so that a mistake is reported at the first call.

    Args:
        cfg: composed configuration.
        makes_root: whether the command makes the folder `data.root`.

    Raises:
        ConfigError: a check fails; the message names key, value and remedy.
    """
    for key, known in _added_keys(cfg, ""):
        raise ConfigError(f"+{key}: {explained(key) or f'no such key{nearest(key, known)}'}")
    # keys of the phantom's training may be in the place of an optimiser that was left out
    if "optim" in cfg and "_target_" not in (cfg.optim or {}):
        raise ConfigError(_without_value(["optim"]))
    check_data = functools.partial(_check_data, makes_root=makes_root)
    for part in (_check_limits, _check_subgroups, check_data, _check_task, _check_training):
        with contextlib.suppress(MissingMandatoryValue):
            part(cfg)


def _check_limits(cfg: DictConfig) -> None:
    for key, (low, high) in _LIMITS.items():
        value = OmegaConf.select(cfg, key)
        if value is not None and key in _OF_SHIPPED_PARTS and _is_own(cfg[key.partition(".")[0]]):
            continue
        if isinstance(value, int | float) and (value < low or (high is not None and value > high)):
            allowed = f"at least {low}" if high is None else f"between {low} and {high}"
            raise ConfigError(f"{key}={value}: must be {allowed}")
    for key in _SHARES:
        value = OmegaConf.select(cfg, key)
        if value is not None and not 0 < value < 1:
            raise ConfigError(f"{key}={value}: must be above 0 and below 1")


def _check_subgroups(cfg: DictConfig) -> None:
    if cfg.get("subgroups") is not None:
        subgroup_cuts(cfg.subgroups)


def _check_task(cfg: DictConfig) -> None:
    if cfg.get("task") is not None and "column" in cfg.task:  # the config of an older run has only the name
        check_task(cfg.task)
        if cfg.get("data") is not None:
            check_unit(cfg.task, cfg.data)


def _without_value(keys: list[str]) -> str:
    """Return the sentence on keys that have no value."""
    have = "has" if len(keys) == 1 else "have"
    names = " and ".join(filter(None, [", ".join(keys[:-1]), keys[-1]]))
    said = f"{names} {have} no value: give {' '.join(f'{key}=...' for key in keys)}"
    if not set(keys) & {"optim.lr", "trainer.max_epochs"}:
        return said
    return f"{said}, or an experiment that is made for real mammograms, such as experiment=plain"


def _check_training(cfg: DictConfig) -> None:
    if "model" not in cfg:
        return
    pretrained, weights = (OmegaConf.select(cfg, f"model.{key}") for key in ("pretrained", "weights"))
    if pretrained and weights is not None:
        raise ConfigError("model.pretrained=true and model.weights=FILE exclude each other: give one of them")
    if cfg.data.normalisation == Normalisation.weights and not pretrained and weights is None:
        raise ConfigError(
            "data.normalisation=weights: needs model.pretrained=true or model.weights=FILE; give one of "
            "them, or data.normalisation=train"
        )
    if weights is not None:
        files = (Path(weights), Path(weights) / "checkpoints" / "best.ckpt")
        if not any(file.is_file() for file in files):
            raise ConfigError(f"model.weights={weights}: no such file, nor a run with checkpoints/best.ckpt")
    if OmegaConf.select(cfg, "model.box_head") and cfg.trainer.compile:
        raise ConfigError("model.box_head=true and trainer.compile=true exclude each other: give one of them")
    pool = OmegaConf.select(cfg, "model.pool")
    if isinstance(pool, str) and not _is_own(cfg.model):
        raise ConfigError(f"model.pool={pool}: the pooling is chosen from a group; give model/pool={pool}")
    head = OmegaConf.select(cfg, "model.head")
    if isinstance(head, str):
        raise ConfigError(f"model.head={head}: the head is chosen from a group; give model/head={head}")
    scores_image = OmegaConf.select(cfg, "model.head._target_") in _GLOBAL
    if OmegaConf.select(cfg, "model.box_head") and not scores_image:
        raise ConfigError("model.box_head=true and model/head exclude each other: give model/head=global")
    channels = OmegaConf.select(cfg, "model.channels")
    if channels not in (None, 1, 3):
        raise ConfigError(f"model.channels={channels}: must be 1 (grey) or 3 (the grey image three times)")
    _check_batch(cfg)
    check_trainer(cfg.trainer)
    if cfg.trainer.sync_batchnorm and OmegaConf.select(cfg, "model.share_views") is False:
        raise ConfigError(
            "trainer.sync_batchnorm=true and model.share_views=false exclude each other: a process whose "
            "batch lacks a view would let the others wait; give trainer.sync_batchnorm=false"
        )
    for name, node in (cfg.get("logger") or {}).items():
        require_package(name, node)
    if cfg.optim.get("unfreeze_every") is not None and not cfg.optim.get("freeze_epochs"):
        raise ConfigError("optim.unfreeze_every: needs frozen epochs before it; give optim.freeze_epochs=N")


def _check_batch(cfg: DictConfig) -> None:
    """Raise an error unless each part of a batch gives every process the same number of images."""
    size, pieces = cfg.data.batch_size, cfg.data.micro_batches
    devices, nodes = cfg.trainer.devices, cfg.trainer.num_nodes
    processes = devices * nodes
    if size is None:
        if processes > 1:
            raise ConfigError(
                f"data.batch_size=null: the largest batch that fits is found for one process only, not for "
                f"trainer.devices={devices} x trainer.num_nodes={nodes}; give data.batch_size=N"
            )
    elif size % (pieces * processes):
        divisors = ", ".join(str(n) for n in range(1, size + 1) if size % n == 0)
        if processes == 1:
            raise ConfigError(
                f"data.micro_batches={pieces}: does not divide data.batch_size={size}; choose from {divisors}"
            )
        raise ConfigError(
            f"data.micro_batches={pieces} x trainer.devices={devices} x trainer.num_nodes={nodes}: does not "
            f"divide data.batch_size={size}; the product must be one of {divisors}"
        )


def _added_keys(node: DictConfig, prefix: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each key that `+key=value` added to a node without such a key, and the keys of its schema."""
    schema = OmegaConf.get_type(node)
    if "_target_" in list(node) and not (is_dataclass(schema) and str(node["_target_"]).startswith("mammo.")):
        return  # its keys are checked against the signature
    known = [field.name for field in fields(schema)] if is_dataclass(schema) else list(node)
    for key in map(str, node):
        if key not in known:
            yield f"{prefix}{key}", [f"{prefix}{name}" for name in known]
        elif isinstance(child := child_node(node, key), DictConfig) and not is_missing(child):
            yield from _added_keys(child, f"{prefix}{key}.")


def _check_data(cfg: DictConfig, *, makes_root: bool) -> None:
    data = cfg.get("data")
    if data is None:
        return
    _check_types(data)
    if data.split == SplitName.kfold and data.fold >= data.folds:
        raise ConfigError(
            f"data.fold={data.fold}: with data.folds={data.folds} folds it must be 0 to {data.folds - 1}"
        )
    if data.sample is not None and (len(data.sample) != 3 or min(data.sample) < 0):
        raise ConfigError(f"data.sample={list(data.sample)}: give three counts, [train,val,test]")
    white = data.get("white", "auto")  # an older run has no such key, as of the next one
    if white not in ("auto", "file") and (type(white) is not int or not 1 <= white <= 65535):
        raise ConfigError(f"data.white={white}: must be auto, file, or a whole number from 1 to 65535")
    views = data.get("views")
    if views is not None:
        _check_views(list(views))
    if (data.split == SplitName.file) != (data.split_file is not None):
        raise ConfigError("data.split=file and data.split_file=PATH belong together: give both or neither")
    if _is_own(data):
        paths: tuple[str, ...] = ("split_file",)
    else:
        if "labels" in data:
            label_words(plain(data.labels))
        paths = ("cases", "table", "lesions", "split_file")
        if "sets" in data:
            chosen = plain(data)
            set_nodes(**{key: chosen[key] for key in ("sets", "train_on", "test_on")})
        elif not (makes_root or data["_target_"].endswith(".read_phantom")):
            root = OmegaConf.select(data, "root")
            if root is not None and not Path(root).is_dir():
                raise ConfigError(f"data.root={root}: no such folder")
    for key in paths:
        path = OmegaConf.select(data, key)
        if path is not None and not Path(path).exists():
            raise ConfigError(f"data.{key}={path}: no such file or folder")


def _check_views(views: list[str]) -> None:
    shown = f"data.views=[{','.join(views)}]"
    for view in views:
        if view not in View.__members__:
            raise ConfigError(f"{shown}: '{view}' is not one of {', '.join(View)}")
    if len(set(views)) != max(len(views), 1):
        raise ConfigError(f"{shown}: give one or more views, each once")


def _check_types(data: DictConfig) -> None:
    """Check the keys of every data set in a node without schema, that of a source of the user's own."""
    if not isinstance(data, DictConfig) or "_target_" not in data:
        raise ConfigError("data: has no _target_; give the dotted path of a function that returns a Catalog")
    if is_dataclass(OmegaConf.get_type(data)):
        return
    if "store" not in data:
        raise ConfigError("data.store has no value: begin its file with defaults: [_common, _self_]")
    typed = OmegaConf.structured(DataConfig)
    for name in (field.name for field in fields(DataConfig) if field.name in data):
        try:
            OmegaConf.update(typed, name, data[name], merge=True)  # `data.patch` is a node itself
        except (ValidationError, ConfigKeyError) as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            raise ConfigError(f"data.{name}={data[name]}: {reason}") from error
        data[name] = typed[name]


def _is_own(node: DictConfig) -> bool:
    """Return whether a part is neither of this package nor of PyTorch, so that its keys may mean anything."""
    return not str(node.get("_target_")).startswith(("mammo.", "torch."))


def nearest(key: str, known: list[str]) -> str:
    """Return the end of a message about an unknown name: the known name that is meant, if there is one.

    Args:
        key: name that is unknown.
        known: names of the same kind; dotted ones for keys of the whole configuration.
    """
    if meant := usual_name(key, known):
        return f"; did you mean {meant}?"
    others = [name for name in known if name != key]
    mistyped = difflib.get_close_matches(key.rpartition(".")[2], USUAL_NAMES, n=1, cutoff=0.85)
    very_near = difflib.get_close_matches(key, others, n=1, cutoff=0.85)
    if mistyped and not very_near and (meant := usual_name(mistyped[0], known)):
        return f"; did you mean {meant}?"
    near = difflib.get_close_matches(key, others, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def plain(node: DictConfig) -> dict[str, Any]:
    """Return a node of the configuration as plain values."""
    values: dict[str, Any] = OmegaConf.to_container(node, resolve=True, enum_to_str=True)  # type: ignore[assignment]
    return values


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
