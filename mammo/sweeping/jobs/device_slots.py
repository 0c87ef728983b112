"""Shares of a machine's cores and GPUs for processes that run in parallel."""

import os
import shutil
import subprocess
from dataclasses import dataclass


@dataclass(frozen=True)
class Slot:
    """Cores and GPUs of one process.

    Attributes:
        cores: indices of its CPU cores.
        gpus: names of its GPUs, as in `CUDA_VISIBLE_DEVICES`.
    """

    cores: tuple[int, ...]
    gpus: tuple[str, ...]

    def environment(self) -> dict[str, str]:
        """Return the environment variables of the process; `bind_cores` reads them there."""
        cores = {"MAMMO_CORES": ",".join(map(str, self.cores))}
        return cores | ({"CUDA_VISIBLE_DEVICES": ",".join(self.gpus)} if self.gpus else {})


def slots(n: int | None, *, gpus_each: int = 1) -> list[Slot]:
    """Divide the cores and GPUs that this process may use.

    Args:
        n: number of processes; None for one per `gpus_each` GPUs, and one on a machine without a GPU.
        gpus_each: number of GPUs of a process.
    """
    gpus = visible_gpus()
    cores = sorted(os.sched_getaffinity(0))
    count = n or max(1, len(gpus) // gpus_each)
    shares = []
    for slot in range(count):
        own = cores[slot * len(cores) // count : (slot + 1) * len(cores) // count]
        # with more processes than GPUs or cores, several processes share one
        turn = [gpus[(slot * gpus_each + i) % len(gpus)] for i in range(min(gpus_each, len(gpus)))]
        shares.append(Slot(tuple(own or [cores[slot % len(cores)]]), tuple(turn)))
    return shares


def visible_gpus() -> list[str]:
    """Return the names of the GPUs that CUDA would see, without importing PyTorch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not shutil.which("nvidia-smi"):
        return []
    try:
        listing = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return []
    gpus = [str(number) for number, line in enumerate(listing.stdout.splitlines()) if line.startswith("GPU")]
    return gpus if chosen is None else [name for name in chosen.split(",") if name and gpus]


def bind_cores() -> None:
    """Bind this process to its cores, before PyTorch counts them to choose its number of threads."""
    if cores := os.environ.get("MAMMO_CORES"):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    # where Slurm allocates cores without binding the job to them
    if (cpus := os.environ.get("SLURM_CPUS_PER_TASK")) and int(cpus) < len(os.sched_getaffinity(0)):
        os.environ.setdefault("OMP_NUM_THREADS", cpus)
