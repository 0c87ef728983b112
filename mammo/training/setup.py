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
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mammo.config.checks import arguments_for
from mammo.data.loading.augment import BatchAugment
from mammo.data.loading.datamodule import MammogramDataModule
from mammo.data.sources.reader import read_catalog
from mammo.data.splits import Split, left_out, make_split
from mammo.data.store.store import Store, prepare
from mammo.data.tasks import CLASSES
from mammo.errors import ConfigError, DataError
from mammo.models.backbones import build_model, input_statistics
from mammo.training.batch_memory import largest_batch
from mammo.training.distributed import Processes, find_processes
from mammo.training.losses import build_loss
from mammo.training.module import MammogramModule
from mammo.training.optim import build_optimizer
from mammo.training.precision import choose_precision
from mammo.training.schedules import learning_rate_factor

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
    network = _network(cfg)  # first, so that wrong weights are reported before data are prepared
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
        distributed=processes.options(on_gpu=on_gpu, frozen_layers=cfg.optim.freeze_epochs > 0),
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
    options: dict[str, Any] = OmegaConf.to_container(cfg.model, resolve=True)  # type: ignore[assignment]
    return build_model(
        num_classes=len(CLASSES[cfg.task.name]), image_size=(cfg.data.height, cfg.data.width), **options
    )


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
    plateau = None
    if cfg.schedule.name == "plateau":
        options = {"factor": cfg.schedule.factor, "patience": cfg.schedule.patience}
        plateau = partial(ReduceLROnPlateau, mode=mode_of(monitor), threshold=0.0, **options)
    if cfg.trainer.compile:
        network.compile()
    return MammogramModule(
        network=network,
        num_classes=len(datamodule.classes),
        mean=mean,
        std=std,
        loss=build_loss(class_weights=datamodule.class_weights(), **arguments_for(build_loss, cfg.loss)),
        # the config of an older run lacks this key too
        box_weight=OmegaConf.select(cfg, "loss.box_weight", default=1.0),
        optimizer=partial(build_optimizer, **arguments_for(build_optimizer, cfg.optim)),
        schedule=partial(learning_rate_factor, **arguments_for(learning_rate_factor, cfg.schedule)),
        plateau=plateau,
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
