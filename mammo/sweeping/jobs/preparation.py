"""Checks and preparation that all jobs of a multirun or search share, before the first one begins."""

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mammo.config.checks import CONF, arguments_for


def check_networks(configs: Sequence[DictConfig]) -> None:
    """Check the names of the networks; only that of a name that is not in `conf/model` takes seconds.

    Raises:
        ConfigError: timm has no network of a name.
    """
    own = {OmegaConf.select(OmegaConf.load(file), "name") for file in (CONF / "model").glob("*.yaml")}
    if names := {cfg.model.name for cfg in configs} - own:
        from mammo.models.backbones import check_name

        for name in sorted(names):
            check_name(name)


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
