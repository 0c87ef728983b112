"""The stages `step` and `train`: one optimiser step, and many steps by Lightning."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from omegaconf import DictConfig

from mammo.bench.loader_stage import loader_speed
from mammo.bench.measurement import Result, in_turn
from mammo.bench.training_loops import bare_model_speed, bare_speed, lightning_speed, resident
from mammo.config.checks import plain
from mammo.runs import RunFolder
from mammo.training.setup import Training


def measure_step(cfg: DictConfig, training: Training) -> Result:
    batches = resident(cfg, training)
    plain = "float32, contiguous"
    speeds = in_turn(
        {
            "step": lambda: bare_speed(cfg, training, batches),
            "bare network": lambda: bare_model_speed(cfg, training),
            plain: lambda: bare_model_speed(cfg, training, plain=True),
        },
        repeats=cfg.repeats,
    )
    own, bare = speeds["step"], speeds["bare network"]
    ratio, times = median(own) / median(bare), median(bare) / median(speeds[plain])
    slower = "the network's own work" if ratio > 0.5 else "scaling and augmentation"
    sentence = (
        f"a step has {ratio:.2f} times the speed of the bare network's step, which has {times:.2f} times its "
        f"speed in float32 and contiguous memory: {slower} is the bottleneck"
    )
    return Result("step", own, "bare network", bare, {plain: speeds[plain]}, sentence)


def measure_train(cfg: DictConfig, training: Training) -> Result:
    batches = resident(cfg, training)
    loader = training.datamodule.train_dataloader()
    with tempfile.TemporaryDirectory(prefix="mammo-bench-") as folder:
        run = RunFolder.create(Path(folder), config=plain(cfg), overrides=[])
        rivals: dict[str, Callable[[], float]] = {
            "Lightning": lambda: lightning_speed(cfg, training, run),
            "bare loop": lambda: bare_speed(cfg, training, loader),
            "step": lambda: bare_speed(cfg, training, batches),
            "loader": lambda: loader_speed(cfg, training),
        }
        speeds = in_turn(rivals, repeats=cfg.repeats)
    own, bare = speeds["Lightning"], speeds["bare loop"]
    feeds = median(speeds["loader"]) / median(speeds["step"])
    limit = "step" if feeds > 1 else "loader"
    ratio = median(own) / median(bare)
    slower = f"the {limit}" if ratio > 0.5 else "what Lightning and the callbacks do in each step"
    sentence = (
        f"the loader is {feeds:,.1f} times as fast as the step, Lightning trains at {ratio:.3f} times the "
        f"speed of the bare loop: {slower} is the bottleneck"
    )
    rest = {"bare loop": bare, "loader": speeds["loader"], "step": speeds["step"]}
    return Result("train", own, f"the slower of both, {limit}", speeds[limit], rest, sentence)
