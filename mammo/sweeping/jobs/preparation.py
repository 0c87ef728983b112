"""Checks and preparation that all jobs of a multirun or search share, before the first one begins."""

from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mammo.config.checks import arguments_for, plain
from mammo.config.composition import options_of
from mammo.fast_imports import quick_imports

_PARTS = ("data", "model", "model.pool", "augment", "optim", "schedule", "loss")


def require_parts(configs: Sequence[DictConfig]) -> None:
    """Refuse networks that timm does not have, and wrong parts of the user's own, before a job is begun.

    Args:
        configs: configuration of each training.

    Raises:
        ConfigError: a part is wrong; the message names it.
    """
    shipped = [cfg.model for cfg in configs if not _is_own(cfg.model)]
    named = {name for node in shipped if (name := node.get("name"))} - set(options_of("model"))
    own = [
        cfg
        for cfg in configs
        if cfg.callbacks or cfg.get("metrics") or any(_is_own(OmegaConf.select(cfg, key)) for key in _PARTS)
    ]
    if named or own:
        with quick_imports():  # they take seconds, and the choices of `conf` need no check
            from mammo.models.backbones import require_network
            from mammo.training.part_checks import check_parts

        for name in sorted(named):
            require_network(name)
        for cfg in own:
            check_parts(cfg)


def _is_own(node: DictConfig | None) -> bool:
    """Return whether a node has no schema, unlike those that this package ships."""
    return node is not None and not is_dataclass(OmegaConf.get_type(node))


def prepare_stores(configs: Sequence[DictConfig]) -> None:
    """Prepare the image stores that the configs need, each once."""
    from mammo.data.sources.reader import check_source, read_catalog
    from mammo.data.store.store import prepare

    done: list[dict[str, Any]] = []
    for cfg in configs:
        data, settings = plain(cfg.data), arguments_for(prepare, cfg.data)
        if (needed := check_source(data) | settings) not in done:
            done.append(needed)
            prepare(read_catalog(data), **settings)
