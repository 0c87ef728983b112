"""The processes of a distributed training: their number, their ranks, their connection and their end."""

import contextlib
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

from mammo.errors import ConfigError, DataError, MammoError

# Lightning sets these, and would mistake them for another launcher's when the next training starts
_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


class Srun(LightningEnvironment):
    """Ranks and address of the processes that `srun` started.

    Lightning's own class for Slurm is not used, because it reads the variables of the job. These are also set
    in a batch script that starts only one process, and in each step of a job with several steps. Lightning's
    class would also requeue the job automatically.
    """

    @staticmethod
    def detect() -> bool:
        return int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        if os.environ["SLURM_STEP_NUM_NODES"] == "1":
            return "127.0.0.1"
        nodes = os.environ["SLURM_STEP_NODELIST"]
        return os.environ.get("MASTER_ADDR") or SLURMEnvironment.resolve_root_node_address(nodes)

    @property
    def main_port(self) -> int:
        # the same in all processes of a step; different for other jobs and steps on the node
        place = int(os.environ["SLURM_JOB_ID"]) + 31 * int(os.environ["SLURM_STEP_ID"])
        return int(os.environ.get("MASTER_PORT", 15000 + place % 15000))

    def local_rank(self) -> int:
        return int(os.environ["SLURM_LOCALID"])

    def node_rank(self) -> int:
        return int(os.environ["SLURM_NODEID"])


@dataclass(frozen=True)
class Processes:
    """The processes of one training, and the rank of this process."""

    devices: int  # on each node, with one process per device
    nodes: int
    environment: LightningEnvironment

    @property
    def count(self) -> int:
        return self.devices * self.nodes

    @property
    def rank(self) -> int:
        if self.count == 1:
            return 0
        return self.environment.node_rank() * self.devices + self.environment.local_rank()

    def options(self, *, sync_batchnorm: bool, unused_parameters: bool) -> dict[str, Any]:
        """Return the options of `pl.Trainer` for these processes; empty for one process.

        Args:
            sync_batchnorm: whether batch normalisation uses the statistics of all processes.
            unused_parameters: whether some parameters may get no gradient.
        """
        if self.count == 1:
            return {}
        return {
            "devices": self.devices,
            "num_nodes": self.nodes,
            "plugins": [self.environment],
            # running averages do not affect training, and are synchronised before validation
            "strategy": DDPStrategy(broadcast_buffers=False, find_unused_parameters=unused_parameters),
            "sync_batchnorm": sync_batchnorm,
        }

    @contextlib.contextmanager
    def together(self, trainer: pl.Trainer) -> Iterator[None]:
        """Close the process group after a training; if it fails here, also kill the processes it started.

        A `RefusedByAllError` is raised only in the first process, and the others end without an error.
        Otherwise, their launcher would kill the first process before it reports the error.
        """
        before = {name: os.environ.get(name) for name in _VARIABLES}
        if self.rank > 0:
            _end_with_parent()
        try:
            yield
        except RefusedByAllError:
            if self.rank == 0:
                raise
        except BaseException as error:
            _end_children(trainer)
            if dist.is_initialized() and isinstance(error, RuntimeError) and _lost_another(error):
                raise MammoError(
                    "another process of the training has ended; see its message above or in its log"
                ) from error
            raise
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def find_processes(*, devices: int, nodes: int) -> Processes:
    """Return the processes of the config, which Slurm, another launcher or Lightning starts.

    Raises:
        ConfigError: the launcher started other numbers of processes, or they cannot connect to each other.
    """
    keys = f"trainer.devices={devices}, trainer.num_nodes={nodes}"
    if Srun.detect():
        layout = os.environ["SLURM_STEP_TASKS_PER_NODE"]
        if layout != (str(devices) if nodes == 1 else f"{devices}(x{nodes})"):
            raise ConfigError(
                f"{keys}: srun started {layout} processes on its nodes; set both keys to the values of "
                "hydra.launcher.tasks_per_node and hydra.launcher.nodes, or to those given to srun"
            )
        processes = Processes(devices, nodes, Srun())
        _check_address(processes.environment.main_address)
    else:
        started = os.environ.get("WORLD_SIZE") if "LOCAL_RANK" in os.environ else None
        if started is not None and int(started) != devices * nodes:
            raise ConfigError(
                f"{keys}: the launcher started {started} processes; make this number equal to devices x nodes"
            )
        if nodes > 1 and not {"NODE_RANK", "GROUP_RANK"} & os.environ.keys():
            raise ConfigError(
                f"{keys}: start the training by Slurm (hydra/launcher=slurm or srun), by torchrun, or once "
                "on each node with MASTER_ADDR and MASTER_PORT of the first node and NODE_RANK=0, 1, ..."
            )
        processes = Processes(devices, nodes, LightningEnvironment())
    # Lightning itself sets this rank only later
    rank_zero_only.rank = processes.rank  # type: ignore[attr-defined]
    return processes


def _check_address(name: str) -> None:
    """Check that the name of the first node is known; PyTorch would retry for half an hour."""
    try:
        socket.getaddrinfo(name, None)
    except OSError as error:
        raise ConfigError(
            f"{name}: the name of the first node is unknown on {socket.gethostname()} ({error.strerror}); "
            "set MASTER_ADDR to its address"
        ) from error


class RefusedByAllError(DataError):
    """A problem in one process that ends the training in all processes."""


def refuse_together(problem: str | None) -> None:
    """Raise an error in all processes if one of them has a problem; each process must call it.

    Args:
        problem: problem of this process in one sentence; None for no problem.

    Raises:
        DataError: at least one process has a problem.
    """
    if dist.is_initialized():
        problems: list[str | None] = [None] * dist.get_world_size()
        dist.all_gather_object(problems, problem)
        if first := next(filter(None, problems), None):
            raise RefusedByAllError(first)
    elif problem is not None:
        raise DataError(problem)


def _lost_another(error: RuntimeError) -> bool:
    """Return whether the error means that another process has ended."""
    return isinstance(error, dist.DistError) or "gloo" in str(error) or "NCCL" in str(error)


def _end_children(trainer: pl.Trainer) -> None:
    """Kill the processes that Lightning started; otherwise they would wait for this one."""
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        children = launcher.procs[:]
        # otherwise Lightning would notice their end and kill this process before it reports its error
        launcher.procs.clear()
        for child in children:
            child.kill()
            child.wait()


def _end_with_parent() -> None:
    """Make the system kill this process when its launcher ends.

    Otherwise it would wait for the other processes until the timeout of their communication library.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
