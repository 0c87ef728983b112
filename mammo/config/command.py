"""The decorator that turns a function of the configuration into a command with one-sentence errors."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

import mammo
from mammo.config.checks import CONF, check
from mammo.config.composition import composition_error
from mammo.config.sweep_overrides import refuse_sweeps
from mammo.errors import ConfigError, MammoError


def hydra_main(
    config_name: str, *, arguments: Sequence[str] | None = None
) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Decorator that turns a function of the checked config into a command with one-sentence errors.

    Args:
        config_name: name of the file in `conf`.
        arguments: whole command line, where Hydra gets only a part of it; None for that of Hydra.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        def checked(cfg: DictConfig) -> Any:
            try:
                check(cfg)
                return task(cfg)
            except MammoError as error:
                if HydraConfig.get().mode == RunMode.MULTIRUN:
                    raise  # the other jobs continue
                _stop(str(error))

        # Hydra names the job after the module of the function that it gets
        checked.__module__, checked.__qualname__ = task.__module__, task.__qualname__

        def command() -> None:
            if "--version" in sys.argv[1:]:
                print(f"mammo {mammo.__version__}")
                return
            # otherwise Hydra prints its own error messages, and a traceback for errors of the task
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")
            try:
                refuse_sweeps(config_name, sys.argv[1:] if arguments is None else arguments)
                hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(checked)()
            except MammoError as error:
                _stop(str(error))
            except (HydraException, OmegaConfBaseException) as error:  # some of them are OSErrors
                _stop(composition_error(error, config_name, sys.argv[1:]))
            except OSError as error:  # such as a folder that Hydra cannot create
                if error.filename is None:
                    raise
                _stop(f"{error.filename}: {error.strerror}")

        return command

    return decorate


def write_json(content: dict[str, Any], output: Path) -> None:
    """Write the results of a command to the file `output` and print its name.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        output.write_text(json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise ConfigError(f"output={output}: cannot be written: {error.strerror}") from error
    print(f"written to {output}")


def _stop(sentence: str) -> NoReturn:
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(1)
