"""A machine's cores and GPUs, shared out to processes that run side by side."""

import os
import shutil
import subprocess
from dataclasses import dataclass


@dataclass(frozen=True)
class Slot:
    """What one of them has for itself."""

    cores: tuple[int, ...]
    gpus: tuple[str, ...]

    def environment(self) -> dict[str, str]:
        """Variables of its process; `take_cores` reads them there."""
        cores = {"MAMMO_CORES": ",".join(map(str, self.cores))}
        return cores | ({"CUDA_VISIBLE_DEVICES": ",".join(self.gpus)} if self.gpus else {})


def slots(n: int | None, *, gpus_each: int = 1) -> list[Slot]:
    """Shares the cores and GPUs that this process may use.

    Args:
        n: processes; None for as many as the GPUs suffice for, one on a machine without.
        gpus_each: of a process.
    """
    gpus = visible_gpus()
    cores = sorted(os.sched_getaffinity(0))
    count = n or max(1, len(gpus) // gpus_each)
    shared = []
    for slot in range(count):
        own = cores[slot * len(cores) // count : (slot + 1) * len(cores) // count]
        # more processes than GPUs or cores share them in turn
        turn = [gpus[(slot * gpus_each + i) % len(gpus)] for i in range(min(gpus_each, len(gpus)))]
        shared.append(Slot(tuple(own or [cores[slot % len(cores)]]), tuple(turn)))
    return shared


def visible_gpus() -> list[str]:
    """Names of the GPUs that CUDA would see, found without importing PyTorch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not shutil.which("nvidia-smi"):
        return []
    try:
        told = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return []
    found = [str(number) for number, line in enumerate(told.stdout.splitlines()) if line.startswith("GPU")]
    return found if chosen is None else [name for name in chosen.split(",") if name and found]


def take_cores() -> None:
    """Keeps this process to its cores, before PyTorch counts them to choose its number of threads."""
    if cores := os.environ.get("MAMMO_CORES"):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    # where Slurm counts cores, but does not bind to them
    if (cpus := os.environ.get("SLURM_CPUS_PER_TASK")) and int(cpus) < len(os.sched_getaffinity(0)):
        os.environ.setdefault("OMP_NUM_THREADS", cpus)
