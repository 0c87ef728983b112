"""The keys of the Slurm launcher, with their types: those of hydra-submitit-launcher."""

import dataclasses
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf


@dataclasses.dataclass
class SlurmLauncherConfig:
    _target_: str = MISSING
    name: str = MISSING
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    comment: str | None = None
    timeout_min: int = MISSING
    max_num_timeout: int = MISSING
    signal_delay_s: int = MISSING
    nodes: int = MISSING
    tasks_per_node: int = MISSING
    gpus_per_node: int | None = None
    gpus_per_task: int | None = None
    gres: str | None = None
    cpus_per_task: int | None = None
    cpus_per_gpu: int | None = None
    mem_gb: float | None = None
    mem_per_cpu: str | None = None
    mem_per_gpu: str | None = None
    array_parallelism: int = MISSING
    setup: list[str] | None = None
    stderr_to_stdout: bool = False
    submitit_folder: str | None = None
    additional_parameters: dict[str, Any] = dataclasses.field(default_factory=dict)


def slurm_launcher() -> DictConfig:
    """Return the schema as a node whose `additional_parameters` take all options of sbatch without `+`."""
    node: DictConfig = OmegaConf.structured(SlurmLauncherConfig)
    OmegaConf.set_struct(node.additional_parameters, False)
    return node
