"""The decorator that turns a function of the configuration into a command with one-sentence errors."""

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

import mammo
from mammo.atomic_files import report_unwritable
from mammo.compat import leave_mode_to_options
from mammo.config.arguments import (
    check_arguments,
    config_folders,
    may_set_mode,
    program_name,
    split_options,
    standard_overrides,
)
from mammo.config.calls.next_steps import remember_call, this_call
from mammo.config.checks import CONF, check_values, require_values
from mammo.config.composition import composition_error, search_in
from mammo.config.sweep_overrides import expand_globs, refuse_sweeps
from mammo.config.unused_keys import refuse_unused
from mammo.errors import MammoError

_INTERRUPTED = 130  # exit status of shells for Ctrl-C


def hydra_main(
    command: str,
    *,
    of_hydra: Callable[[list[str]], list[str]] = list,
    check: Callable[[DictConfig], object] = bool,
) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Decorator that turns a function of the checked config into a command with one-sentence errors.

    Ctrl-C ends it with one line, the message of the KeyboardInterrupt if it has one, and exit status 130.

    Args:
        command: name of the command and of its file in `conf`.
        of_hydra: function that returns those overrides of the command line from which Hydra composes.
        check: function that is called with the config before its keys are checked, such as for a choice that
            the command does not have; raises ConfigError.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        def checked(cfg: DictConfig) -> Any:
            _show_warnings()
            try:
                check(cfg)
                check_values(cfg, makes_root=command == "download")
                if HydraConfig.get().mode == RunMode.RUN:
                    refuse_unused(command, cfg, list(HydraConfig.get().overrides.task))
                require_values(cfg)
                return task(cfg)
            except MammoError as error:
                if HydraConfig.get().mode == RunMode.MULTIRUN:
                    raise  # the other jobs continue
                _stop(str(error))

        # Hydra names the job after the module of the function that it gets
        checked.__module__, checked.__qualname__ = task.__module__, task.__qualname__

        def run() -> None:
            arguments = sys.argv[1:]
            if "--version" in arguments:
                print(f"mammo {mammo.__version__}")
                return
            remember_call(command, arguments)
            # otherwise Hydra prints its own error messages, and a traceback for errors of the task
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")
            options, overrides = split_options(arguments)
            try:
                check_arguments(command, arguments)
                search_in(config_folders(arguments))
                if {"-h", "--help"} & {*options}:
                    from mammo.config.help.help_page import help_page

                    print(help_page(command, program_name(command, sys.argv[0]), arguments))
                    return
                refuse_sweeps(command, arguments)
                overrides = of_hydra(standard_overrides(command, expand_globs(overrides)))
                sys.argv[1:] = [*overrides, *options]
                if not may_set_mode(sys.argv[1:]):
                    leave_mode_to_options()
                hydra.main(version_base="1.3", config_path=str(CONF), config_name=command)(checked)()
            except KeyboardInterrupt as interrupt:
                text = str(interrupt) or f"interrupted; to run it again: {this_call()}"
                print(f"\n{text}", file=sys.stderr)
                sys.exit(_INTERRUPTED)
            except MammoError as error:
                _stop(str(error))
            except (HydraException, OmegaConfBaseException) as error:  # some of them are OSErrors
                _stop(composition_error(error, command, overrides))
            except ValueError as error:
                if "Config group override" not in str(error):
                    raise
                empty = next(argument for argument in sys.argv[1:] if argument.endswith("=null"))
                group = empty.partition("=")[0]
                _stop(f"{empty}: a group takes the name of a choice; give {group}=none, or ~{group}")
            except OSError as error:  # such as a folder that Hydra cannot create
                if error.filename is None:
                    raise
                _stop(f"{error.filename}: {error.strerror}")

        return run

    return decorate


def write_json(content: dict[str, Any], output: Path) -> None:
    """Write the results of a command to the file `output`.

    Raises:
        ConfigError: the file cannot be written.
    """
    with report_unwritable("output", output):
        output.write_text(json.dumps(content, indent=2) + "\n")


def _show_warnings() -> None:
    """Print warnings of this package's log to stderr; the logging configuration of Hydra hides them."""
    logging.getLogger("mammo").setLevel(logging.WARNING)
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("mammo."):
            logging.getLogger(name).disabled = False
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(logging.Formatter("warning: %(message)s"))


def _stop(sentence: str) -> NoReturn:
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(1)
