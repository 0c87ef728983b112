"""The decorator that turns a function of the config into a command whose errors are one sentence."""

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mammo.config import CONF, check, nearest
from mammo.errors import ConfigError, MammoError


def hydra_main(config_name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Decorator: a function of the checked config becomes a command whose errors are one sentence."""

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        def checked(cfg: DictConfig) -> Any:
            try:
                check(cfg)
                return task(cfg)
            except MammoError as error:
                if HydraConfig.get().mode == RunMode.MULTIRUN:
                    raise  # the other jobs go on
                _stop(str(error))

        # hydra names the job after the module of the function it is given
        checked.__module__, checked.__qualname__ = task.__module__, task.__qualname__

        def command() -> None:
            # without it hydra prints errors its own way, a traceback for those of the task
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")
            try:
                hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(checked)()
            except MammoError as error:
                _stop(str(error))
            except (HydraException, OmegaConfBaseException) as error:  # of which some are OSErrors
                _stop(sentence(error, config_name, sys.argv[1:]))
            except OSError as error:  # such as a folder of Hydra's that cannot be made
                if error.filename is None:
                    raise
                _stop(f"{error.filename}: {error.strerror}")

        return command

    return decorate


@contextlib.contextmanager
def own_hydra() -> Iterator[None]:
    """Hydra's compose API over `conf/`, beside what it has set in this process, which stays as it was."""
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


def sentence(error: Exception, config_name: str, overrides: list[str]) -> str:
    """One sentence for what hydra and omegaconf say in several lines.

    Args:
        error: theirs.
        config_name: of the configuration that was composed.
        overrides: of it, among options of the command line.
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
    """All keys of a configuration, by their dotted names."""
    for key in map(str, node):
        yield f"{prefix}{key}"
        if isinstance(child := node._get_node(key), DictConfig):
            yield from keys_of(child, f"{prefix}{key}.")


def write_json(content: dict[str, Any], output: Path) -> None:
    """Writes what a command found where `output` says, and tells so.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        output.write_text(json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise ConfigError(f"output={output}: cannot be written: {error.strerror}") from error
    print(f"written to {output}")


def _stop(sentence: str) -> NoReturn:
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(1)


def _names(argument: str, error: Exception) -> bool:
    key = argument.partition("=")[0].lstrip("+~")
    return not argument.startswith("-") and (argument in str(error) or f"'{key}'" in str(error))


def _known_keys(config_name: str, overrides: list[str]) -> list[str]:
    """All keys and groups under the group choices among the overrides."""
    groups = {folder.name for folder in CONF.iterdir() if folder.is_dir()}
    choices = [override for override in overrides if override.partition("=")[0] in groups]
    with own_hydra():
        return list(keys_of(hydra.compose(config_name, overrides=choices)))
