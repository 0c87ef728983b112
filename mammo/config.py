"""The schema of every key and its check.

The dataclasses below hold the keys and types; their values and what each key does stand in `conf/`.
A choice is a `StrEnum`, so that a wrong key, type or choice is refused when the configuration is composed,
before anything slow is imported.
"""

import dataclasses
import difflib
import inspect
import os
import typing
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from mammo.errors import ConfigError

# how many processes can run at once, under Slurm's or a container's limits too
OmegaConf.register_new_resolver("cores", lambda: len(os.sched_getaffinity(0)), replace=True)

CONF = Path(__file__).resolve().parent.parent / "conf"


class Source(StrEnum):
    phantom = "phantom"
    cbis_ddsm = "cbis_ddsm"
    csv = "csv"


class Abnormality(StrEnum):
    mass = "mass"
    calc = "calc"
    all = "all"


class Crop(StrEnum):
    breast = "breast"
    none = "none"


class Aspect(StrEnum):
    keep = "keep"
    stretch = "stretch"


class SplitName(StrEnum):
    official = "official"
    clean = "clean"
    random = "random"
    kfold = "kfold"
    file = "file"


class Balance(StrEnum):
    none = "none"
    weights = "weights"
    sampling = "sampling"


class Normalisation(StrEnum):
    train = "train"
    weights = "weights"


class TaskName(StrEnum):
    pathology = "pathology"


class Pool(StrEnum):
    avg = "avg"
    max = "max"


class Activation(StrEnum):
    relu = "relu"
    prelu = "prelu"
    elu = "elu"
    leaky_relu = "leaky_relu"


class Accelerator(StrEnum):
    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


class Precision(StrEnum):
    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


@dataclasses.dataclass
class DataConfig:
    source: Source = MISSING
    root: str = MISSING
    seed: int = MISSING
    store: str = MISSING
    height: int = MISSING
    width: int = MISSING
    crop: Crop = MISSING
    aspect: Aspect = MISSING
    masks: bool = MISSING
    max_rejected: float = MISSING
    workers: int = MISSING
    split: SplitName = MISSING
    fold: int = MISSING
    folds: int = MISSING
    val_fraction: float = MISSING
    sample: list[int] | None = MISSING
    split_file: str | None = MISSING
    batch_size: int = MISSING
    loader_workers: int | None = MISSING
    balance: Balance = MISSING
    normalisation: Normalisation = MISSING


@dataclasses.dataclass
class PhantomConfig(DataConfig):
    patients: int = MISSING
    difficulty: float = MISSING
    film_scale: int = MISSING


@dataclasses.dataclass
class CbisDdsmConfig(DataConfig):
    cases: str | None = MISSING
    abnormality: Abnormality = MISSING


@dataclasses.dataclass
class CsvConfig(DataConfig):
    table: str = MISSING
    lesions: str | None = MISSING


@dataclasses.dataclass
class TaskConfig:
    name: TaskName = MISSING


@dataclasses.dataclass
class ModelConfig:
    name: str = MISSING
    dropout: float = MISSING


@dataclasses.dataclass
class BackboneConfig(ModelConfig):
    pretrained: bool = MISSING
    pool: Pool = MISSING


@dataclasses.dataclass
class CustomCnnConfig(ModelConfig):
    activation: Activation = MISSING


@dataclasses.dataclass
class AugmentConfig:
    flip_horizontal: float = MISSING
    flip_vertical: float = MISSING
    rotation_deg: float = MISSING
    shear_deg: float = MISSING
    zoom: float = MISSING
    brightness: float = MISSING
    contrast: float = MISSING


@dataclasses.dataclass
class OptimConfig:
    lr: float = MISSING
    weight_decay: float = MISSING


@dataclasses.dataclass
class ScheduleConfig:
    warmup_epochs: float = MISSING
    final_lr_fraction: float = MISSING


@dataclasses.dataclass
class LossConfig:
    label_smoothing: float = MISSING


@dataclasses.dataclass
class TrainerConfig:
    max_epochs: int = MISSING
    patience: int | None = MISSING
    accelerator: Accelerator = MISSING
    devices: int = MISSING
    precision: Precision = MISSING
    gradient_clip: float | None = MISSING
    deterministic: bool = MISSING
    fast_dev_run: bool = MISSING


@dataclasses.dataclass
class TrainConfig:
    name: str = MISSING
    run_dir: str | None = MISSING
    seed: int = MISSING
    data: DataConfig = MISSING
    task: TaskConfig = MISSING
    model: ModelConfig = MISSING
    augment: AugmentConfig = MISSING
    optim: OptimConfig = MISSING
    schedule: ScheduleConfig = MISSING
    loss: LossConfig = MISSING
    trainer: TrainerConfig = MISSING


@dataclasses.dataclass
class AuditConfig:
    data: DataConfig = MISSING
    output: str | None = MISSING


@dataclasses.dataclass
class PrepareConfig:
    data: DataConfig = MISSING


def _register() -> None:
    store = ConfigStore.instance()
    for name, root in {"train": TrainConfig, "audit": AuditConfig, "prepare": PrepareConfig}.items():
        store.store(group="schema", name=name, node=root)
    nodes: dict[str, dict[str, type]] = {
        "data": {"phantom": PhantomConfig, "cbis_ddsm": CbisDdsmConfig, "csv": CsvConfig},
        "model": {"backbone": BackboneConfig, "custom_cnn": CustomCnnConfig},
    }
    for group, choices in nodes.items():
        for name, node in choices.items():
            store.store(group=f"schema/{group}", name=name, node=node)


_register()

# Least and greatest value of the numbers that have one.
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
    "augment.flip_horizontal": (0, 1),
    "augment.flip_vertical": (0, 1),
    "augment.rotation_deg": (0, 180),
    "augment.shear_deg": (0, 60),
    "augment.zoom": (0, 0.9),
    "augment.brightness": (0, 1),
    "augment.contrast": (0, 1),
    "optim.lr": (0, None),
    "optim.weight_decay": (0, None),
    "schedule.warmup_epochs": (0, None),
    "schedule.final_lr_fraction": (0, 1),
    "loss.label_smoothing": (0, 1),
    "trainer.max_epochs": (1, None),
    "trainer.patience": (1, None),
    "trainer.devices": (1, None),
    "trainer.gradient_clip": (0, None),
}


def check(cfg: DictConfig) -> None:
    """Refuses what the types alone cannot: keys without a value, numbers out of range, folders that are not.

    Raises:
        ConfigError: naming key, value and remedy.
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
    _check_data(cfg.data)
    if cfg.data.normalisation == Normalisation.weights and not OmegaConf.select(cfg, "model.pretrained"):
        raise ConfigError("data.normalisation=weights: goes with model.pretrained=true; else give train")


def _added_keys(node: DictConfig, prefix: str) -> Iterator[tuple[str, list[str]]]:
    """Keys that `+key=value` brought into a node whose schema has no such key, with those it has."""
    schema = OmegaConf.get_type(node)
    known = (
        [field.name for field in dataclasses.fields(schema)]
        if dataclasses.is_dataclass(schema)
        else list(node)
    )
    for key in map(str, node):
        if key not in known:
            yield f"{prefix}{key}", [f"{prefix}{name}" for name in known]
        elif isinstance(child := node._get_node(key), DictConfig) and not child._is_missing():
            yield from _added_keys(child, f"{prefix}{key}.")


def _check_data(data: DictConfig) -> None:
    if data.split == SplitName.kfold and data.fold >= data.folds:
        raise ConfigError(
            f"data.fold={data.fold}: with data.folds={data.folds} folds it is 0 to {data.folds - 1}"
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
    """The end of a sentence about an unknown name: what was probably meant, if anything is near."""
    near = difflib.get_close_matches(key, [name for name in known if name != key], n=1)
    return f"; did you mean {near[0]}?" if near else ""


def arguments_for(function: Callable[..., Any], node: DictConfig) -> dict[str, Any]:
    """The keys of a config node that the function's signature names, as plain Python values and paths.

    Keys keep to one flat name a user types (`data.height`), whichever part of the code they serve.
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
