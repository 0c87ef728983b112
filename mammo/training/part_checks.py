"""The parts with `_target_`: checked before the data are prepared, and built where they need no data."""

import inspect
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from torch import nn

from mammo.config.checks import plain
from mammo.config.instantiation import TARGET, Role, build, check_node
from mammo.data.loading.image_transforms import (
    AUGMENTATION,
    OF_EVERY_AUGMENTATION,
    Augmentation,
    build_augmentation,
)
from mammo.data.samples import sample_size
from mammo.data.sources.reader import check_source
from mammo.data.tasks import Task
from mammo.errors import ConfigError
from mammo.metrics.epoch_scores import score_names
from mammo.metrics.own_metrics import check_metrics
from mammo.models.backbones import FOR_NETWORKS, NETWORK, OF_EVERY_NETWORK
from mammo.models.heads.head_nodes import FOR_HEADS, HEAD
from mammo.models.pooling import FOR_POOLS, POOL
from mammo.runs import RunFolder
from mammo.training.loggers.logger_nodes import FOR_LOGGERS, LOGGER
from mammo.training.losses import LOSS
from mammo.training.optim import OF_EVERY_OPTIMIZER, OPTIMIZER, build_optimizer
from mammo.training.schedules import FOR_SCHEDULES, SCHEDULE, build_schedule
from mammo.training.trainer_options import refuse_unknown_score

CALLBACK = Role("callback", base=(pl.Callback,))
# what a callback may ask for
FOR_CALLBACKS = ("dirpath",)


def check_parts(cfg: DictConfig) -> None:
    """Check the parts with `_target_` against their signatures, without building them.

    Raises:
        ConfigError: a part is wrong; the message names it.
    """
    check_source(plain(cfg.data))
    for key, role, offered, common in (
        ("model", NETWORK, FOR_NETWORKS, OF_EVERY_NETWORK),
        ("augment", AUGMENTATION, (), OF_EVERY_AUGMENTATION),
        ("optim", OPTIMIZER, ("params",), OF_EVERY_OPTIMIZER),
        ("schedule", SCHEDULE, FOR_SCHEDULES, ()),
        ("loss", LOSS, ("class_weights",), ()),
    ):
        if cfg.get(key) is not None:
            node = {name: value for name, value in plain(cfg[key]).items() if name not in common}
            target = check_node(node, key=key, role=role, offered=offered)
            if key == "loss" and cfg.data.balance == "weights":
                _require_class_weights(target, node[TARGET])
    pool = plain(cfg.model).get("pool")
    if isinstance(pool, dict) and TARGET in pool:
        check_node(pool, key="model.pool", role=POOL, offered=FOR_POOLS)
    head = plain(cfg.model).get("head")
    if isinstance(head, dict):
        check_node(head, key="model.head", role=HEAD, offered=FOR_HEADS)
    for group, role, offered in (("callbacks", CALLBACK, FOR_CALLBACKS), ("logger", LOGGER, FOR_LOGGERS)):
        for name, node in nodes_of(cfg, group).items():
            check_node(node, key=f"{group}.{name}", role=role, offered=offered)
    check_metrics(nodes_of(cfg, "metrics"))


def _require_class_weights(loss: Callable[..., Any], name: str) -> None:
    if "class_weights" not in inspect.signature(loss).parameters:
        raise ConfigError(
            f"data.balance=weights: {name} takes no class_weights; add this argument, or give "
            "data.balance=sampling"
        )


def nodes_of(cfg: DictConfig, group: str) -> dict[str, dict[str, Any]]:
    """Return the nodes of the callbacks or loggers by name."""
    nodes = plain(cfg[group]) if cfg.get(group) else {}
    for name, node in nodes.items():
        if not isinstance(node, dict):
            raise ConfigError(f"{group}.{name}={node}: is no node; give {{_target_: package.module.Class}}")
    return nodes


def own_callbacks(cfg: DictConfig, run: RunFolder) -> list[pl.Callback]:
    """Build the user's callbacks.

    Raises:
        ConfigError: a callback refuses its arguments, or monitors a score that a training does not have.
    """
    callbacks: list[pl.Callback] = []
    task = Task.of(plain(cfg.task))
    names = score_names(num_classes=len(task.classes), ordered=task.ordered)
    known = [f"val/{score}" for score in (*names, *nodes_of(cfg, "metrics"))]
    for name, node in nodes_of(cfg, "callbacks").items():
        offered = {"dirpath": str(run.checkpoints / name)}  # for Lightning's ModelCheckpoint
        callback = build(node, key=f"callbacks.{name}", role=CALLBACK, offered=offered)
        refuse_unknown_score(name, node, callback, known=known)
        callbacks.append(callback)
    return callbacks


def try_parts(cfg: DictConfig, network: nn.Module) -> None:
    """Build the parts that need no data, so that wrong ones are reported before data are prepared."""
    build(plain(cfg.loss), key="loss", role=LOSS, offered={"class_weights": None})
    optimizer = build_optimizer(network, node=plain(cfg.optim))
    if cfg.get("schedule") is not None:
        build_schedule(
            optimizer,
            node=plain(cfg.schedule),
            steps_per_epoch=100,
            epochs=cfg.trainer.max_epochs,
            total_steps=100 * cfg.trainer.max_epochs,
            mode="max",
        )


def augmentation_of(cfg: DictConfig) -> Augmentation:
    """Build the augmentation of the training batches."""
    return build_augmentation(plain(cfg.augment), image_size=sample_size(cfg.data))
