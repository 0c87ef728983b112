"""Configurations composed from overrides, in a process that Hydra started as in one that it did not."""

from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from mammo.command import own_hydra, sentence
from mammo.config import check
from mammo.errors import ConfigError


def compose_train(overrides: list[str]) -> DictConfig:
    """The checked configuration that train.py gets, resolved: it needs no Hydra, nor leaves any of it behind.

    Raises:
        ConfigError: an override is wrong, naming it.
    """
    cfg, _ = compose_with_choices("train", overrides)
    check(cfg)
    return cfg


def compose_search(name: str) -> dict[str, Any]:
    """The settings of a search or study of `conf/sweep`, the node `sweep` of what sweep.py gets.

    Raises:
        ConfigError: there is none of that name, or it is not well-formed.
    """
    cfg, _ = compose_with_choices("sweep", [f"sweep={name}"])
    settings = OmegaConf.to_container(cfg.sweep, enum_to_str=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


def compose_with_choices(name: str, overrides: list[str]) -> tuple[DictConfig, dict[str, str | None]]:
    """A configuration, not checked, and what was chosen in each group.

    Args:
        name: of the file in `conf`.
        overrides: of it.

    Raises:
        ConfigError: an override is wrong, naming it.
    """
    try:
        with own_hydra():
            cfg = compose(name, overrides, return_hydra_config=True)
            HydraConfig.instance().set_config(cfg)
            choices = dict(cfg.hydra.runtime.choices)
            with open_dict(cfg):
                del cfg["hydra"]
            OmegaConf.resolve(cfg)  # while ${hydra:...} is there
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(sentence(error, name, overrides)) from error
    return cfg, choices


def options_of(group: str) -> list[str]:
    """The choices there are in a group."""
    with own_hydra():
        return list(GlobalHydra.instance().config_loader().get_group_options(group))
