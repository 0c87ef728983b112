"""The stages of the bench by name, and what they share.

- prepare: images of the data (full-size DICOM files by default) and their masks, from the page cache into a
  new store, by two worker processes after their start. Compared with twice the speed of one process that
  only reads and decodes the files and resizes each once, by area, to its prepared size.
- loader: batches read by one thread from the prepared store in the page cache. Compared with a copy of the
  same number of bytes. Its rivals read the same images from other formats: the DICOM file, decoded and
  resized at every epoch, a 16-bit PNG, an 8-bit JPEG.
- patches: windows of 128 x 128 pixels at random places of the training images, read by one thread from the
  prepared store in the page cache. Compared with a copy of the same number of bytes. Its rivals cut the
  windows from images in memory, and from whole images that are read one by one.
- step: an optimiser step on a batch that is on the device, with scaling and augmentation. Compared with the
  step of the bare network on a prepared tensor. Its rival is the bare network in float32 and contiguous
  memory.
- train: optimiser steps of Lightning as `train.py` configures it. Compared with the slower of loader and
  step. Its rival is a bare PyTorch loop with the same loader and the same operations on images and weights,
  without scores, callbacks and learning-rate schedule. Validation, the end of an epoch and progress bars
  are not timed.
- evaluate: the evaluation of a run on its training images with heatmaps and report, as `mammo.evaluate`
  does it. Compared with the forward passes alone.
- startup: from the command to the checkpoint after the first optimiser step, for `python -m mammo.train`
  with the overrides of the bench and the other defaults of train.py, on a prepared store. Compared with a
  script that imports PyTorch and timm and takes the same step. It also times `--help` and a mistake in the
  configuration.

The rivals of a stage are measured in turn, so that a slowdown of the machine affects all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from hydra import compose
from omegaconf import DictConfig

from mammo.bench.evaluate_stage import measure_evaluate
from mammo.bench.loader_stage import measure_loader
from mammo.bench.measurement import Result
from mammo.bench.patch_stage import measure_patches
from mammo.bench.prepare_stage import measure_prepare
from mammo.bench.startup_stage import measure_startup
from mammo.bench.step_stages import measure_step, measure_train
from mammo.config.composition import own_hydra
from mammo.errors import ConfigError
from mammo.training.setup import Training, set_up


@dataclass
class Bench:
    """Objects that the stages share, each built when a stage first needs it.

    Attributes:
        cfg: configuration of the bench.
        overrides: overrides of the bench that are also valid for train.py.
    """

    cfg: DictConfig
    overrides: list[str]

    @cached_property
    def training(self) -> Training:
        cfg = self.cfg
        training = set_up(cfg)
        needed, images = (cfg.warmup + cfg.steps) * cfg.data.batch_size, len(training.datamodule.train)
        if needed > images:
            raise ConfigError(
                f"steps={cfg.steps}: with warmup={cfg.warmup} and data.batch_size={cfg.data.batch_size} this "
                f"takes {needed} images, but the training set has {images}; lower one of the three"
            )
        return training

    def startup(self) -> Result:
        with own_hydra():
            composed = compose("train", overrides=self.overrides)
        return measure_startup(self.cfg, overrides=self.overrides, composed=composed)


STAGES: dict[str, Callable[[Bench], Result]] = {
    "prepare": lambda bench: measure_prepare(bench.cfg),
    "loader": lambda bench: measure_loader(bench.cfg, bench.training),
    "patches": lambda bench: measure_patches(bench.cfg, bench.training),
    "step": lambda bench: measure_step(bench.cfg, bench.training),
    "train": lambda bench: measure_train(bench.cfg, bench.training),
    "evaluate": lambda bench: measure_evaluate(bench.cfg, bench.training),
    "startup": Bench.startup,
}
