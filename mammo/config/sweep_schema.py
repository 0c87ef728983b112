"""The keys of a search and of a study, with their types."""

import dataclasses
from typing import Any

from omegaconf import MISSING

from mammo.config.choices import MeanOver, Phase, PrunerName, SamplerName


@dataclasses.dataclass
class SamplerConfig:
    name: SamplerName = MISSING
    startup_trials: int = MISSING


@dataclasses.dataclass
class PrunerConfig:
    name: PrunerName = MISSING
    min_epochs: int = MISSING
    reduction_factor: int = MISSING
    startup_trials: int = MISSING


@dataclasses.dataclass
class BudgetConfig:
    trials: int | None = MISSING
    hours: float | None = MISSING


@dataclasses.dataclass
class ObjectiveConfig:
    over: MeanOver = MISSING
    count: int = MISSING


@dataclasses.dataclass
class SearchConfig:
    name: str = MISSING
    overrides: list[str] = MISSING
    space: dict[str, Any] = MISSING  # a domain for each key, see mammo/sweeping/search/search_space.py
    sampler: SamplerConfig = MISSING
    pruner: PrunerConfig = MISSING
    budget: BudgetConfig = MISSING
    objective: ObjectiveConfig = MISSING
    workers: int = MISSING
    seed: int = MISSING
    stale_seconds: float = MISSING


@dataclasses.dataclass
class StudyConfig:
    name: str = MISSING
    searches: list[str] = MISSING
    trials: int | None = MISSING
    tune: list[str] = MISSING
    train: list[str] = MISSING
    workers: int = MISSING
    stale_seconds: float = MISSING


@dataclasses.dataclass
class SweepConfig:
    sweep: Any = MISSING  # a SearchConfig or a StudyConfig
    sweep_dir: str = MISSING
    detach: bool = MISSING
    status: bool = MISSING
    stop: bool = MISSING
    phase: Phase | None = MISSING
