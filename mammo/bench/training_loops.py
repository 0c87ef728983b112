"""Training steps: by Lightning, by a bare PyTorch loop, and of the network alone."""

import copy
import itertools
import time
from collections.abc import Iterable
from typing import Any, cast

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from pytorch_lightning.callbacks import LambdaCallback
from torch import Tensor

from mammo.data.loading.datamodule import augmented, mixed
from mammo.data.loading.loader import Batch, scaled
from mammo.data.samples import sample_size
from mammo.models.example_input import example_input
from mammo.models.output import as_output
from mammo.runs import RunFolder
from mammo.runs.run_lock import RunLock
from mammo.training.fit import training_options
from mammo.training.setup import Training

_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class Clock:
    """Time from the end of the warm-up to the end of the last step; both loops report each batch.

    Attributes:
        first: number of batches of the warm-up.
        last: total number of batches.
        done: number of batches done so far.
    """

    def __init__(self, cfg: DictConfig) -> None:
        parts: int = cfg.data.micro_batches * cfg.trainer.accumulate_grad_batches
        self.first = cfg.warmup * parts
        self.last = (cfg.warmup + cfg.steps) * parts
        self.images: int = cfg.steps * cfg.data.batch_size * cfg.trainer.accumulate_grad_batches
        self.parts = parts
        self.done = 0
        self.times: list[float] = []

    def batch_done(self, *_: Any) -> None:
        self.done += 1
        if self.done in (self.first, self.last):
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # wait for the queued work
            self.times.append(time.perf_counter())

    def images_per_second(self) -> float:
        first, last = self.times
        return self.images / (last - first)


def lightning_speed(cfg: DictConfig, training: Training, run: RunFolder) -> float:
    """Return images per second of a short epoch with the module, callbacks and options of a real run."""
    clock = Clock(cfg)
    options = training.options | training_options(
        cfg, run=run, lock=RunLock(run.path), monitor=training.monitor
    )
    # validation and checkpoints follow the last batch and are not timed
    options |= {"max_epochs": 1, "limit_train_batches": clock.last, "limit_val_batches": 1}
    options["callbacks"].append(LambdaCallback(on_train_batch_end=clock.batch_done))
    pl.Trainer(**options).fit(training.module, training.datamodule)
    return clock.images_per_second()


def resident(cfg: DictConfig, training: Training) -> Iterable[Batch]:
    """Return an endless iterable of the first training batch, which is on the device."""
    batch: Any = next(iter(training.datamodule.train_dataloader()))
    return itertools.repeat({name: value.to(_device(training)) for name, value in batch.items()})  # type: ignore[arg-type]


def bare_model_speed(cfg: DictConfig, training: Training, *, plain: bool = False) -> float:
    """Return images per second of network, loss and optimiser on a prepared tensor.

    Args:
        cfg: configuration of the bench.
        training: training that provides network, loss and optimiser.
        plain: whether to use float32 and contiguous memory instead of the settings of the training.
    """
    module, size = training.module, training.datamodule.part_size
    device = _device(training)
    dtype = None if plain else _AUTOCAST.get(training.options["precision"])
    layout = torch.contiguous_format if plain else torch.channels_last
    # a copy, so that the module is unchanged
    network = copy.deepcopy(module.network).to(device).to(memory_format=layout).train()
    optimizer = module.build_optimizer(network)
    shown = example_input(network, sample_size(cfg.data), batch=size)
    inputs = [tensor.to(device) for tensor in shown]
    labels = torch.arange(size, device=device) % 2
    clock = Clock(cfg)
    for _ in range(clock.last):
        with torch.autocast(device, dtype=dtype, enabled=dtype is not None):
            loss: Tensor = F.cross_entropy(as_output(network(*inputs)).logits.float(), labels)
        if clock.done % clock.parts == 0:
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if (clock.done + 1) % clock.parts == 0:
            optimizer.step()
        clock.batch_done()
    return clock.images_per_second()


def _device(training: Training) -> str:
    return "cuda" if training.options["accelerator"] == "gpu" else "cpu"


def bare_speed(cfg: DictConfig, training: Training, loader: Iterable[Batch]) -> float:
    """Return images per second of a bare loop with the same network, optimiser, precision and clipping."""
    module, data = training.module, training.datamodule
    device = _device(training)
    dtype = _AUTOCAST.get(training.options["precision"])
    # as in training
    deterministic = cfg.trainer.deterministic
    torch.use_deterministic_algorithms(bool(deterministic), warn_only=deterministic == "warn")
    module.to(device).train()
    optimizer = module.build_optimizer(module.network)
    scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16)
    generator = torch.Generator().manual_seed(cfg.seed)
    clock = Clock(cfg)
    for batch in itertools.islice(loader, clock.last):
        given: Any = batch.items()
        tensors = {name: tensor.to(device, non_blocking=True) for name, tensor in given}
        moved = scaled(cast(Batch, tensors))
        if data.augment is not None:
            moved = augmented(moved, data.augment, generator=generator)
        if data.mixup:
            moved = mixed(moved, alpha=data.mixup, generator=generator)
        with torch.autocast(device, dtype=dtype, enabled=dtype is not None):
            output = module.output(moved["image"], moved["present"])  # normalises, channels last
            loss = torch.stack(list(module.loss_terms(output, moved).values())).sum()
        if clock.done % clock.parts == 0:
            optimizer.zero_grad()
        scaler.scale(loss / clock.parts).backward()  # type: ignore[no-untyped-call]
        if (clock.done + 1) % clock.parts == 0:
            scaler.unscale_(optimizer)
            if (limit := cfg.trainer.gradient_clip_val) is not None:
                by_norm = cfg.trainer.gradient_clip_algorithm == "norm"
                clip = torch.nn.utils.clip_grad_norm_ if by_norm else torch.nn.utils.clip_grad_value_
                clip(module.network.parameters(), limit)
            scaler.step(optimizer)
            scaler.update()
        clock.batch_done()
    return clock.images_per_second()
