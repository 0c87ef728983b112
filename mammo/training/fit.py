"""One training, from the composed configuration to a scored run folder."""

import contextlib
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.callbacks import (
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    ProgressBar,
)

from mammo.config.checks import arguments_for, plain
from mammo.data.samples import PLURALS
from mammo.data.splits import Split
from mammo.errors import ConfigError, DataError, TrainingStopped
from mammo.runs import RunFolder
from mammo.runs.provenance import current_provenance
from mammo.runs.run_lock import RunLock
from mammo.training.best_epoch import score_best
from mammo.training.callbacks import BatchSeed, BestEpochCallback, FiniteLoss, LastStep, SameStart, Unfreezing
from mammo.training.checkpoints import Checkpoints, newest_whole
from mammo.training.devices.batch_memory import explain_out_of_memory
from mammo.training.loggers.epoch_record import EpochRecord
from mammo.training.loggers.logger_output import end_of_loggers, log_score, log_settings, run_ids
from mammo.training.run_progress import RunProgress
from mammo.training.setup import Training, mode_of, say, set_up
from mammo.training.trainer_options import (
    build_trainer,
    show_progress,
    training_only_options,
    with_callbacks,
)


def fit(
    cfg: DictConfig,
    *,
    run_dir: Path,
    overrides: list[str],
    callbacks: Sequence[Callback] = (),
    part_of: Path | None = None,
    searched: Sequence[str] | None = None,
    lock: RunLock,
) -> RunFolder | None:
    """Prepare the data if needed, train, and score the best epoch on the validation images.

    Args:
        cfg: checked configuration; with `resume`, that of the resumed run in `run_dir`.
        run_dir: folder of the run, created here.
        overrides: overrides of the command line, for `run.json`.
        callbacks: callbacks added to those of every training.
        part_of: folder of the multirun or search that the run belongs to, for `run.json`.
        searched: keys and groups in which its runs differ, the columns of TensorBoard's HParams; None for a
            run by itself, whose columns are the settings that differ from the defaults.
        lock: lock of the run folder, acquired here and released by the caller.

    Returns:
        Folder of the finished run; None in all processes of a distributed training except the first, which
        alone writes and scores.

    Raises:
        ConfigError: another process is training the run that is to be resumed.
        RunTakenError: another process has taken the run over; it is left as that process wrote it.
        MammoError: one sentence for the user; the status of the run is `failed`.
    """
    run = RunFolder(run_dir)
    training = set_up(cfg, run=run)
    datamodule, module, options = training.datamodule, training.module, training.options
    is_first = training.processes.rank == 0
    if is_first and cfg.resume:
        lock.acquire()
    checkpoint = _checkpoint(run) if cfg.resume else None
    if is_first:
        run = _run(cfg, lock, training, begun=checkpoint is not None, overrides=overrides)
        run.record(
            device=training.device,
            part_of=None if part_of is None else str(part_of),
            store=str(training.store.directory.absolute()),
            kinds=training.store.manifest["kinds"],
            monitor=training.monitor,
        )
        _start_loggers(training, run, begun=checkpoint is not None)
    started = time.perf_counter()
    with _status(run, lock) if is_first else contextlib.nullcontext(), _ended(training):
        trainer = _train(cfg, training, run=run, lock=lock, checkpoint=checkpoint, callbacks=callbacks)
        if not is_first:
            return None
        best = run.checkpoints / "best.ckpt"
        if not best.exists():  # no validation within the training
            shutil.copyfile(run.checkpoints / "last.ckpt", best)
        score = score_best(
            pl.Trainer(**options | {"enable_progress_bar": False}, enable_checkpointing=False),
            module,
            datamodule,
            checkpoint=best,
            predictions=run.evaluation / "val" / "predictions.csv",
            fold=cfg.data.fold if cfg.data.split == "kfold" else None,
            provenance=current_provenance(run, split="val"),
        )
        lock.check()
        for callback in callbacks:
            if isinstance(callback, BestEpochCallback):
                callback.on_best_epoch(trainer, module)
        seconds = round(run.facts().get("seconds", 0.0) + time.perf_counter() - started, 1)
        log_score(
            training.loggers.values(),
            run=run,
            score=score,
            seconds=seconds,
            step=trainer.global_step,
            searched=searched,
        )
        run.record(
            score={"name": "val/auc"} | {k: None if math.isnan(v) else v for k, v in asdict(score).items()},
            seconds=seconds,
            epochs=trainer.current_epoch,
        )
    return run


def _train(
    cfg: DictConfig,
    training: Training,
    *,
    run: RunFolder,
    lock: RunLock,
    checkpoint: Path | None,
    callbacks: Sequence[Callback],
) -> pl.Trainer:
    """Train to the last epoch, from the checkpoint, or from the beginning if it is None."""
    datamodule, processes = training.datamodule, training.processes
    if processes.count > 1:
        facts = {"config": _settings(cfg) | {"run_dir": None}, "split": asdict(training.split)}
        callbacks = [SameStart(facts | {"checkpoint": str(checkpoint and checkpoint.resolve())}), *callbacks]
    options = training.options | training.distributed | {"logger": list(training.loggers.values())}
    more = [*callbacks, *training.callbacks]
    options |= training_options(cfg, run=run, lock=lock, monitor=training.monitor, more=more)
    trainer = build_trainer(options)
    units = PLURALS[datamodule.sample_unit]
    say(f"{len(datamodule.train.units)} training and {len(datamodule.val.units)} validation {units}")
    memory = explain_out_of_memory(cfg.data, processes=processes.count)
    with memory, _explain_nondeterminism(), processes.together(trainer):
        trainer.fit(training.module, datamodule, ckpt_path=checkpoint, weights_only=True)
    return trainer


def _settings(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as the run folder keeps it."""
    return plain(cfg) | {"resume": None}


def _run(
    cfg: DictConfig, lock: RunLock, training: Training, *, begun: bool, overrides: list[str]
) -> RunFolder:
    """Folder of the new run, or of the resumed run, which has begun if it has a checkpoint."""
    split = training.split
    config = _settings(cfg)
    if not cfg.resume:
        run = RunFolder.create(lock.folder, config=config, overrides=overrides, lock=lock)
        _write_split(training, run.path / "split")
        return run
    run = RunFolder(lock.folder)
    if begun and _read_split(run.path / "split") != split:
        raise DataError(
            f"resume={cfg.resume}: the run began with other images; bring them back, or start a new run"
        )
    if not begun:  # the curves of a process that was killed before its first checkpoint
        shutil.rmtree(run.tensorboard, ignore_errors=True)
    _write_split(training, run.path / "split")
    run.write_config(config)
    run.record(status="running", error=None, resumed=run.facts().get("resumed", 0) + 1)
    run.record_code()
    return run


def _checkpoint(run: RunFolder) -> Path | None:
    """Checkpoint from which a run resumes; None if it starts at its beginning."""
    checkpoint, damaged = newest_whole(run.checkpoints)
    for file in damaged:
        say(f"{file} is damaged: the run resumes from the previous one")
    if checkpoint is None:
        say(f"{run.path} has no checkpoint yet: the run starts at its beginning")
    else:
        say(f"resumes from {checkpoint}")
    return checkpoint


def _callbacks(cfg: DictConfig, *, run: RunFolder, lock: RunLock, monitor: str) -> list[Callback]:
    mode = mode_of(monitor)
    callbacks: list[Callback] = [
        BatchSeed(cfg.seed),
        FiniteLoss(),
        Unfreezing(**arguments_for(Unfreezing, cfg.optim)),
    ]
    if cfg.trainer.ema_decay is not None:
        callbacks.append(EMAWeightAveraging(decay=cfg.trainer.ema_decay))
    callbacks += [
        LastStep(),
        EpochRecord(metrics=run.metrics, lock=lock, every_n_steps=cfg.trainer.log_every_n_steps),
    ]
    if cfg.trainer.patience is not None:
        callbacks.append(EarlyStopping(monitor, mode=mode, patience=cfg.trainer.patience))
    callbacks.append(
        Checkpoints(
            folder=run.checkpoints,
            lock=lock,
            monitor=monitor,
            mode=mode,
            minutes=cfg.trainer.checkpoint_minutes,
            steps=cfg.trainer.checkpoint_steps,
        )
    )
    return callbacks


def training_options(
    cfg: DictConfig, *, run: RunFolder, lock: RunLock, monitor: str, more: Sequence[Callback] = ()
) -> dict[str, Any]:
    """Options of `pl.Trainer` for training only, with the callbacks that write to the run folder."""
    callbacks = [*more, *_callbacks(cfg, run=run, lock=lock, monitor=monitor)]
    shown = show_progress(cfg) and not any(isinstance(callback, ProgressBar) for callback in more)
    bar = [RunProgress()] if shown else []
    return with_callbacks(training_only_options(cfg, run_dir=run.path), [*callbacks, *bar])


def _start_loggers(training: Training, run: RunFolder, *, begun: bool) -> None:
    """Hand the settings to the loggers, and record the ids by which a resumed run continues theirs."""
    if not training.loggers:
        return
    if not begun:
        log_settings(training.loggers.values(), config=run.config(), run=run)
    known = run.facts().get("loggers", {"version": training.version})
    run.record(loggers=known | {"run_ids": run_ids(training.loggers)})


@contextlib.contextmanager
def _ended(training: Training) -> Iterator[None]:
    """End the loggers' own processes, however the training ends."""
    failed = True
    try:
        yield
        failed = False
    finally:
        end_of_loggers(training.loggers, failed=failed)


@contextlib.contextmanager
def _explain_nondeterminism() -> Iterator[None]:
    """Turn the error of an operation without a deterministic kernel into a `ConfigError`."""
    try:
        yield
    except RuntimeError as error:
        if "does not have a deterministic implementation" not in str(error):
            raise
        operation = str(error).partition(" ")[0]
        raise ConfigError(
            f"trainer.deterministic=true: {operation} has no deterministic kernel here; give "
            "trainer.deterministic=warn"
        ) from error


def _write_split(training: Training, folder: Path) -> None:
    """Write the image ids of each set, and the images that are in none with the reason.

    Images of patients whom the initial weights were trained on are listed in `pretrained.txt`.
    """
    folder.mkdir(exist_ok=True)
    lists = asdict(training.split) | ({"pretrained": training.pretrained} if training.pretrained else {})
    for side, image_ids in lists.items():
        (folder / f"{side}.txt").write_text("".join(f"{image_id}\n" for image_id in image_ids))
    training.left_out.to_csv(folder / "left_out.csv", index=False)


def _read_split(folder: Path) -> Split:
    sides = ("train", "val", "test")
    return Split(**{side: (folder / f"{side}.txt").read_text().splitlines() for side in sides})


@contextlib.contextmanager
def _status(run: RunFolder, lock: RunLock) -> Iterator[None]:
    """Record how the training ended, unless another process has taken the run over."""
    try:
        yield
        lock.check()
    except TrainingStopped as ended:
        if ended.status is not None:
            run.record(status=ended.status)
        raise
    except BaseException as error:
        lock.check()  # the error may come from the other process's files
        status = "interrupted" if isinstance(error, KeyboardInterrupt | SystemExit) else "failed"
        run.record(status=status, error=f"{type(error).__name__}: {error}")
        raise
    run.record(status="finished")
