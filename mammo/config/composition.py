"""Composition of configurations from overrides, in any process, whether Hydra started it or not."""

import contextlib
import copy
import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
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
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from mammo.compat import child_node
from mammo.config.arguments import command_line, commands_with, groups_of, standard_overrides
from mammo.config.checks import CONF, check, nearest, plain
from mammo.config.schema import register_schema
from mammo.config.trainer.trainer_keys import explained, explained_value
from mammo.config.usual_names import usual_name
from mammo.errors import ConfigError

register_schema()

_config_dirs: list[Path] = []


def use_config_dirs(config: DictConfig | HydraConf) -> None:
    """Compose from now on also from the config folders that the user gave to the command, by `--config-dir`.

    Args:
        config: node `hydra` of the configuration of the command.
    """
    search_in(Path(source.path) for source in config.runtime.config_sources if source.schema == "file")


def search_in(folders: Iterable[Path]) -> None:
    """Compose from now on also from these config folders."""
    _config_dirs[:] = [folder for folder in folders if folder != CONF]


@contextlib.contextmanager
def extra_config_dirs(folders: Sequence[Path]) -> Iterator[None]:
    """Context manager in which configurations are composed also from these folders.

    Raises:
        ConfigError: a folder does not exist.
    """
    before = _config_dirs[:]
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"config_dir={folder}: no such folder")
    _config_dirs[:] = [folder.absolute() for folder in folders]
    try:
        yield
    finally:
        _config_dirs[:] = before


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
    compositions = Compositions()
    return [compositions.training(overrides) for overrides in trainings]


class Compositions:
    """Configurations of train.py; Hydra composes once for all that choose the same groups."""

    def __init__(self) -> None:
        self._bases: dict[tuple[str, ...], DictConfig] = {}

    def training(self, overrides: list[str]) -> DictConfig:
        """Return `compose_train`.

        Raises:
            ConfigError: an override is wrong; the message names it.
        """
        cfg = self.unchecked(overrides)
        check(cfg)
        return cfg

    def unchecked(self, overrides: list[str]) -> DictConfig:
        """Return the resolved configuration, in which values may be missing.

        Raises:
            ConfigError: an override is wrong; the message names it.
        """
        try:
            chosen = tuple(override for override in overrides if chooses(override))
            with own_hydra():
                if chosen not in self._bases:
                    self._bases[chosen] = _compose("train", list(chosen))
                cfg = copy.deepcopy(self._bases[chosen])
                for override in overrides:
                    if not chooses(override):
                        OmegaConf.update(cfg, _parsed(override).key_or_group, _parsed(override).value())
                return _resolved(cfg)
        except (HydraException, OmegaConfBaseException):
            return compose_with_choices("train", overrides)[0]  # for its message


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
    return plain(cfg.sweep)


def compose_with_choices(name: str, overrides: list[str]) -> tuple[DictConfig, dict[str, str | None]]:
    """Return a configuration without checking it, and the choice of each group.

    Args:
        name: name of the file in `conf`.
        overrides: overrides of the command line.

    Raises:
        ConfigError: an override is wrong; the message names it.
    """
    with _composing(name, overrides):
        cfg = _compose(name, overrides)
        choices = dict(cfg.hydra.runtime.choices)
        return _resolved(cfg), choices


@dataclass(frozen=True)
class Group:
    """A group of a command: the choice in force, which is None for no choice, and all choices."""

    choice: str | None
    options: list[str]


def compose_with_groups(name: str, overrides: list[str]) -> tuple[DictConfig, DictConfig, dict[str, Group]]:
    """Return a resolved configuration, the node of its launcher, and its groups without those of Hydra.

    Args:
        name: name of the file in `conf`.
        overrides: overrides of the command line.

    Raises:
        ConfigError: an override is wrong; the message names it.
    """
    with _composing(name, overrides):
        cfg = _compose(name, overrides)
        options = GlobalHydra.instance().config_loader().get_group_options
        groups = {
            group.partition("@")[0]: Group(choice, [each for each in options(group) if each[0] != "_"])
            for group, choice in cfg.hydra.runtime.choices.items()
            if group == "hydra/launcher" or not (group.startswith(("schema/", "hydra/")) or "/_" in group)
        }
        launcher = cfg.hydra.launcher
        HydraConfig.instance().set_config(cfg)
        with read_write(launcher):
            OmegaConf.resolve(launcher)
        return _resolved(cfg), launcher, groups


@contextlib.contextmanager
def _composing(name: str, overrides: list[str]) -> Iterator[None]:
    """Context manager of `own_hydra` in which an error of Hydra or OmegaConf is one sentence."""
    try:
        with own_hydra():
            yield
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(composition_error(error, name, overrides)) from error


def _compose(name: str, overrides: list[str]) -> DictConfig:
    """Return a configuration with the node `hydra`, not resolved."""
    places = ",".join(f"file://{folder}" for folder in _config_dirs)
    path = [f"hydra.searchpath=[{places}]"] if places else []
    return hydra.compose(name, [*path, *standard_overrides(name, overrides)], return_hydra_config=True)


def _resolved(cfg: DictConfig) -> DictConfig:
    """Resolve a configuration and remove its node `hydra`, which `${hydra:...}` refers to."""
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    OmegaConf.resolve(cfg)
    return cfg


def options_of(group: str) -> list[str]:
    """Return the choices of a group, in `conf` and in the user's config folders."""
    files = {file.stem for folder in (CONF, *_config_dirs) for file in (folder / group).glob("*.yaml")}
    return sorted(name for name in files if not name.startswith("_"))


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
    if among_several := re.search(r"Could not load '(.+)/(.+)'", str(error)):  # GROUP=[CHOICE,CHOICE]
        group, choice = among_several.groups()
        return f"{group}={choice}: no such choice; choose from {', '.join(options_of(group))}"
    override = next((argument for argument in overrides if _names(argument, error)), None)
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    reason = str(cause).partition("\n")[0].rstrip(".")
    if override is None:
        return reason
    key, _, value = override.lstrip("+~").partition("=")
    if re.search(r"not in struct|Could not override|not in '|Could not delete", f"{error}{error.__cause__}"):
        return f"{override}: {explained(key) or _unknown_key(key, config_name, overrides)}"
    if explanation := explained_value(override):
        return f"{override}: {explanation}"
    for found, sentence in (
        ("already at", f"there is such a key; give {key}={value}"),
        ("not Optional", "must have a value"),
        ("does not support deletion", f"only a group can be removed; give {key}=VALUE"),
    ):
        if found in reason:
            return f"{override}: {sentence}"
    return f"{override}: {reason}"


def _unknown_key(key: str, command: str, overrides: list[str]) -> str:
    """Return why a command has no such key, and what to give instead."""
    known = _known_keys(command, overrides)
    if key in known:
        return f"{key} has no such key; give +{key}=VALUE to add it"
    owners = commands_with(key)
    if owners and command not in owners and ("." in key or usual_name(key, known) is None):
        return f"no such key; it is for {' or '.join(map(command_line, owners))}"
    advice, node = nearest(key, known), key.rpartition(".")[0]
    if advice == f"; did you mean {node}?":  # that is what the key was given for
        names = [name.removeprefix(f"{node}.") for name in known if name.startswith(f"{node}.")]
        advice = f"; {node} has {', '.join(sorted(name for name in names if '.' not in name))}"
    return f"no such key{advice}"


def keys_of(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield all keys of a configuration as dotted names."""
    for key in map(str, node):
        yield f"{prefix}{key}"
        if isinstance(child := child_node(node, key), DictConfig):
            yield from keys_of(child, f"{prefix}{key}.")


def _names(argument: str, error: Exception) -> bool:
    key = argument.partition("=")[0].lstrip("+~")
    return not argument.startswith("-") and (argument in str(error) or f"'{key}'" in str(error))


def _known_keys(command: str, overrides: list[str]) -> list[str]:
    """Return all keys and groups of the configuration with the group choices among the overrides."""
    groups = groups_of(command)
    choices = [override for override in overrides if override.partition("=")[0] in groups and "=" in override]
    with own_hydra():
        try:
            cfg = _compose(command, choices)
        except HydraException:  # another mistake
            cfg = _compose(command, [])
    return list({*keys_of(cfg), *groups})
