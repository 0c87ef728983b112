"""Keys that are used only together with another key, and are refused on the command line without it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mammo.config.arguments import by_key
from mammo.config.choices import WITH_BACKGROUND, WITHOUT_LAYER
from mammo.config.data.data_schema import PatchConfig
from mammo.errors import ConfigError


@dataclass(frozen=True)
class _Rule:
    keys: tuple[str, ...]
    without: tuple[Any, ...]  # values that ask for nothing
    is_used: Callable[[DictConfig], bool]
    remedy: str


def _is_one_network(cfg: DictConfig) -> bool:
    """Whether each image may have the score of one network: of one run, or of the fold it is held out in."""
    several = OmegaConf.is_list(cfg.run) and len(cfg.run) > 1
    return cfg.predictions is None and (not several or (cfg.split == "val" and cfg.data is None))


def _has_boxes(cfg: DictConfig) -> bool:
    """Whether the network returns boxes; one of the user's own may."""
    return bool(cfg.model.get("box_head")) or not _is_ours(cfg)


def _is_ours(cfg: DictConfig, part: str = "model") -> bool:
    """Whether a part is of this package, not of the user's own."""
    return str(OmegaConf.select(cfg, f"{part}._target_")).startswith("mammo.")


def _map_pool(cfg: DictConfig) -> str | None:
    """Return the pooling of the map; None if the head is none of this package's with a choice of it."""
    pool: str | None = OmegaConf.select(cfg, "model.head.pool")
    return pool if _is_ours(cfg, "model.head") else None


_KFOLD = "is used with data.split=kfold only; give that too, or leave it out"
_TRAINING = (
    _Rule(("data.fold",), (0,), lambda cfg: bool(cfg.data.split == "kfold"), _KFOLD),
    _Rule(("data.folds",), (5,), lambda cfg: bool(cfg.data.split == "kfold"), _KFOLD),
    _Rule(
        ("data.val_fraction",),
        (0.2,),
        lambda cfg: cfg.data.split in ("official", "clean"),
        "is used with data.split=official or clean only; leave it out",
    ),
    _Rule(
        tuple(f"data.patch.{field.name}" for field in fields(PatchConfig)),
        (),
        lambda cfg: bool(cfg.data.get("sample_unit") == "patch"),
        "is used with data.sample_unit=patch only; give that too, or leave it out",
    ),
    _Rule(
        ("model/pool",),
        (),
        lambda cfg: _map_pool(cfg) is None or OmegaConf.select(cfg, "model.pool.pool_type") == "avg",
        "is not used with model/head=patch_map, which pools scores; give model.head.pool, or leave it out",
    ),
    _Rule(
        ("model.head.top_k",),
        (),
        lambda cfg: _map_pool(cfg) in (None, "top_k", "positive_odds"),
        "is used with model.head.pool=top_k and positive_odds only; leave it out",
    ),
    _Rule(
        ("model.head.sharpness",),
        (),
        lambda cfg: _map_pool(cfg) in (None, "lse"),
        "is used with model.head.pool=lse only; give that too, or leave it out",
    ),
    _Rule(
        ("model.head.odds_power",),
        (1.0,),
        lambda cfg: _map_pool(cfg) in (None, "lesion_weighted"),
        "is used with model.head.pool=lesion_weighted only; give that too, or leave it out",
    ),
    _Rule(
        ("loss.cell_weight",),
        (0.0,),
        lambda cfg: _map_pool(cfg) in WITH_BACKGROUND or not _is_ours(cfg),
        "is used with model.head.pool=lesion_weighted and positive_odds only; give one, or leave it out",
    ),
    _Rule(
        ("data.batch_masks",),
        (False,),
        lambda cfg: bool(cfg.loss.get("cell_weight")) or not _is_ours(cfg, "loss"),
        "is used with loss.cell_weight above 0, or a loss of your own; give one, or leave it out",
    ),
    _Rule(
        ("loss.box_weight",),
        (1.0,),
        _has_boxes,
        "is used with model.box_head=true only; give that too, or leave it out",
    ),
)
_RULES: dict[str, tuple[_Rule, ...]] = {
    "train": _TRAINING,
    "bench": _TRAINING,
    "evaluate": (
        _Rule(
            ("split", "tta", "data"),
            ("val", "none", None),
            lambda cfg: cfg.predictions is None,
            "the images of predictions=FILE are in the file; leave it out",
        ),
        _Rule(
            ("heatmap", "heatmap_layer", "hanging"),
            ("auto", "none", None, True),
            _is_one_network,
            "heatmaps are made for one run, or for the val images of folds; leave it out",
        ),
        _Rule(
            ("heatmap_layer",),
            (None,),
            lambda cfg: cfg.heatmap not in ("none", *WITHOUT_LAYER),
            "the method of the heatmaps uses no layer; leave it out, or give another heatmap=",
        ),
        _Rule(
            ("hanging",),
            (True,),
            lambda cfg: cfg.heatmap != "none",
            "there are no pictures without heatmaps; leave it out, or give another heatmap=",
        ),
    ),
    "predict": (
        _Rule(
            ("hanging",),
            (True,),
            lambda cfg: cfg.heatmap != "none" and (cfg.heatmaps is not None or "html" in cfg.outputs),
            "is of the pictures; give heatmaps=DIR or outputs=[csv,html] too, or leave it out",
        ),
        _Rule(
            ("heatmap", "heatmap_layer"),
            ("auto", None),
            lambda cfg: cfg.heatmaps is not None or "html" in cfg.outputs or "dicom" in cfg.outputs,
            "is of the heat; give heatmaps=DIR or outputs=[csv,html] too, or leave it out",
        ),
        _Rule(
            ("heatmap_layer",),
            (None,),
            lambda cfg: cfg.heatmap not in ("none", *WITHOUT_LAYER),
            "the method of the heat uses no layer; leave it out, or give another heatmap=",
        ),
        _Rule(
            ("heatmaps",),
            (None,),
            lambda cfg: cfg.heatmap != "none",
            "there are no pictures with heatmap=none; leave one of them out",
        ),
    ),
    "compare": (
        _Rule(
            ("reduce",),
            ("mean",),
            lambda cfg: bool(cfg.unit in ("breast", "patient")),
            "a sample has one score; give unit=breast or patient too, or leave it out",
        ),
    ),
}


def refuse_unused(command: str, cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Refuse keys of the command line that would have no effect; those of a sweep's jobs are not refused.

    Args:
        command: name of the command.
        cfg: composed configuration.
        overrides: overrides of the command line.

    Raises:
        ConfigError: a key has no effect.
    """
    given = by_key(overrides)
    for rule in _RULES.get(command, ()):
        for key in rule.keys:
            if key in given and OmegaConf.select(cfg, key) not in rule.without and not rule.is_used(cfg):
                raise ConfigError(f"{given[key]}: {rule.remedy}")
