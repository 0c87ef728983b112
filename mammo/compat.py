"""All uses of private names of libraries.

Each function says why the public interface is not enough; `tests/test_compat.py` fails when a version of the
library changes the name.
"""

import argparse
import subprocess
from collections.abc import Sequence
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig


def keep_config_store_uncopied() -> None:
    """Make a deep copy of Hydra's `ConfigStore` return the store itself.

    Hydra copies the whole store, node by node, for each group of its help, although it only reads the copy.
    With the schemas of this package, this takes seconds.
    """
    ConfigStore.__deepcopy__ = lambda store, memo: store  # type: ignore[attr-defined]


def leave_checks_to_launcher() -> None:
    """Make Hydra's sweepers compose no job before they call the launcher.

    They compose each job once more, only to find errors, which takes a tenth of a second per job; the
    launchers of this package check all jobs themselves. The class is public, but has no setting for this.
    """
    Sweeper.validate_batch_is_legal = _accept  # type: ignore[method-assign]


def _accept(self: Sweeper, batch: Sequence[Sequence[str]]) -> None:
    """Accept a batch of jobs."""


def leave_mode_to_options() -> None:
    """Make Hydra take its mode from the option `--multirun` alone, not from the configuration.

    Otherwise it composes the whole configuration twice, the first time only to read the mode, which takes
    0.2 s of each command. No setting avoids it.
    """
    from hydra._internal.hydra import Hydra

    def no_mode(hydra: Hydra, config_name: str | None, overrides: list[str]) -> None:
        """Return no mode, as Hydra does for a configuration without one."""

    Hydra.get_mode = no_mode  # type: ignore[method-assign, assignment]


class OptionError(Exception):
    """An option of the command line that Hydra does not take."""


def read_options(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the command line as Hydra reads it.

    For a mistake, Hydra itself prints its usage in several lines.

    Raises:
        OptionError: an option is unknown, or has a wrong value.
    """

    def refuse(message: str) -> NoReturn:
        raise OptionError(message)

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    return parser.parse_args(list(arguments))


def child_node(node: DictConfig, key: str) -> Any:
    """Return the node of a key as OmegaConf stores it.

    Public access resolves interpolations and raises an error for missing values; only the type matters here.
    """
    return node._get_node(key)


def is_missing(node: DictConfig) -> bool:
    """Return whether a whole node is `???`; `OmegaConf.is_missing` needs its parent and its key."""
    return bool(node._is_missing())


def cpu_computes_bfloat16() -> bool:
    """Return whether the CPU multiplies bfloat16 in hardware; PyTorch has no public function for this."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def accept_requeue_that_ends_its_command() -> None:
    """Make a requeue by submitit count as done when Slurm ends `scontrol requeue` itself by a signal.

    The command is a process of the job that it ends. Where the signal reaches it before its own end, submitit
    takes the requeue for failed, and with it the job, which is in the queue again. No setting avoids it.
    """
    from submitit.slurm.slurm import SlurmJobEnvironment

    requeue = SlurmJobEnvironment._requeue

    def accepting(environment: SlurmJobEnvironment, countdown: int) -> None:
        try:
            requeue(environment, countdown)
        except subprocess.CalledProcessError as error:
            if error.returncode >= 0:
                raise

    SlurmJobEnvironment._requeue = accepting  # type: ignore[method-assign, assignment]
