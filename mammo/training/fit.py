"""One training from the composed config to a scored run folder."""

import contextlib
import logging
import math
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback, EarlyStopping, EMAWeightAveraging, TQDMProgressBar
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mammo.config import arguments_for
from mammo.data.augment import BatchAugment
from mammo.data.datamodule import MammogramDataModule
from mammo.data.sources import read_catalog
from mammo.data.splits import Split, make_split
from mammo.data.store import Store, prepare
from mammo.data.tasks import CLASSES
from mammo.errors import ConfigError, DataError
from mammo.models.backbones import build_model, input_statistics
from mammo.runs import RunFolder
from mammo.training.callbacks import BatchSeed, EpochRecord, FiniteLoss, Unfreezing
from mammo.training.checkpoints import Checkpoints, newest_whole
from mammo.training.hparams import write_hparams
from mammo.training.losses import build_loss
from mammo.training.memory import largest_batch, memory_told
from mammo.training.module import MammogramModule
from mammo.training.optim import build_optimizer, learning_rate_factor
from mammo.training.precision import choose_precision
from mammo.training.scoring import score_best

_PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


@dataclass(frozen=True)
class Training:
    """A training that is ready to begin."""

    store: Store
    split: Split
    datamodule: MammogramDataModule
    module: MammogramModule
    monitor: str  # the score by which the best epoch is chosen
    options: dict[str, Any]  # of `pl.Trainer`, in training and scoring alike


def fit(cfg: DictConfig, *, run_dir: Path, overrides: list[str]) -> RunFolder:
    """Prepares the data where needed, trains, and scores the best epoch on the validation images.

    Args:
        cfg: the checked config; with `resume`, that of the run in `run_dir`, which goes on.
        run_dir: folder of the run, made here.
        overrides: what the user chose, for `run.json`.

    Returns:
        The finished run's folder.

    Raises:
        MammoError: one sentence for the user; the run folder says `failed`.
    """
    training = set_up(cfg)
    datamodule, module, options = training.datamodule, training.module, training.options
    run = _run(cfg, run_dir, store=training.store, split=training.split, overrides=overrides)
    started = time.perf_counter()
    with _status(run):
        trainer = pl.Trainer(**options, **training_options(cfg, run=run, monitor=training.monitor))
        _say(f"{len(datamodule.train)} training and {len(datamodule.val)} validation images")
        with memory_told(cfg.data, cfg.trainer.accumulate):
            checkpoint = _checkpoint(run) if cfg.resume else None
            trainer.fit(module, datamodule, ckpt_path=checkpoint, weights_only=True)
        score = score_best(
            pl.Trainer(**options, enable_checkpointing=False),
            module,
            datamodule,
            checkpoint=run.checkpoints / "best.ckpt",
            predictions=run.evaluation / "val" / "predictions.csv",
            fold=cfg.data.fold if cfg.data.split == "kfold" else None,
        )
        seconds = round(run.facts().get("seconds", 0.0) + time.perf_counter() - started, 1)
        write_hparams(run.tensorboard, config=run.config(), score=score, seconds=seconds)
        run.record(
            score={"name": "val/auc"} | {k: None if math.isnan(v) else v for k, v in asdict(score).items()},
            seconds=seconds,
            epochs=trainer.current_epoch,
        )
    return run


def set_up(cfg: DictConfig) -> Training:
    """Prepares the data where needed, and makes of the config what a training needs but its run folder.

    Fills in `cfg.data.batch_size` where it is null.

    Raises:
        MammoError: one sentence for the user.
    """
    _quieten()
    accelerator = _accelerator(cfg.trainer.accelerator)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    network = _network(cfg)  # first, for wrong weights are told sooner than data are prepared
    store = prepare(read_catalog(**arguments_for(read_catalog, cfg.data)), **arguments_for(prepare, cfg.data))
    split = make_split(store.table, **arguments_for(make_split, cfg.data))
    _refuse_empty(split, cfg.data.split)
    if cfg.data.batch_size is None:
        size = (cfg.data.height, cfg.data.width)
        most = len(split.train)
        cfg.data.batch_size = largest_batch(network, size=size, accelerator=accelerator, most=most)
        _say(f"data.batch_size={cfg.data.batch_size}: the largest power of two that fits the memory")
    datamodule = _datamodule(cfg, store=store, split=split, on_gpu=accelerator == "gpu")
    monitor = _monitor(datamodule)
    return Training(
        store=store,
        split=split,
        datamodule=datamodule,
        module=_module(cfg, network, datamodule, monitor),
        monitor=monitor,
        options=_trainer_options(cfg, network, accelerator),
    )


def _run(cfg: DictConfig, run_dir: Path, *, store: Store, split: Split, overrides: list[str]) -> RunFolder:
    """The new run's folder, or that of the run which goes on."""
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)  # type: ignore[assignment]
    config |= {"resume": None}
    if not cfg.resume:
        run = RunFolder.create(run_dir, config=config, overrides=overrides)
        _write_split(split, run.path / "split")
        run.record(store=str(store.directory.absolute()))
        return run
    run = RunFolder(run_dir)
    if newest_whole(run.checkpoints)[0] is not None and _read_split(run.path / "split") != split:
        raise DataError(
            f"resume={cfg.resume}: the run began with other images; bring them back, or start a new run"
        )
    _write_split(split, run.path / "split")
    run.write_config(config)
    run.record(status="running", error=None, resumed=run.facts().get("resumed", 0) + 1)
    return run


def _checkpoint(run: RunFolder) -> Path | None:
    """Where a run goes on; None at its beginning."""
    checkpoint, damaged = newest_whole(run.checkpoints)
    for file in damaged:
        _say(f"{file} is damaged: the run goes on from the one before")
    if checkpoint is None:
        _say(f"{run.path} has no checkpoint yet: the run starts at its beginning")
    else:
        _say(f"goes on from {checkpoint}")
    return checkpoint


def _accelerator(wanted: str) -> str:
    if wanted == "gpu" and not torch.cuda.is_available():
        raise ConfigError(
            "trainer.accelerator=gpu: PyTorch finds no GPU here; give trainer=cpu or trainer=auto"
        )
    return "gpu" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def _refuse_empty(split: Split, name: str) -> None:
    if not split.train or not split.val:
        side = "val" if split.train else "train"
        raise DataError(f"data.split={name}: no {side} images; change data.val_fraction or the split")


def _datamodule(cfg: DictConfig, *, store: Store, split: Split, on_gpu: bool) -> MammogramDataModule:
    arguments = arguments_for(MammogramDataModule, cfg.data)
    if arguments["loader_workers"] is None:
        arguments["loader_workers"] = 2 if on_gpu else 0
    arguments |= {
        # in place of the folder, the name and the seed of the split
        "store": store,
        "split": split,
        "seed": cfg.seed,
        "task": cfg.task.name,
        "augment": BatchAugment(**arguments_for(BatchAugment, cfg.augment)),
        "mixup": cfg.augment.mixup,
        "accumulate": cfg.trainer.accumulate,
    }
    return MammogramDataModule(**arguments)


def _network(cfg: DictConfig) -> nn.Module:
    options: dict[str, Any] = OmegaConf.to_container(cfg.model, resolve=True)  # type: ignore[assignment]
    return build_model(
        num_classes=len(CLASSES[cfg.task.name]), image_size=(cfg.data.height, cfg.data.width), **options
    )


def _monitor(datamodule: MammogramDataModule) -> str:
    """The score by which the best epoch is chosen."""
    if len(set(datamodule.train.labels)) == 1:
        _say("training images are of one class: there is nothing to tell apart")
    if len(set(datamodule.val.labels)) > 1:
        return "val/auc"
    _say("validation images are of one class: their AUC is undefined, the best epoch goes by val/loss")
    return "val/loss"


def _mode(monitor: str) -> Literal["max", "min"]:
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
        plateau = partial(ReduceLROnPlateau, mode=_mode(monitor), threshold=0.0, **options)
    if cfg.trainer.compile:
        network.compile()
    return MammogramModule(
        network=network,
        num_classes=len(datamodule.classes),
        mean=mean,
        std=std,
        loss=build_loss(class_weights=datamodule.class_weights(), **arguments_for(build_loss, cfg.loss)),
        optimizer=partial(build_optimizer, **arguments_for(build_optimizer, cfg.optim)),
        schedule=partial(learning_rate_factor, **arguments_for(learning_rate_factor, cfg.schedule)),
        plateau=plateau,
        monitor=monitor,
    )


def _callbacks(cfg: DictConfig, *, run: RunFolder, monitor: str) -> list[Callback]:
    mode = _mode(monitor)
    callbacks: list[Callback] = [
        BatchSeed(cfg.seed),
        FiniteLoss(),
        Unfreezing(**arguments_for(Unfreezing, cfg.optim)),
    ]
    if cfg.trainer.ema_decay is not None:
        callbacks.append(EMAWeightAveraging(decay=cfg.trainer.ema_decay))
    callbacks.append(EpochRecord(tensorboard=run.tensorboard, metrics=run.metrics, config=run.config()))
    if cfg.trainer.patience is not None:
        callbacks.append(EarlyStopping(monitor, mode=mode, patience=cfg.trainer.patience))
    run.checkpoints.mkdir(exist_ok=True)
    callbacks.append(
        Checkpoints(
            folder=run.checkpoints,
            monitor=monitor,
            mode=mode,
            minutes=cfg.trainer.checkpoint_minutes,
            steps=cfg.trainer.checkpoint_steps,
        )
    )
    if sys.stderr.isatty():
        callbacks.append(TQDMProgressBar(leave=False))
    return callbacks


def training_options(cfg: DictConfig, *, run: RunFolder, monitor: str) -> dict[str, Any]:
    """Of `pl.Trainer` in training alone, with the callbacks, which write to the run's folder."""
    return {
        "max_epochs": cfg.trainer.max_epochs,
        "accumulate_grad_batches": cfg.trainer.accumulate,
        "gradient_clip_val": cfg.trainer.gradient_clip,
        "limit_train_batches": 1 if cfg.trainer.fast_dev_run else None,
        "callbacks": _callbacks(cfg, run=run, monitor=monitor),
    }


def _trainer_options(cfg: DictConfig, network: nn.Module, accelerator: str) -> dict[str, Any]:
    """Of training and scoring alike."""
    precision = choose_precision(
        cfg.trainer.precision,
        accelerator=accelerator,
        network=network,
        size=(cfg.data.height, cfg.data.width),
    )
    device = (
        torch.cuda.get_device_name() if accelerator == "gpu" else f"CPU, {torch.get_num_threads()} threads"
    )
    _say(f"{device}, {precision}, channels-last")
    return {
        "accelerator": accelerator,
        "devices": cfg.trainer.devices,
        "precision": _PRECISION[precision],
        # warns, rather than fails, where the device has no such kernel
        "deterministic": "warn" if cfg.trainer.deterministic else False,
        "limit_val_batches": 1 if cfg.trainer.fast_dev_run else None,
        "logger": False,
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
        "enable_progress_bar": sys.stderr.isatty(),
    }


def _write_split(split: Split, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for side, image_ids in asdict(split).items():
        (folder / f"{side}.txt").write_text("".join(f"{image_id}\n" for image_id in image_ids))


def _read_split(folder: Path) -> Split:
    sides = ("train", "val", "test")
    return Split(**{side: (folder / f"{side}.txt").read_text().splitlines() for side in sides})


@contextlib.contextmanager
def _status(run: RunFolder) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        run.record(status="interrupted" if stopped else "failed", error=f"{type(error).__name__}: {error}")
        raise
    run.record(status="finished")


def _quieten() -> None:
    """Silences Lightning's advertisements and its advice against what is chosen here on purpose."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*number of training batches.*",
        ".*exists and is not empty.*",
        ".*LeafSpec.* is deprecated.*",
        # the sampler goes on where it was
        ".*your dataloader is not resumable.*",
    ):
        warnings.filterwarnings("ignore", message)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
