"""The schema of the node `data`: name, type and choices of every key."""

import dataclasses
from typing import Any

from omegaconf import MISSING

from mammo.config.choices import (
    Abnormality,
    Aspect,
    Balance,
    Birads3,
    Crop,
    ForProcessing,
    Normalisation,
    SampleUnit,
    SplitName,
)


@dataclasses.dataclass
class PatchConfig:
    """The keys of `data.patch`, the patches of `data.sample_unit=patch`."""

    size: Any = MISSING  # a number, or height and width
    per_lesion: int = MISSING
    per_image: int = MISSING
    overlap: float = MISSING
    hard_negatives: str | None = None


@dataclasses.dataclass
class DataConfig:
    """The keys of every data set, whatever its reader."""

    seed: int = MISSING
    store: str = MISSING
    height: int = MISSING
    width: int = MISSING
    crop: Crop = MISSING
    aspect: Aspect = MISSING
    white: Any = MISSING  # auto, file or a number
    window: str | None = MISSING
    for_processing: ForProcessing = MISSING
    masks: bool = MISSING
    max_rejected: float = MISSING
    workers: int = MISSING
    sample_unit: SampleUnit = MISSING
    views: list[str] | None = MISSING
    split: SplitName = MISSING
    fold: int = MISSING
    folds: int = MISSING
    val_fraction: float = MISSING
    sample: list[int] | None = MISSING
    split_file: str | None = MISSING
    batch_size: int | None = MISSING
    micro_batches: int = MISSING
    loader_workers: int | None = MISSING
    batch_masks: bool = MISSING
    balance: Balance = MISSING
    normalisation: Normalisation = MISSING
    patch: PatchConfig = dataclasses.field(default_factory=PatchConfig)


@dataclasses.dataclass
class PhantomConfig(DataConfig):
    _target_: str = MISSING
    root: str = MISSING
    patients: int = MISSING
    difficulty: float = MISSING
    obscured: float = MISSING
    film_scale: int = MISSING


@dataclasses.dataclass
class CbisDdsmConfig(DataConfig):
    _target_: str = MISSING
    root: str = MISSING
    cases: str | None = MISSING
    abnormality: Abnormality = MISSING


@dataclasses.dataclass
class ColumnsConfig:
    """The keys of `data.columns`: for a column of this package, its name in the tables."""

    image_path: str | None = None
    patient_id: str | None = None
    image_id: str | None = None
    pathology: str | None = None
    laterality: str | None = None
    view: str | None = None
    density: str | None = None
    assessment: str | None = None
    subtlety: str | None = None
    abnormality_type: str | None = None
    official_split: str | None = None
    study_date: str | None = None
    exam_id: str | None = None
    age: str | None = None
    manufacturer: str | None = None
    implant: str | None = None
    x_min: str | None = None
    y_min: str | None = None
    x_max: str | None = None
    y_max: str | None = None
    mask_path: str | None = None


@dataclasses.dataclass
class LabelsConfig:
    """The keys of `data.labels`: for a diagnosis, its words in the tables, one or a list."""

    MALIGNANT: Any = None
    BENIGN: Any = None
    NORMAL: Any = None


@dataclasses.dataclass
class CsvConfig(DataConfig):
    _target_: str = MISSING
    root: str = MISSING
    table: str = MISSING
    sheet: str | None = MISSING
    lesions: str | None = MISSING
    lesions_sheet: str | None = MISSING
    columns: ColumnsConfig = dataclasses.field(default_factory=ColumnsConfig)
    labels: LabelsConfig = dataclasses.field(default_factory=LabelsConfig)


@dataclasses.dataclass
class PublicSetConfig(DataConfig):
    _target_: str = MISSING
    root: str = MISSING


@dataclasses.dataclass
class BiradsSetConfig(PublicSetConfig):
    birads_3: Birads3 = MISSING


@dataclasses.dataclass
class SetsConfig:
    """The keys of `data.sets`: the folder of a set, or a mapping of its keys."""

    cbis_ddsm: Any = None
    csv: Any = None
    inbreast: Any = None
    vindr_mammo: Any = None
    cmmd: Any = None
    rsna: Any = None
    embed: Any = None
    mini_mias: Any = None


@dataclasses.dataclass
class CombinedConfig(DataConfig):
    _target_: str = MISSING
    sets: SetsConfig = dataclasses.field(default_factory=SetsConfig)
    train_on: list[str] | None = MISSING
    test_on: list[str] | None = MISSING
