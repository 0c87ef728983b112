"""The schema of the node `model` and of the nodes inside it: name, type and choices of every key."""

import dataclasses
from typing import Any

from omegaconf import MISSING

from mammo.config.choices import Activation, Fusion, FusionLevel, MapPool, Norm, PoolType


@dataclasses.dataclass
class ModelConfig:
    _target_: str = MISSING
    weights: str | None = MISSING
    pool: Any = MISSING  # a node with `_target_`
    dropout: float = MISSING
    box_head: bool = MISSING
    fusion: Fusion = MISSING
    fusion_level: FusionLevel = MISSING
    share_views: bool = MISSING
    head: Any = MISSING  # a node with `_target_`


@dataclasses.dataclass
class GemConfig:
    _target_: str = MISSING


@dataclasses.dataclass
class PoolConfig(GemConfig):
    pool_type: PoolType = MISSING


@dataclasses.dataclass
class AttentionPoolConfig(GemConfig):
    hidden: int = MISSING


@dataclasses.dataclass
class HeadConfig:
    _target_: str = MISSING


@dataclasses.dataclass
class PatchMapConfig(HeadConfig):
    pool: MapPool = MISSING
    top_k: float = MISSING
    sharpness: float = MISSING
    window: int = MISSING
    odds_power: float = MISSING


@dataclasses.dataclass
class CropMilConfig(HeadConfig):
    top_k: float = MISSING
    reduce: int = MISSING
    crop: int = MISSING
    crops: int = MISSING
    hidden: int = MISSING


@dataclasses.dataclass
class ResidualBlocksConfig(HeadConfig):
    blocks: int = MISSING
    hidden: int = MISSING
    out: int = MISSING


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
