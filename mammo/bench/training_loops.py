"""Training steps: by Lightning, by a loop as one would write it by hand, and of the bare network."""

import copy
import itertools
import time
from collections.abc import Iterable
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from pytorch_lightning.callbacks import LambdaCallback
from torch import Tensor

from mammo.data.loading.augment import mixup
from mammo.data.loading.loader import Batch
from mammo.runs import RunFolder
from mammo.training.fit import training_options
from mammo.training.setup import Training

_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class Clock:
    """Time from the end of the warm-up to the end of the last step; both loops report each batch.

    Attributes:
        first: batches of the warm-up.
        last: batches in all.
        done: batches so far.
    """

    def __init__(self, cfg: DictConfig) -> None:
        parts: int = cfg.trainer.accumulate
        self.first = cfg.warmup * parts
        self.last = (cfg.warmup + cfg.steps) * parts
        self.images: int = cfg.steps * cfg.data.batch_size
        self.done = 0
        self.times: list[float] = []

    def batch_done(self, *_: Any) -> None:
        self.done += 1
        if self.done in (self.first, self.last):
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # the work is only queued so far
            self.times.append(time.perf_counter())

    def images_per_second(self) -> float:
        first, last = self.times
        return self.images / (last - first)


def lightning_speed(cfg: DictConfig, training: Training, run: RunFolder) -> float:
    """Images per second of a short epoch with the module, the callbacks and the options of a real run."""
    clock = Clock(cfg)
    options = training.options | training_options(cfg, run=run, monitor=training.monitor)
    # the validation and the checkpoints of the epoch's end come after the last batch, untimed
    options |= {"max_epochs": 1, "limit_train_batches": clock.last, "limit_val_batches": 1}
    options["callbacks"].append(LambdaCallback(on_train_batch_end=clock.batch_done))
    pl.Trainer(**options).fit(training.module, training.datamodule)
    return clock.images_per_second()


def resident(cfg: DictConfig, training: Training) -> Iterable[Batch]:
    """The first training batch, on the device, again and again."""
    batch: Any = next(iter(training.datamodule.train_dataloader()))
    return itertools.repeat({name: value.to(_device(training)) for name, value in batch.items()})  # type: ignore[arg-type]


def bare_model_speed(cfg: DictConfig, training: Training, *, plain: bool = False) -> float:
    """Images per second of the network, loss and optimiser on numbers that are ready.

    Args:
        cfg: configuration of the bench.
        training: training that provides network, loss and optimiser.
        plain: in float32 and contiguous, instead of as in training.
    """
    module, size = training.module, training.datamodule.part_size
    device = _device(training)
    dtype = None if plain else _AUTOCAST.get(training.options["precision"])
    layout = torch.contiguous_format if plain else torch.channels_last
    # the module itself stays as it is
    network = copy.deepcopy(module.network).to(device).to(memory_format=layout).train()
    optimizer = module.build_optimizer(network)
    images = torch.randn(size, 1, cfg.data.height, cfg.data.width, device=device)
    images = images.contiguous(memory_format=layout)
    labels = torch.arange(size, device=device) % 2
    clock = Clock(cfg)
    for _ in range(clock.last):
        with torch.autocast(device, dtype=dtype, enabled=dtype is not None):
            loss: Tensor = F.cross_entropy(network(images).float(), labels)
        if clock.done % cfg.trainer.accumulate == 0:
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if (clock.done + 1) % cfg.trainer.accumulate == 0:
            optimizer.step()
        clock.batch_done()
    return clock.images_per_second()


def _device(training: Training) -> str:
    return "cuda" if training.options["accelerator"] == "gpu" else "cpu"


def bare_speed(cfg: DictConfig, training: Training, loader: Iterable[Batch]) -> float:
    """Images per second of the bare loop: same network, optimiser, number format, clipping and batches."""
    module, data = training.module, training.datamodule
    device = _device(training)
    dtype = _AUTOCAST.get(training.options["precision"])
    torch.use_deterministic_algorithms(cfg.trainer.deterministic, warn_only=True)  # the same kernels
    module.to(device).train()
    optimizer = module.build_optimizer(module.network)
    scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16)
    generator = torch.Generator().manual_seed(cfg.seed)
    clock = Clock(cfg)
    for batch in itertools.islice(loader, clock.last):
        image = batch["image"].to(device, non_blocking=True)
        boxes = batch["boxes"].to(device, non_blocking=True)
        label = batch["label"].to(device, non_blocking=True)
        image = image.float() / torch.iinfo(image.dtype).max
        if data.augment is not None:
            image, boxes = data.augment(image, boxes, generator=generator)
        partner, share = label, 1.0
        if data.mixup:
            image, partner, share = mixup(image, label, alpha=data.mixup, generator=generator)
        with torch.autocast(device, dtype=dtype, enabled=dtype is not None):
            logits = module(image)  # normalises, channels last
            loss = module.loss(logits, label)
            if data.mixup:
                loss = share * loss + (1 - share) * module.loss(logits, partner)
        if clock.done % data.accumulate == 0:
            optimizer.zero_grad()
        scaler.scale(loss / data.accumulate).backward()
        if (clock.done + 1) % data.accumulate == 0:
            scaler.unscale_(optimizer)
            if cfg.trainer.gradient_clip is not None:
                torch.nn.utils.clip_grad_norm_(module.network.parameters(), cfg.trainer.gradient_clip)
            scaler.step(optimizer)
            scaler.update()
        clock.batch_done()
    return clock.images_per_second()
