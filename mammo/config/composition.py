"""Composition of configurations from overrides, in any process, whether Hydra started it or not."""

import contextlib
import copy
import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from mammo.compat import child_node
from mammo.config.checks import CONF, check, nearest
from mammo.config.schema import register_schema
from mammo.errors import ConfigError

register_schema()

_config_dirs: list[Path] = []


def use_config_dirs(config: DictConfig | HydraConf) -> None:
    """Compose from now on also from the config folders that the user gave to the command, by `--config-dir`.

    Args:
        config: node `hydra` of the configuration of the command.
    """
    folders = [Path(source.path) for source in config.runtime.config_sources if source.schema == "file"]
    _config_dirs[:] = [folder for folder in folders if folder != CONF]


def config_dirs() -> tuple[Path, ...]:
    """Return the folders of `use_config_dirs`."""
    return tuple(_config_dirs)


def compose_train(overrides: list[str]) -> DictConfig:
    """Return the checked and resolved configuration of train.py; the global state of Hydra is unchanged.

    Raises:
        ConfigError: an override is wrong; the message names it.
    """
    cfg, _ = compose_with_choices("train", overrides)
    check(cfg)
    return cfg


def compose_trainings(trainings: Sequence[list[str]]) -> list[DictConfig]:
    """Return `compose_train` of each training; Hydra composes once for all that choose the same groups.

    Args:
        trainings: overrides of each training.

    Raises:
        ConfigError: an override is wrong; the message names it.
    """
    bases: dict[tuple[str, ...], DictConfig] = {}
    return [_compose_like(bases, overrides) for overrides in trainings]


def _compose_like(bases: dict[tuple[str, ...], DictConfig], overrides: list[str]) -> DictConfig:
    """Return `compose_train`, from the configuration without the overrides that only set a value."""
    try:
        chosen = tuple(override for override in overrides if chooses(override))
        with own_hydra():
            if chosen not in bases:
                bases[chosen] = _compose("train", list(chosen))
            cfg = copy.deepcopy(bases[chosen])
            for override in overrides:
                if not chooses(override):
                    OmegaConf.update(cfg, _parsed(override).key_or_group, _parsed(override).value())
            cfg = _resolved(cfg)
    except (HydraException, OmegaConfBaseException):
        return compose_train(overrides)  # for its message
    check(cfg)
    return cfg


def chooses(override: str) -> bool:
    """Return whether an override does more than change the value of a key, such as choose from a group."""
    parsed = _parsed(override)
    key = parsed.key_or_group
    changes = parsed.type == OverrideType.CHANGE and not parsed.is_sweep_override()
    return not changes or parsed.package is not None or key.startswith("hydra") or (CONF / key).is_dir()


@functools.cache
def _parsed(override: str) -> Override:
    return OverridesParser.create().parse_override(override)


def compose_search(name: str) -> dict[str, Any]:
    """Return the settings of a search or study of `conf/sweep`: the node `sweep` of the config of sweep.py.

    Raises:
        ConfigError: there is no search or study of that name, or its file is not valid.
    """
    cfg, _ = compose_with_choices("sweep", [f"sweep={name}"])
    settings = OmegaConf.to_container(cfg.sweep, enum_to_str=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


def compose_with_choices(name: str, overrides: list[str]) -> tuple[DictConfig, dict[str, str | None]]:
    """Return a configuration without checking it, and the choice of each group.

    Args:
        name: name of the file in `conf`.
        overrides: overrides of the command line.

    Raises:
        ConfigError: an override is wrong; the message names it.
    """
    try:
        with own_hydra():
            cfg = _compose(name, overrides)
            choices = dict(cfg.hydra.runtime.choices)
            cfg = _resolved(cfg)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(composition_error(error, name, overrides)) from error
    return cfg, choices


def _compose(name: str, overrides: list[str]) -> DictConfig:
    """Return a configuration with the node `hydra`, not resolved."""
    places = ",".join(f"file://{folder}" for folder in _config_dirs)
    path = [f"hydra.searchpath=[{places}]"] if places else []
    return hydra.compose(name, [*path, *overrides], return_hydra_config=True)


def _resolved(cfg: DictConfig) -> DictConfig:
    """Resolve a configuration and remove its node `hydra`, which `${hydra:...}` refers to."""
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    OmegaConf.resolve(cfg)
    return cfg


def options_of(group: str) -> list[str]:
    """Return the choices of a group."""
    with own_hydra():
        return list(GlobalHydra.instance().config_loader().get_group_options(group))


@contextlib.contextmanager
def own_hydra() -> Iterator[None]:
    """Context manager for Hydra's compose API over `conf/`; it restores Hydra's state in this process."""
    app, job, name = (
        GlobalHydra.instance().hydra,
        HydraConfig.instance().cfg,
        JobRuntime.instance().get("name"),
    )
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg = app, job
        JobRuntime.instance().set("name", name)


def composition_error(error: Exception, config_name: str, overrides: list[str]) -> str:
    """Return a message of Hydra or OmegaConf, which has several lines, as one sentence.

    Args:
        error: error of Hydra or OmegaConf.
        config_name: name of the composed configuration.
        overrides: arguments of the command line, including options.
    """
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        options = [option for option in error.options if not option.startswith("_")]
        return f"{group}={choice}: no such choice; choose from {', '.join(options)}"
    override = next((argument for argument in overrides if _names(argument, error)), None)
    if override and re.search(r"not in struct|Could not override|not in '", f"{error}{error.__cause__}"):
        key = override.partition("=")[0].lstrip("+~")
        known = _known_keys(config_name, overrides)
        if key in known:
            return f"{override}: {key} has no such key; give +{override} to add it"
        return f"{override}: no such key{nearest(key, known)}"
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    reason = str(cause).partition("\n")[0].rstrip(".")
    return f"{override}: {reason}" if override else reason


def keys_of(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield all keys of a configuration as dotted names."""
    for key in map(str, node):
        yield f"{prefix}{key}"
        if isinstance(child := child_node(node, key), DictConfig):
            yield from keys_of(child, f"{prefix}{key}.")


def _names(argument: str, error: Exception) -> bool:
    key = argument.partition("=")[0].lstrip("+~")
    return not argument.startswith("-") and (argument in str(error) or f"'{key}'" in str(error))


def _known_keys(config_name: str, overrides: list[str]) -> list[str]:
    """Return all keys and groups of the configuration with the group choices among the overrides."""
    groups = {folder.name for folder in CONF.iterdir() if folder.is_dir()}
    choices = [override for override in overrides if override.partition("=")[0] in groups]
    with own_hydra():
        return list(keys_of(hydra.compose(config_name, overrides=choices)))
