"""Builds the parts of a training from the configuration: data, network, module, trainer options."""

import logging
import secrets
import sys
import warnings
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.rank_zero import rank_zero_only
from numpy.typing import NDArray
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger
from torch import nn

from mammo.config.checks import arguments_for, plain
from mammo.config.instantiation import build
from mammo.data.freed_memory import keep_freed_memory
from mammo.data.loading.datamodule import MammogramDataModule
from mammo.data.loading.image_transforms import Augmentation
from mammo.data.samples import (
    PLURALS,
    in_views,
    other_views_sentence,
    sample_settings,
    sample_size,
    sides_of,
    views_of,
)
from mammo.data.seen_patients import pretrained_images
from mammo.data.sources.reader import read_catalog
from mammo.data.splits import Split, left_out, make_split
from mammo.data.store.store import Store, prepare
from mammo.data.tasks import Task, labels, unlabelled_sentence
from mammo.errors import ConfigError, DataError
from mammo.metrics.own_metrics import OwnMetrics
from mammo.models.backbones import build_network
from mammo.runs import RunFolder
from mammo.training.devices.batch_memory import largest_batch
from mammo.training.devices.distributed import Processes, find_processes
from mammo.training.devices.precision import choose_precision
from mammo.training.input_check import input_sentence, weights_statistics
from mammo.training.loggers.logger_nodes import build_loggers
from mammo.training.losses import LOSS
from mammo.training.module import MammogramModule
from mammo.training.optim import build_optimizer
from mammo.training.part_checks import augmentation_of, check_parts, nodes_of, own_callbacks, try_parts
from mammo.training.schedules import build_schedule
from mammo.training.trainer_options import limits, scoring_options, try_trainer

_FORMATS = {"32-true": "float32", "bf16-mixed": "bfloat16", "16-mixed": "float16"}


@dataclass(frozen=True)
class Training:
    """A training that is ready to start."""

    store: Store
    split: Split
    left_out: pd.DataFrame  # images in none of the sets, see `left_out`
    pretrained: list[str]  # images of patients that the initial weights were trained on
    datamodule: MammogramDataModule
    module: MammogramModule
    monitor: str  # the score by which the best epoch is chosen
    processes: Processes
    options: dict[str, Any]  # options of `pl.Trainer` for one process
    distributed: dict[str, Any]  # options to add or replace for several processes
    device: str  # device and number format, as text
    callbacks: list[pl.Callback] = field(default_factory=list)  # of the user
    loggers: dict[str, Logger] = field(default_factory=dict)
    version: str = ""  # id of the run for loggers


def set_up(cfg: DictConfig, *, run: RunFolder | None = None) -> Training:
    """Prepare the data if needed, and build the parts of a training except its run folder.

    If `cfg.data.batch_size` is null, it is set to the largest size that fits in memory.

    Args:
        cfg: checked configuration.
        run: folder of the run, which need not exist; None for a training without the user's callbacks and
            loggers.

    Raises:
        MammoError: the training cannot start; the message is one sentence for the user.
    """
    _quieten()
    processes = find_processes(devices=cfg.trainer.devices, nodes=cfg.trainer.num_nodes)
    accelerator = _accelerator(cfg.trainer.accelerator, cfg.trainer.devices)
    if accelerator == "cpu":
        keep_freed_memory()
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    task = Task.of(plain(cfg.task))
    _refuse_mixup(cfg)
    check_parts(cfg)  # first, so that wrong parts are reported before data are prepared
    network = _network(cfg, task)
    augment = augmentation_of(cfg)
    try_parts(cfg, network)
    callbacks = [] if run is None else own_callbacks(cfg, run)
    try_trainer(cfg, callbacks)
    version = secrets.token_hex(4)
    loggers: dict[str, Logger] = {}
    if run is not None:
        nodes = nodes_of(cfg, "logger")
        loggers = build_loggers(
            nodes, run_dir=run.path, facts=run.facts() if cfg.resume else {}, version=version
        )
    metrics = OwnMetrics(nodes_of(cfg, "metrics"), num_classes=len(task.classes))
    catalog = read_catalog(plain(cfg.data))
    unit, views = cfg.data.get("sample_unit", "image"), cfg.data.get("views")  # an older run has neither
    entering = in_views(catalog.images, unit=unit, views=views)
    images = catalog.images[entering]
    found = labels(images, catalog.lesions, task=task)
    _refuse_absent(found, "in the data", task)
    store = prepare(catalog, **arguments_for(prepare, cfg.data))
    choice = arguments_for(make_split, cfg.data)
    for sentence in (
        other_views_sentence(catalog.images, entering, unit=unit, views=views),
        unlabelled_sentence(images, catalog.lesions, found, task=task),
    ):
        if sentence:
            say(f"{sentence}: they are left out")
            choice["among"] = set(images["image_id"][found >= 0])
    split = make_split(store.table, **choice)
    _refuse_empty(split, cfg.data.split)
    weights = None if cfg.get("resume") else cfg.model.get("weights")
    pretrained = pretrained_images(weights, split=asdict(split), table=store.table)
    on_gpu = accelerator == "gpu"
    datamodule = _datamodule(
        cfg, task, augment, store=store, split=split, on_gpu=on_gpu, processes=processes.count
    )
    _refuse_absent(datamodule.train.labels, "in the training set", task)
    size = sample_size(cfg.data)
    if cfg.data.batch_size is None:
        most = len(datamodule.train)
        cfg.data.batch_size = largest_batch(network, size=size, accelerator=accelerator, most=most)
        datamodule.batch_size = cfg.data.batch_size
        say(f"data.batch_size={cfg.data.batch_size}: the largest power of two that fits in memory")
    _refuse_few_samples(datamodule, cfg.data.split)
    _refuse_no_boxes(cfg, datamodule)
    _refuse_no_batch(cfg, datamodule)
    monitor = _monitor(datamodule)
    precision = choose_precision(cfg.trainer.precision, accelerator=accelerator, network=network, size=size)
    device = f"{_device(processes, on_gpu=on_gpu)}, {_FORMATS[precision]}"
    say(f"{device}, channels-last")
    module = _module(cfg, network, datamodule, monitor, metrics)
    say(
        input_sentence(
            module,
            datamodule.train,
            normalisation=str(cfg.data.normalisation),
            pretrained=bool(cfg.model.get("pretrained")),
        )
    )
    return Training(
        store=store,
        split=split,
        left_out=left_out(store.table, split, views=views_of(unit, views), **choice),
        pretrained=pretrained,
        datamodule=datamodule,
        module=module,
        monitor=monitor,
        processes=processes,
        options=scoring_options(cfg, accelerator=accelerator, precision=precision),
        distributed=processes.options(
            sync_batchnorm=_syncs_batchnorm(cfg, on_gpu=on_gpu),
            # the parameters of frozen layers get no gradient
            unused_parameters=bool(cfg.optim.get("freeze_epochs")) or cfg.trainer.strategy.endswith("_true"),
        ),
        device=device,
        callbacks=callbacks,
        loggers=loggers,
        version=version,
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


def _syncs_batchnorm(cfg: DictConfig, *, on_gpu: bool) -> bool:
    wanted: bool | None = cfg.trainer.sync_batchnorm
    if wanted is not None:
        return wanted
    # each view's own network runs only in the processes whose batch has this view
    return on_gpu and cfg.model.get("share_views") is not False


def _device(processes: Processes, *, on_gpu: bool) -> str:
    if on_gpu:
        name = torch.cuda.get_device_name()
    elif processes.count == 1:
        name = f"CPU, {torch.get_num_threads()} threads"
    else:
        name = "CPU"
    return name if processes.count == 1 else f"{processes.count} processes, {name}"


def _refuse_mixup(cfg: DictConfig) -> None:
    unit, alpha = sample_settings(cfg.data)["unit"], cfg.augment.get("mixup")
    if alpha and cfg.loss.get("cell_weight"):
        raise ConfigError(
            f"augment.mixup={alpha}: mixes the lesions of two images; give augment.mixup=0 with "
            f"loss.cell_weight={cfg.loss.cell_weight}"
        )
    if alpha and unit in ("breast", "exam"):
        raise ConfigError(
            f"augment.mixup={alpha}: mixes single images; give augment.mixup=0 with data.sample_unit={unit}"
        )


def _refuse_empty(split: Split, name: str) -> None:
    if not split.train or not split.val:
        side = "val" if split.train else "train"
        raise DataError(f"data.split={name}: no {side} images; change data.val_fraction or the split")


def _refuse_absent(found: NDArray[np.int64], where: str, task: Task) -> None:
    """Raise an error if a class has no image."""
    # patches of the background are drawn from any image
    classes = [(index, name) for index, name in enumerate(task.classes) if name != task.background]
    absent = [name for index, name in classes if not (found == index).any()]
    if absent:
        raise DataError(
            f"task={task.name}: no image {where} is of class {absent[0]}; choose data or a split that has "
            "some, or leave the class out of task.classes"
        )


def _datamodule(
    cfg: DictConfig,
    task: Task,
    augment: Augmentation,
    *,
    store: Store,
    split: Split,
    on_gpu: bool,
    processes: int,
) -> MammogramDataModule:
    arguments = arguments_for(MammogramDataModule, cfg.data)
    if arguments["loader_workers"] is None:
        arguments["loader_workers"] = 2 if on_gpu else 1
    arguments |= {
        # these replace the folder of the store and the name and seed of the split
        "store": store,
        "split": split,
        "seed": cfg.seed,
        "task": task,
        "augment": augment,
        "mixup": cfg.augment.get("mixup") or 0.0,
        "accumulate_grad_batches": cfg.trainer.accumulate_grad_batches,
        "processes": processes,
        **limits(cfg),
        "same_order": bool(cfg.trainer.overfit_batches),
    }
    return MammogramDataModule(**arguments)


def _network(cfg: DictConfig, task: Task) -> nn.Module:
    return build_network(
        plain(cfg.model),
        num_classes=len(task.classes),
        image_size=sample_size(cfg.data),
        sides=sides_of(**sample_settings(cfg.data)),
        positives=task.positives,
    )


def _refuse_few_samples(datamodule: MammogramDataModule, name: str) -> None:
    """Refuse more processes than samples; every process needs some in each epoch."""
    count, unit = datamodule.processes, datamodule.sample_unit
    train, val = len(datamodule.train), len(datamodule.val)
    if count > 1 and (train < 2 * count or val < count):
        raise DataError(
            f"data.split={name}: {train} training and {val} validation {PLURALS[unit]} are too few for "
            f"{count} processes; lower trainer.devices"
        )


def _refuse_no_boxes(cfg: DictConfig, datamodule: MammogramDataModule) -> None:
    train = datamodule.train
    if cfg.data.get("batch_masks") and datamodule.store.masks is None:
        raise DataError(
            "data.batch_masks=true: no lesion of the images has a mask; give data with masks and "
            "data.masks=true, or data.batch_masks=false"
        )
    if cfg.loss.get("cell_weight") and np.isnan(train.boxes(range(len(train)))).all():
        raise DataError(
            f"loss.cell_weight={cfg.loss.cell_weight}: no lesion of the training images has a box; give data "
            "with them (as by data.lesions=FILE of data=csv), or loss.cell_weight=0"
        )


def _refuse_no_batch(cfg: DictConfig, datamodule: MammogramDataModule) -> None:
    """Refuse limits that leave no batch, and a validation that would never come."""
    for key, samples in (
        ("limit_train_batches", datamodule.samples_per_epoch),
        ("limit_val_batches", datamodule.validated_samples),
    ):
        if samples == 0:
            key = "overfit_batches" if cfg.trainer.overfit_batches else key
            raise ConfigError(f"trainer.{key}={cfg.trainer[key]}: leaves no batch; give a greater value")
    interval, batches = cfg.trainer.val_check_interval, datamodule.batches_per_epoch
    across = cfg.trainer.check_val_every_n_epoch is None
    if isinstance(interval, int) and interval > batches and not (across or cfg.trainer.fast_dev_run):
        raise ConfigError(
            f"trainer.val_check_interval={interval}: an epoch has {batches} batches; give at most this "
            "number, or trainer.check_val_every_n_epoch=null to count across epochs"
        )


def _monitor(datamodule: MammogramDataModule) -> str:
    """Return the score by which the best epoch is chosen."""
    if len(set(datamodule.val.labels[: datamodule.validated_samples])) > 1:
        return "val/auc"
    say(
        f"all validation {PLURALS[datamodule.sample_unit]} are of one class: their AUC is undefined, so "
        "val/loss selects the best epoch"
    )
    return "val/loss"


def mode_of(monitor: str) -> Literal["max", "min"]:
    return "min" if monitor == "val/loss" else "max"


def _module(
    cfg: DictConfig,
    network: nn.Module,
    datamodule: MammogramDataModule,
    monitor: str,
    metrics: OwnMetrics,
) -> MammogramModule:
    if cfg.data.normalisation == "none":
        mean, std = 0.0, 1.0
    elif cfg.data.normalisation == "weights":
        mean, std = weights_statistics(cfg.model.get("weights"), network)
    else:
        mean, std = datamodule.statistics()
    if cfg.trainer.compile:
        network.compile()
    return MammogramModule(
        network=network,
        num_classes=len(datamodule.classes),
        ordered=datamodule.task.ordered,
        metrics=metrics,
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
