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
    BenchStage,
    EvaluatedSplit,
    ExportFormat,
    Heatmap,
    OtherImage,
    PredictOutput,
    Reduce,
    RunOrder,
    SimulatedStudy,
    Tta,
    Unit,
    Unlabelled,
)
from mammo.config.data.data_schema import (
    BiradsSetConfig,
    CbisDdsmConfig,
    CombinedConfig,
    CsvConfig,
    PhantomConfig,
    PublicSetConfig,
)
from mammo.config.launcher_schema import slurm_launcher
from mammo.config.model.model_schema import (
    AttentionPoolConfig,
    BackboneConfig,
    CropMilConfig,
    CustomCnnConfig,
    GemConfig,
    HeadConfig,
    PatchMapConfig,
    PoolConfig,
    ResidualBlocksConfig,
)
from mammo.config.sweep_schema import SearchConfig, StudyConfig, SweepConfig
from mammo.config.trainer.trainer_schema import TrainerConfig


@dataclasses.dataclass
class TaskConfig:
    name: str = MISSING
    column: str = MISSING
    classes: Any = MISSING  # a list of names, or for each name its value or values in the column
    positive: list[str] = dataclasses.field(default_factory=list)
    ordered: bool = False
    unlabelled: Unlabelled = Unlabelled.refuse
    background: str | None = None


@dataclasses.dataclass
class AugmentConfig:
    _target_: str = MISSING
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
    freeze_batch_norm: bool = MISSING
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
class MultiStepConfig:
    _target_: str = MISSING
    milestones: list[int] = MISSING
    gamma: float = MISSING


@dataclasses.dataclass
class LossConfig:
    _target_: str = MISSING
    label_smoothing: float = MISSING
    box_weight: float = MISSING
    cell_weight: float = MISSING


@dataclasses.dataclass
class FocalConfig(LossConfig):
    gamma: float = MISSING


@dataclasses.dataclass
class TrainConfig:
    name: str = MISSING
    run_dir: str | None = MISSING
    resume: str | None = MISSING
    report: bool = MISSING
    seed: int = MISSING
    data: Any = MISSING  # a node with `_target_`, as the next ones; a schema where the package ships it
    task: TaskConfig = MISSING
    model: Any = MISSING
    augment: Any = MISSING
    optim: Any = MISSING
    schedule: Any = None
    loss: Any = MISSING
    callbacks: dict[str, Any] = dataclasses.field(default_factory=dict)  # name -> node with `_target_`
    logger: dict[str, Any] = dataclasses.field(default_factory=dict)  # the same
    metrics: dict[str, Any] = MISSING
    trainer: TrainerConfig = MISSING


@dataclasses.dataclass
class EvaluateConfig:
    run: Any = MISSING  # a folder or a list of them
    predictions: str | None = MISSING
    task: TaskConfig | None = None
    data: Any = None
    split: EvaluatedSplit = MISSING
    output: str | None = MISSING
    tta: Tta = MISSING
    heatmap: Heatmap = MISSING
    heatmap_layer: str | None = MISSING
    hanging: bool = MISSING
    reduce: Reduce = MISSING
    prevalence: float | None = MISSING
    target_sensitivity: float | None = MISSING
    target_specificity: float | None = MISSING
    subgroups: Any = MISSING  # a list of names, or of names with numbers
    resamples: int = MISSING
    seed: int = MISSING
    report: bool = MISSING


@dataclasses.dataclass
class CompareConfig:
    runs: Any = MISSING  # a folder or a list of them
    best: int | None = MISSING
    split: EvaluatedSplit = MISSING
    unit: Unit | None = MISSING
    reduce: Reduce = MISSING
    subgroups: Any = MISSING  # as of EvaluateConfig
    pictures: int = MISSING
    output: str | None = MISSING


@dataclasses.dataclass
class RunsConfig:
    folder: str = MISSING
    sort: RunOrder = MISSING
    output: str | None = MISSING


@dataclasses.dataclass
class PredictConfig:
    run: str = MISSING
    input: str = MISSING
    output: str = MISSING
    outputs: list[PredictOutput] = MISSING
    heatmaps: str | None = MISSING
    heatmap: Heatmap = MISSING
    heatmap_layer: str | None = MISSING
    hanging: bool = MISSING
    reduce: Reduce = MISSING
    table: str | None = MISSING
    secondary: bool = MISSING
    include: list[OtherImage] = MISSING
    workers: int = MISSING
    batch_size: int = MISSING


@dataclasses.dataclass
class ExportConfig:
    run: str = MISSING
    format: ExportFormat = MISSING
    output: str = MISSING


@dataclasses.dataclass
class AuditConfig:
    data: Any = MISSING
    input: str | None = MISSING
    pixels: bool = MISSING
    sheet: str | None = MISSING
    output: str | None = MISSING


@dataclasses.dataclass
class PrepareConfig:
    data: Any = MISSING


@dataclasses.dataclass
class DownloadConfig:
    data: Any = MISSING
    patients: int | None = MISSING
    masks: bool = MISSING
    crops: bool = MISSING
    prepare: bool = MISSING
    endpoint: str = MISSING
    index: str | None = MISSING
    tables: str = MISSING


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
    data: Any = MISSING
    task: TaskConfig = MISSING
    model: Any = MISSING
    augment: Any = MISSING
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


# class of the whole configuration that each command takes
COMMANDS: dict[str, type] = {
    "train": TrainConfig,
    "sweep": SweepConfig,
    "download": DownloadConfig,
    "audit": AuditConfig,
    "prepare": PrepareConfig,
    "evaluate": EvaluateConfig,
    "compare": CompareConfig,
    "runs": RunsConfig,
    "predict": PredictConfig,
    "export": ExportConfig,
    "bench": BenchConfig,
    "simulate": SimulateConfig,
}


def register_schema() -> None:
    """Store every schema under the name that `conf/` uses."""
    keep_config_store_uncopied()
    store = ConfigStore.instance()
    for name, root in COMMANDS.items():
        store.store(group="schema", name=name, node=root)
    nodes: dict[str, dict[str, type]] = {
        "data": {
            "phantom": PhantomConfig,
            "cbis_ddsm": CbisDdsmConfig,
            "csv": CsvConfig,
            "public_set": PublicSetConfig,
            "birads_set": BiradsSetConfig,
            "combined": CombinedConfig,
        },
        "model": {"backbone": BackboneConfig, "custom_cnn": CustomCnnConfig},
        "pool": {"pool": PoolConfig, "gem": GemConfig, "attention": AttentionPoolConfig},
        "head": {
            "global": HeadConfig,
            "patch_map": PatchMapConfig,
            "mil": CropMilConfig,
            "residual_blocks": ResidualBlocksConfig,
        },
        "augment": {"batch_augment": AugmentConfig},
        "optim": {"adam": AdamConfig, "momentum": MomentumConfig},
        "schedule": {
            "constant": ScheduleConfig,
            "step": StepConfig,
            "cosine": CosineConfig,
            "onecycle": OneCycleConfig,
            "plateau": PlateauConfig,
            "multistep": MultiStepConfig,
        },
        "loss": {"cross_entropy": LossConfig, "focal": FocalConfig},
        "sweep": {"search": SearchConfig, "study": StudyConfig},
    }
    store.store(group="schema/launcher", name="slurm", node=slurm_launcher())
    for group, choices in nodes.items():
        for name, node in choices.items():
            store.store(group=f"schema/{group}", name=name, node=node)
