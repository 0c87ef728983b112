"""Checks and preparation that all jobs of a multirun or search share, before the first one begins."""

from collections.abc import Iterable, Sequence
from typing import Any

from omegaconf import DictConfig

from mammo.config.checks import arguments_for
from mammo.config.composition import options_of
from mammo.fast_imports import quick_imports


def require_networks(names: Iterable[str]) -> None:
    """Refuse a network that timm does not have, before a trial is begun.

    Args:
        names: `model.name` of each training.

    Raises:
        ConfigError: there is no such network.
    """
    if others := set(names) - set(options_of("model")):
        with quick_imports():  # timm takes seconds to import, and the networks of conf/model need no check
            from mammo.models.backbones import require_network

        for name in sorted(others):
            require_network(name)


def prepare_stores(configs: Sequence[DictConfig]) -> None:
    """Prepare the image stores that the configs need, each once."""
    from mammo.data.sources.reader import read_catalog
    from mammo.data.store.store import prepare

    done: list[dict[str, Any]] = []
    for cfg in configs:
        source, settings = arguments_for(read_catalog, cfg.data), arguments_for(prepare, cfg.data)
        if (needed := source | settings) not in done:
            done.append(needed)
            prepare(read_catalog(**source), **settings)
