"""One training from the composed config to a scored run folder."""

import contextlib
import logging
import math
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint, TQDMProgressBar
from torch import nn

from mammo.config import arguments_for
from mammo.data.augment import BatchAugment
from mammo.data.datamodule import MammogramDataModule
from mammo.data.sources import read_catalog
from mammo.data.splits import Split, make_split
from mammo.data.store import Store, prepare
from mammo.errors import ConfigError, DataError
from mammo.metrics import Estimate, clustered_auc
from mammo.models.backbones import build_model, input_statistics
from mammo.runs import RunFolder
from mammo.training.callbacks import EpochRecord
from mammo.training.module import MammogramModule

_PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


def fit(cfg: DictConfig, *, run_dir: Path, overrides: list[str]) -> RunFolder:
    """Prepares the data where needed, trains, and scores the best epoch on the validation images.

    Args:
        cfg: the checked config.
        run_dir: folder of the run, made here.
        overrides: what the user chose, for `run.json`.

    Returns:
        The finished run's folder.

    Raises:
        MammoError: one sentence for the user; the run folder says `failed`.
    """
    _quieten()
    accelerator = _accelerator(cfg.trainer.accelerator)
    store = prepare(read_catalog(**arguments_for(read_catalog, cfg.data)), **arguments_for(prepare, cfg.data))
    split = make_split(store.table, **arguments_for(make_split, cfg.data))
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)  # type: ignore[assignment]
    run = RunFolder.create(run_dir, config=config, overrides=overrides)
    started = time.perf_counter()
    with _status(run):
        _write_split(split, run.path / "split")
        pl.seed_everything(cfg.seed, workers=True, verbose=False)
        datamodule = _datamodule(cfg, store=store, split=split, on_gpu=accelerator == "gpu")
        module = _module(cfg, datamodule)
        trainer = _trainer(cfg, run=run, datamodule=datamodule, config=config, accelerator=accelerator)
        trainer.fit(module, datamodule)
        score = _score(trainer, module, datamodule)
        run.record(
            score={"name": "val/auc"} | {k: None if math.isnan(v) else v for k, v in asdict(score).items()},
            seconds=round(time.perf_counter() - started, 1),
            epochs=trainer.current_epoch,
            store=str(store.directory.absolute()),
        )
    return run


def _accelerator(wanted: str) -> str:
    if wanted == "gpu" and not torch.cuda.is_available():
        raise ConfigError(
            "trainer.accelerator=gpu: PyTorch finds no GPU here; give trainer=cpu or trainer=auto"
        )
    return "gpu" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def _datamodule(cfg: DictConfig, *, store: Store, split: Split, on_gpu: bool) -> MammogramDataModule:
    if not split.train or not split.val:
        side = "val" if split.train else "train"
        raise DataError(
            f"data.split={cfg.data.split}: no {side} images; change data.val_fraction or the split"
        )
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
    }
    return MammogramDataModule(**arguments)


def _module(cfg: DictConfig, datamodule: MammogramDataModule) -> MammogramModule:
    options: dict[str, Any] = OmegaConf.to_container(cfg.model, resolve=True)  # type: ignore[assignment]
    network: nn.Module = build_model(num_classes=len(datamodule.classes), **options)
    by_weights = cfg.data.normalisation == "weights"
    mean, std = input_statistics(network) if by_weights else datamodule.statistics()
    return MammogramModule(
        network=network,
        mean=mean,
        std=std,
        class_weights=datamodule.class_weights(),
        **arguments_for(MammogramModule, cfg.loss),
        **arguments_for(MammogramModule, cfg.optim),
        **arguments_for(MammogramModule, cfg.schedule),
    )


def _trainer(
    cfg: DictConfig,
    *,
    run: RunFolder,
    datamodule: MammogramDataModule,
    config: dict[str, Any],
    accelerator: str,
) -> pl.Trainer:
    both = len(set(datamodule.val.labels)) > 1
    if not both:
        _say("validation images are of one class: their AUC is undefined, the best epoch goes by val/loss")
    if len(set(datamodule.train.labels)) == 1:
        _say("training images are of one class: there is nothing to tell apart")
    monitor, mode = ("val/auc", "max") if both else ("val/loss", "min")
    best = ModelCheckpoint(
        run.checkpoints,
        filename="best",
        monitor=monitor,
        mode=mode,
        save_last=True,
        enable_version_counter=False,
    )
    callbacks: list[Callback] = [
        EpochRecord(tensorboard=run.tensorboard, metrics=run.metrics, config=config),
        best,
    ]
    if cfg.trainer.patience is not None:
        callbacks.append(EarlyStopping(monitor, mode=mode, patience=cfg.trainer.patience))
    if sys.stderr.isatty():
        callbacks.append(TQDMProgressBar(leave=False))
    precision = _precision(cfg.trainer.precision, accelerator)
    device = (
        torch.cuda.get_device_name() if accelerator == "gpu" else f"CPU, {torch.get_num_threads()} threads"
    )
    counts = f"{len(datamodule.train)} training and {len(datamodule.val)} validation images"
    _say(f"{counts}, {device}, {precision}, channels-last")
    return pl.Trainer(
        max_epochs=cfg.trainer.max_epochs,
        accelerator=accelerator,
        devices=cfg.trainer.devices,
        precision=_PRECISION[precision],  # type: ignore[arg-type]
        gradient_clip_val=cfg.trainer.gradient_clip,
        # warns, rather than fails, where the device has no such kernel
        deterministic="warn" if cfg.trainer.deterministic else False,
        limit_train_batches=1 if cfg.trainer.fast_dev_run else None,
        limit_val_batches=1 if cfg.trainer.fast_dev_run else None,
        callbacks=callbacks,
        logger=False,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        enable_progress_bar=sys.stderr.isatty(),
    )


def _precision(wanted: str, accelerator: str) -> str:
    """What `auto` means: bfloat16 only where the processor computes in it, for elsewhere it is emulated."""
    if wanted != "auto":
        return wanted
    if accelerator == "gpu":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return (
        "bfloat16"
        if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        else "float32"
    )


def _score(trainer: pl.Trainer, module: MammogramModule, datamodule: MammogramDataModule) -> Estimate:
    """AUC of the best epoch's weights on the validation images, its interval by patient."""
    checkpoint = trainer.checkpoint_callback
    assert isinstance(checkpoint, ModelCheckpoint)
    trainer.validate(
        module, datamodule, ckpt_path=checkpoint.best_model_path, verbose=False, weights_only=True
    )
    probability, label, row = module.val_scores.gathered()
    patients = datamodule.store.table.set_index("row")["patient_id"]
    return clustered_auc(probability, label, patients.loc[row.tolist()].to_numpy(dtype=str))


def _write_split(split: Split, folder: Path) -> None:
    folder.mkdir()
    for side, image_ids in asdict(split).items():
        (folder / f"{side}.txt").write_text("".join(f"{image_id}\n" for image_id in image_ids))


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
    ):
        warnings.filterwarnings("ignore", message)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
