"""The schema of every key: its name, its type and its choices.

The values and meanings of the keys are in `conf/`. A choice is a `StrEnum`. A wrong key, type or choice is
rejected when the configuration is composed, before any slow import.
"""

import dataclasses
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from mammo.compat import keep_config_store_uncopied
from mammo.config.choices import (
    Abnormality,
    Accelerator,
    Activation,
    Aspect,
    Balance,
    BenchStage,
    Crop,
    EvaluatedSplit,
    ExportFormat,
    Heatmap,
    Norm,
    Normalisation,
    Pool,
    Precision,
    Reduce,
    SimulatedStudy,
    Source,
    SplitName,
    TaskName,
    Tta,
    Unit,
)
from mammo.config.launcher_schema import slurm_launcher
from mammo.config.sweep_schema import SearchConfig, StudyConfig, SweepConfig


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
    batch_size: int | None = MISSING
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
    _target_: str = MISSING
    weights: str | None = MISSING
    pool: Pool = MISSING
    dropout: float = MISSING
    box_head: bool = MISSING


@dataclasses.dataclass
class BackboneConfig(ModelConfig):
    name: str = MISSING
    pretrained: bool = MISSING
    channels: int = MISSING
    drop_path: float = MISSING


@dataclasses.dataclass
class CustomCnnConfig(ModelConfig):
    activation: Activation = MISSING
    norm: Norm = MISSING


@dataclasses.dataclass
class AugmentConfig:
    flip_horizontal: float = MISSING
    flip_vertical: float = MISSING
    rotation_deg: float = MISSING
    shear_deg: float = MISSING
    zoom: float = MISSING
    brightness: float = MISSING
    contrast: float = MISSING
    mixup: float = MISSING


@dataclasses.dataclass
class OptimConfig:
    _target_: str = MISSING
    lr: float = MISSING
    head_lr: float | None = MISSING
    layer_decay: float = MISSING
    weight_decay: float = MISSING
    freeze_epochs: int = MISSING
    unfreeze_every: int | None = MISSING


@dataclasses.dataclass
class AdamConfig(OptimConfig):
    betas: list[float] = MISSING


@dataclasses.dataclass
class MomentumConfig(OptimConfig):
    momentum: float = MISSING


@dataclasses.dataclass
class ScheduleConfig:
    _target_: str = MISSING
    warmup_epochs: float = MISSING


@dataclasses.dataclass
class StepConfig(ScheduleConfig):
    step_epochs: int = MISSING
    factor: float = MISSING


@dataclasses.dataclass
class CosineConfig(ScheduleConfig):
    final_lr_fraction: float = MISSING


@dataclasses.dataclass
class OneCycleConfig(CosineConfig):
    initial_lr_fraction: float = MISSING


@dataclasses.dataclass
class PlateauConfig:
    _target_: str = MISSING
    factor: float = MISSING
    patience: int = MISSING
    threshold: float = MISSING


@dataclasses.dataclass
class LossConfig:
    _target_: str = MISSING
    label_smoothing: float = MISSING
    box_weight: float = MISSING


@dataclasses.dataclass
class FocalConfig(LossConfig):
    gamma: float = MISSING


@dataclasses.dataclass
class TrainerConfig:
    max_epochs: int = MISSING
    patience: int | None = MISSING
    accelerator: Accelerator = MISSING
    devices: int = MISSING
    nodes: int = MISSING
    precision: Precision = MISSING
    compile: bool = MISSING
    accumulate: int = MISSING
    gradient_clip: float | None = MISSING
    ema_decay: float | None = MISSING
    deterministic: bool = MISSING
    checkpoint_minutes: float | None = MISSING
    checkpoint_steps: int | None = MISSING
    picture_epochs: int | None = MISSING
    fast_dev_run: bool = MISSING


@dataclasses.dataclass
class TrainConfig:
    name: str = MISSING
    run_dir: str | None = MISSING
    resume: str | None = MISSING
    report: bool = MISSING
    seed: int = MISSING
    data: DataConfig = MISSING
    task: TaskConfig = MISSING
    model: Any = MISSING  # a node with `_target_`, as the next ones; a schema where the package ships it
    augment: AugmentConfig = MISSING
    optim: Any = MISSING
    schedule: Any = None
    loss: Any = MISSING
    callbacks: dict[str, Any] = MISSING
    trainer: TrainerConfig = MISSING


@dataclasses.dataclass
class EvaluateConfig:
    run: Any = MISSING  # a folder or a list of them
    predictions: str | None = MISSING
    data: DataConfig | None = None
    split: EvaluatedSplit = MISSING
    output: str | None = MISSING
    tta: Tta = MISSING
    heatmap: Heatmap = MISSING
    heatmap_layer: str | None = MISSING
    reduce: Reduce = MISSING
    prevalence: float | None = MISSING
    target_sensitivity: float | None = MISSING
    target_specificity: float | None = MISSING
    resamples: int = MISSING
    seed: int = MISSING
    report: bool = MISSING


@dataclasses.dataclass
class CompareConfig:
    runs: Any = MISSING  # a folder or a list of them
    split: EvaluatedSplit = MISSING
    unit: Unit = MISSING
    reduce: Reduce = MISSING
    output: str = MISSING


@dataclasses.dataclass
class PredictConfig:
    run: str = MISSING
    input: str = MISSING
    output: str = MISSING
    heatmaps: str | None = MISSING
    workers: int = MISSING
    batch_size: int = MISSING


@dataclasses.dataclass
class ExportConfig:
    run: str = MISSING
    format: ExportFormat = MISSING
    output: str = MISSING


@dataclasses.dataclass
class AuditConfig:
    data: DataConfig = MISSING
    output: str | None = MISSING


@dataclasses.dataclass
class PrepareConfig:
    data: DataConfig = MISSING


@dataclasses.dataclass
class BenchConfig:
    stage: BenchStage = MISSING
    output: str | None = MISSING
    repeats: int = MISSING
    seed: int = MISSING
    batches: int = MISSING
    steps: int = MISSING
    warmup: int = MISSING
    images: int = MISSING
    data: DataConfig = MISSING
    task: TaskConfig = MISSING
    model: Any = MISSING
    augment: AugmentConfig = MISSING
    optim: Any = MISSING
    schedule: Any = None
    loss: Any = MISSING
    callbacks: dict[str, Any] = MISSING
    trainer: TrainerConfig = MISSING


@dataclasses.dataclass
class SimulateConfig:
    study: SimulatedStudy = MISSING
    replicates: int = MISSING
    seed: int = MISSING
    output: str | None = MISSING


def register_schema() -> None:
    """Store every schema under the name that `conf/` uses."""
    keep_config_store_uncopied()
    store = ConfigStore.instance()
    doors = {
        "train": TrainConfig,
        "audit": AuditConfig,
        "prepare": PrepareConfig,
        "bench": BenchConfig,
        "evaluate": EvaluateConfig,
        "compare": CompareConfig,
        "predict": PredictConfig,
        "export": ExportConfig,
        "sweep": SweepConfig,
        "simulate": SimulateConfig,
    }
    for name, root in doors.items():
        store.store(group="schema", name=name, node=root)
    nodes: dict[str, dict[str, type]] = {
        "data": {"phantom": PhantomConfig, "cbis_ddsm": CbisDdsmConfig, "csv": CsvConfig},
        "model": {"backbone": BackboneConfig, "custom_cnn": CustomCnnConfig},
        "optim": {"adam": AdamConfig, "momentum": MomentumConfig},
        "schedule": {
            "constant": ScheduleConfig,
            "step": StepConfig,
            "cosine": CosineConfig,
            "onecycle": OneCycleConfig,
            "plateau": PlateauConfig,
        },
        "loss": {"cross_entropy": LossConfig, "focal": FocalConfig},
        "sweep": {"search": SearchConfig, "study": StudyConfig},
    }
    store.store(group="schema/launcher", name="slurm", node=slurm_launcher())
    for group, choices in nodes.items():
        for name, node in choices.items():
            store.store(group=f"schema/{group}", name=name, node=node)
