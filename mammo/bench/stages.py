"""The stages by name, and what they share."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from hydra import compose
from omegaconf import DictConfig

from mammo.bench.evaluate_stage import measure_evaluate
from mammo.bench.loader_stage import measure_loader
from mammo.bench.measurement import Result
from mammo.bench.prepare_stage import measure_prepare
from mammo.bench.startup_stage import measure_startup
from mammo.bench.step_stages import measure_step, measure_train
from mammo.config.composition import own_hydra
from mammo.errors import ConfigError
from mammo.training.setup import Training, set_up


@dataclass
class Bench:
    """What the stages share, made when the first of them needs it.

    Attributes:
        cfg: of the bench.
        overrides: of those that made it, those that train.py knows too.
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
                f"takes {needed} images, and there are {images} for training; lower one of the three"
            )
        return training

    def startup(self) -> Result:
        with own_hydra():
            composed = compose("train", overrides=self.overrides)
        return measure_startup(self.cfg, overrides=self.overrides, composed=composed)


STAGES: dict[str, Callable[[Bench], Result]] = {
    "prepare": lambda bench: measure_prepare(bench.cfg),
    "loader": lambda bench: measure_loader(bench.cfg, bench.training),
    "step": lambda bench: measure_step(bench.cfg, bench.training),
    "train": lambda bench: measure_train(bench.cfg, bench.training),
    "evaluate": lambda bench: measure_evaluate(bench.cfg, bench.training),
    "startup": Bench.startup,
}
