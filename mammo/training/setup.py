"""Builds the parts of a training from the configuration: data, network, module, trainer options."""

import logging
import sys
import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import pandas as pd
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from torch import nn

from mammo.config.checks import arguments_for
from mammo.config.instantiation import Role, build, check_node
from mammo.data.loading.augment import BatchAugment
from mammo.data.loading.datamodule import MammogramDataModule
from mammo.data.sources.reader import read_catalog
from mammo.data.splits import Split, left_out, make_split
from mammo.data.store.store import Store, prepare
from mammo.data.tasks import CLASSES
from mammo.errors import ConfigError, DataError
from mammo.models.backbones import (
    FOR_NETWORKS,
    NETWORK,
    OF_EVERY_NETWORK,
    build_network,
    input_statistics,
)
from mammo.training.batch_memory import largest_batch
from mammo.training.distributed import Processes, find_processes
from mammo.training.losses import LOSS
from mammo.training.module import MammogramModule
from mammo.training.optim import OF_EVERY_OPTIMIZER, OPTIMIZER, build_optimizer
from mammo.training.precision import choose_precision
from mammo.training.schedules import FOR_SCHEDULES, SCHEDULE, build_schedule

CALLBACK = Role("callback", base=(pl.Callback,))
_PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


@dataclass(frozen=True)
class Training:
    """A training that is ready to start."""

    store: Store
    split: Split
    left_out: pd.DataFrame  # images in none of the sets, see `left_out`
    datamodule: MammogramDataModule
    module: MammogramModule
    monitor: str  # the score by which the best epoch is chosen
    processes: Processes
    options: dict[str, Any]  # options of `pl.Trainer` for one process
    distributed: dict[str, Any]  # options to add or replace for several processes
    device: str  # device and number format, as text


def set_up(cfg: DictConfig) -> Training:
    """Prepare the data if needed, and build the parts of a training except its run folder.

    If `cfg.data.batch_size` is null, it is set to the largest size that fits in memory.

    Raises:
        MammoError: the training cannot start; the message is one sentence for the user.
    """
    _quieten()
    # the config of an older run lacks this key
    nodes = OmegaConf.select(cfg, "trainer.nodes", default=1)
    processes = find_processes(devices=cfg.trainer.devices, nodes=nodes)
    accelerator = _accelerator(cfg.trainer.accelerator, cfg.trainer.devices)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    check_parts(cfg)  # first, so that wrong parts are reported before data are prepared
    network = _network(cfg)
    _try_parts(cfg, network)
    store = prepare(read_catalog(**arguments_for(read_catalog, cfg.data)), **arguments_for(prepare, cfg.data))
    choice = arguments_for(make_split, cfg.data)
    split = make_split(store.table, **choice)
    _refuse_empty(split, cfg.data.split, processes.count)
    size = (cfg.data.height, cfg.data.width)
    if cfg.data.batch_size is None:
        most = len(split.train)
        cfg.data.batch_size = largest_batch(network, size=size, accelerator=accelerator, most=most)
        say(f"data.batch_size={cfg.data.batch_size}: the largest power of two that fits in memory")
    on_gpu = accelerator == "gpu"
    datamodule = _datamodule(cfg, store=store, split=split, on_gpu=on_gpu, processes=processes.count)
    monitor = _monitor(datamodule)
    precision = choose_precision(cfg.trainer.precision, accelerator=accelerator, network=network, size=size)
    device = f"{_device(processes, on_gpu=on_gpu)}, {precision}"
    say(f"{device}, channels-last")
    return Training(
        store=store,
        split=split,
        left_out=left_out(store.table, split, **choice),
        datamodule=datamodule,
        module=_module(cfg, network, datamodule, monitor),
        monitor=monitor,
        processes=processes,
        options=_trainer_options(cfg, accelerator, precision),
        distributed=processes.options(on_gpu=on_gpu, frozen_layers=bool(cfg.optim.get("freeze_epochs"))),
        device=device,
    )


def _accelerator(wanted: str, devices: int) -> str:
    if wanted == "gpu" and not torch.cuda.is_available():
        raise ConfigError(
            "trainer.accelerator=gpu: PyTorch finds no GPU here; give trainer=cpu or trainer=auto"
        )
    if wanted == "cpu" or not torch.cuda.is_available():
        return "cpu"
    if devices > (there := torch.cuda.device_count()):
        raise ConfigError(
            f"trainer.devices={devices}: the number of GPUs that PyTorch finds is {there}; lower "
            "trainer.devices, or give trainer=cpu (under Slurm each process must see all GPUs of its node: "
            "use gpus_per_node, not gpus_per_task)"
        )
    return "gpu"


def _device(processes: Processes, *, on_gpu: bool) -> str:
    if on_gpu:
        name = torch.cuda.get_device_name()
    elif processes.count == 1:
        name = f"CPU, {torch.get_num_threads()} threads"
    else:
        name = "CPU"
    return name if processes.count == 1 else f"{processes.count} processes, {name}"


def _refuse_empty(split: Split, name: str, processes: int) -> None:
    if not split.train or not split.val:
        side = "val" if split.train else "train"
        raise DataError(f"data.split={name}: no {side} images; change data.val_fraction or the split")
    if processes > 1 and (len(split.train) < 2 * processes or len(split.val) < processes):
        raise DataError(
            f"data.split={name}: {len(split.train)} training and {len(split.val)} validation images are too "
            f"few for {processes} processes; lower trainer.devices"
        )


def _datamodule(
    cfg: DictConfig, *, store: Store, split: Split, on_gpu: bool, processes: int
) -> MammogramDataModule:
    arguments = arguments_for(MammogramDataModule, cfg.data)
    if arguments["loader_workers"] is None:
        arguments["loader_workers"] = 2 if on_gpu else 1
    arguments |= {
        # these replace the folder of the store and the name and seed of the split
        "store": store,
        "split": split,
        "seed": cfg.seed,
        "task": cfg.task.name,
        "augment": BatchAugment(**arguments_for(BatchAugment, cfg.augment)),
        "mixup": cfg.augment.mixup,
        "accumulate": cfg.trainer.accumulate,
        "processes": processes,
    }
    return MammogramDataModule(**arguments)


def _network(cfg: DictConfig) -> nn.Module:
    return build_network(
        plain(cfg.model),
        num_classes=len(CLASSES[cfg.task.name]),
        image_size=(cfg.data.height, cfg.data.width),
    )


def plain(node: DictConfig) -> dict[str, Any]:
    """Return a node of the configuration as plain values."""
    values: dict[str, Any] = OmegaConf.to_container(node, resolve=True, enum_to_str=True)  # type: ignore[assignment]
    return values


def _try_parts(cfg: DictConfig, network: nn.Module) -> None:
    """Build the parts that need no data, so that wrong ones are reported before data are prepared."""
    build(plain(cfg.loss), key="loss", role=LOSS, offered={"class_weights": None})
    optimizer = build_optimizer(network, node=plain(cfg.optim))
    if cfg.get("schedule") is not None:
        build_schedule(
            optimizer,
            node=plain(cfg.schedule),
            steps_per_epoch=100,
            epochs=cfg.trainer.max_epochs,
            mode="max",
        )


def check_parts(cfg: DictConfig) -> None:
    """Check the parts with `_target_` against their signatures, without building them.

    Raises:
        ConfigError: a part is wrong; the message names it.
    """
    for key, role, offered, common in (
        ("model", NETWORK, FOR_NETWORKS, OF_EVERY_NETWORK),
        ("optim", OPTIMIZER, ("params",), OF_EVERY_OPTIMIZER),
        ("schedule", SCHEDULE, FOR_SCHEDULES, ()),
        ("loss", LOSS, ("class_weights",), ()),
    ):
        if cfg.get(key) is not None:
            node = {name: value for name, value in plain(cfg[key]).items() if name not in common}
            check_node(node, key=key, role=role, offered=offered)
    for name, node in own_callbacks(cfg).items():
        check_node(node, key=f"callbacks.{name}", role=CALLBACK)


def own_callbacks(cfg: DictConfig) -> dict[str, dict[str, Any]]:
    """Return the nodes of the user's callbacks, by name."""
    nodes = plain(cfg.callbacks) if cfg.get("callbacks") else {}
    for name, node in nodes.items():
        if not isinstance(node, dict):
            raise ConfigError(f"callbacks.{name}={node}: is no node; give {{_target_: package.module.Class}}")
    return nodes


def _monitor(datamodule: MammogramDataModule) -> str:
    """Return the score by which the best epoch is chosen."""
    if len(set(datamodule.train.labels)) == 1:
        say("all training images are of one class: there is nothing to classify")
    if len(set(datamodule.val.labels)) > 1:
        return "val/auc"
    say("all validation images are of one class: their AUC is undefined, so val/loss selects the best epoch")
    return "val/loss"


def mode_of(monitor: str) -> Literal["max", "min"]:
    return "min" if monitor == "val/loss" else "max"


def _module(
    cfg: DictConfig, network: nn.Module, datamodule: MammogramDataModule, monitor: str
) -> MammogramModule:
    if cfg.data.normalisation == "none":
        mean, std = 0.0, 1.0
    else:
        by_weights = cfg.data.normalisation == "weights"
        mean, std = input_statistics(network) if by_weights else datamodule.statistics()
    if cfg.trainer.compile:
        network.compile()
    return MammogramModule(
        network=network,
        num_classes=len(datamodule.classes),
        mean=mean,
        std=std,
        loss=build(
            plain(cfg.loss), key="loss", role=LOSS, offered={"class_weights": datamodule.class_weights()}
        ),
        optimizer=partial(build_optimizer, node=plain(cfg.optim)),
        schedule=None
        if cfg.get("schedule") is None
        else partial(build_schedule, node=plain(cfg.schedule), mode=mode_of(monitor)),
        monitor=monitor,
    )


def _trainer_options(cfg: DictConfig, accelerator: str, precision: str) -> dict[str, Any]:
    """Return the options for training and scoring, except those for several processes."""
    return {
        "accelerator": accelerator,
        "devices": 1,
        "plugins": [LightningEnvironment()],  # one process, also in a Slurm job with several
        "use_distributed_sampler": False,
        "precision": _PRECISION[precision],
        # warn, rather than fail, if an operation has no deterministic kernel on the device
        "deterministic": "warn" if cfg.trainer.deterministic else False,
        "limit_val_batches": 1 if cfg.trainer.fast_dev_run else None,
        "logger": False,
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
        "enable_progress_bar": sys.stderr.isatty(),
    }


def _quieten() -> None:
    """Silence the advertisements of Lightning, and its warnings about deliberate choices made here."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*number of training batches.*",
        ".*exists and is not empty.*",
        ".*LeafSpec.* is deprecated.*",
        # the sampler can resume in the middle of an epoch
        ".*your dataloader is not resumable.*",
        # Lightning warns about it on every machine with Slurm
        ".*`srun` command is available.*",
        # PyTorch 2.15 renames this option, but PyTorch 2.11 does not know the new name
        ".*`broadcast_buffers` is deprecated.*",
        # the metric is computed over all processes before it is logged
        ".*sync_dist=True.*",
    ):
        warnings.filterwarnings("ignore", message)


@rank_zero_only
def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
