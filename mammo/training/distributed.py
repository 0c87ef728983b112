"""The processes of a distributed training: how many, which one this is, how they meet and how they end."""

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

# that Lightning sets, and takes for those of another launcher when the next training begins
_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
_SET_PARENT_DEATH_SIGNAL = 1  # of prctl(2)


class Srun(LightningEnvironment):
    """The places that `srun` gave to the processes it started.

    Not Lightning's own, which goes by the variables of the job: a batch script has them too where it starts
    but one process, as has one step of several. It would also put the job back into the queue by itself.
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
        # the same in all processes, another one for other jobs and steps on the node
        place = int(os.environ["SLURM_JOB_ID"]) + 31 * int(os.environ["SLURM_STEP_ID"])
        return int(os.environ.get("MASTER_PORT", 15000 + place % 15000))

    def local_rank(self) -> int:
        return int(os.environ["SLURM_LOCALID"])

    def node_rank(self) -> int:
        return int(os.environ["SLURM_NODEID"])


@dataclass(frozen=True)
class Processes:
    """Those of one training, and the place of this one among them."""

    devices: int  # of each node, a process each
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

    def options(self, *, on_gpu: bool, frozen_layers: bool) -> dict[str, Any]:
        """Of a `pl.Trainer` in these processes; for one process there are none."""
        if self.count == 1:
            return {}
        return {
            "devices": self.devices,
            "num_nodes": self.nodes,
            "plugins": [self.environment],
            # a network's running averages do not bear on its training, and are made the same to validate;
            # that of frozen layers leaves their parameters without a gradient
            "strategy": DDPStrategy(broadcast_buffers=False, find_unused_parameters=frozen_layers),
            "sync_batchnorm": on_gpu,  # PyTorch has it for GPUs alone
        }

    @contextlib.contextmanager
    def together(self, trainer: pl.Trainer) -> Iterator[None]:
        """Ends what joined the processes when a training has ended, and them when it failed in this one.

        What all of them refuse is raised in the first alone, the others end in peace: else whoever started
        them would end the first too, before it has said why.
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
    """The processes that the config wants, whether Slurm, another launcher or Lightning starts them.

    Raises:
        ConfigError: others were started, or cannot find each other.
    """
    keys = f"trainer.devices={devices}, trainer.nodes={nodes}"
    if Srun.detect():
        layout = os.environ["SLURM_STEP_TASKS_PER_NODE"]
        if layout != (str(devices) if nodes == 1 else f"{devices}(x{nodes})"):
            raise ConfigError(
                f"{keys}: srun started other processes, {layout} on its nodes; make them the same as "
                "hydra.launcher.tasks_per_node and hydra.launcher.nodes, or as srun's"
            )
        processes = Processes(devices, nodes, Srun())
        _check_address(processes.environment.main_address)
    else:
        started = os.environ.get("WORLD_SIZE") if "LOCAL_RANK" in os.environ else None
        if started is not None and int(started) != devices * nodes:
            raise ConfigError(f"{keys}: the launcher started {started} processes; make them the same")
        if nodes > 1 and not {"NODE_RANK", "GROUP_RANK"} & os.environ.keys():
            raise ConfigError(
                f"{keys}: start it by Slurm (hydra/launcher=slurm or srun) or torchrun, or once on each node "
                "with MASTER_ADDR and MASTER_PORT of the first and NODE_RANK=0, 1, ..."
            )
        processes = Processes(devices, nodes, LightningEnvironment())
    # Lightning's own, which learns of it later
    rank_zero_only.rank = processes.rank  # type: ignore[attr-defined]
    return processes


def _check_address(name: str) -> None:
    """PyTorch would try for half an hour."""
    try:
        socket.getaddrinfo(name, None)
    except OSError as error:
        raise ConfigError(
            f"{name}: the name of the first node is unknown on {socket.gethostname()} ({error.strerror}); "
            "set MASTER_ADDR to its address"
        ) from error


class RefusedByAllError(DataError):
    """A process met something that ends the training, and all of them know."""


def refuse_together(problem: str | None) -> None:
    """Raises in all processes what one of them has met; each must call it.

    Args:
        problem: one sentence; None where this process has met none.

    Raises:
        DataError: there is a problem.
    """
    if dist.is_initialized():
        problems: list[str | None] = [None] * dist.get_world_size()
        dist.all_gather_object(problems, problem)
        if first := next(filter(None, problems), None):
            raise RefusedByAllError(first)
    elif problem is not None:
        raise DataError(problem)


def _lost_another(error: RuntimeError) -> bool:
    """Whether the error means that another process has ended."""
    return isinstance(error, dist.DistError) or "gloo" in str(error) or "NCCL" in str(error)


def _end_children(trainer: pl.Trainer) -> None:
    """Ends the processes that Lightning started, which would wait for this one."""
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        children = launcher.procs[:]
        launcher.procs.clear()  # else Lightning would see them end, and end this one before it has said why
        for child in children:
            child.kill()
            child.wait()


def _end_with_parent() -> None:
    """A process whose launcher is killed would wait for the others, for as long as their library allows."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
