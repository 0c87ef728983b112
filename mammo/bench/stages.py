"""The stages: what each measures, and what it holds that against."""

import contextlib
import io
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mammo.bench.loops import bare_speed, lightning_speed
from mammo.config import arguments_for
from mammo.data.catalog import Catalog
from mammo.data.loader import Batch
from mammo.data.sources import read_catalog
from mammo.data.store import prepare
from mammo.errors import ConfigError
from mammo.runs import RunFolder
from mammo.training.setup import Training, set_up


@dataclass(frozen=True)
class Result:
    """A stage's speed and those of its rivals, all in images per second, one number for each repeat."""

    stage: str
    speeds: list[float]
    limit: str  # what the stage is held against
    limits: list[float]
    rivals: dict[str, list[float]]
    sentence: str  # what the bottleneck is

    @property
    def ratio(self) -> float:
        return median(self.speeds) / median(self.limits)

    def numbers(self) -> dict[str, Any]:
        """For the JSON: medians, with the lowest and the highest of the repeats."""
        return {
            "images_per_second": median(self.speeds),
            "images_per_second_range": [min(self.speeds), max(self.speeds)],
            "limit": median(self.limits),
            "limit_range": [min(self.limits), max(self.limits)],
            "limit_is": self.limit,
            "ratio": self.ratio,
            "rivals": {name: median(speeds) for name, speeds in self.rivals.items()},
            "sentence": self.sentence,
        }


@dataclass
class Bench:
    """What the stages share, made when the first of them needs it."""

    cfg: DictConfig

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

    @cached_property
    def steps(self) -> dict[str, list[float]]:
        """Images per second of the loader, the bare loop and Lightning, of those that are asked for."""
        cfg, training = self.cfg, self.training
        loader = training.datamodule.train_dataloader()
        rivals: dict[str, Callable[[], float]] = {"bare loop": lambda: bare_speed(cfg, training, loader)}
        if cfg.stage != "train":
            rivals["loader"] = lambda: _read(cfg, loader)
        with tempfile.TemporaryDirectory(prefix="mammo-bench-") as folder:
            if cfg.stage != "loader":
                config: Any = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
                run = RunFolder.create(Path(folder), config=config, overrides=[])
                rivals["Lightning"] = lambda: lightning_speed(cfg, training, run)
            return _in_turn(rivals, repeats=cfg.repeats)


def measure_loader(bench: Bench) -> Result:
    own, bare = bench.steps["loader"], bench.steps["bare loop"]
    ratio = median(own) / median(bare)
    slower = "the step" if ratio > 1 else "the loader"
    sentence = f"the loader feeds {ratio:,.1f} times what the step takes: {slower} is the bottleneck"
    return Result("loader", own, "bare loop", bare, {"bare loop": bare}, sentence)


def measure_prepare(bench: Bench) -> Result:
    catalog = _first_images(bench.cfg)
    rivals = {
        "one worker": lambda: _prepare_anew(bench.cfg, catalog, workers=1),
        "two workers": lambda: _prepare_anew(bench.cfg, catalog, workers=2),
    }
    speeds = _in_turn(rivals, repeats=bench.cfg.repeats)
    own, one = speeds["two workers"], speeds["one worker"]
    times = median(own) / median(one)
    if len(os.sched_getaffinity(0)) == 1:
        slower = "the only core"
    else:
        slower = "the work on each image" if times > 1.5 else "the workers' start, or what they share,"
    sentence = f"two workers prepare {times:.2f} times as many images as one: {slower} is the bottleneck"
    twice = [2 * speed for speed in one]
    return Result("prepare", own, "twice one worker", twice, {"one worker": one}, sentence)


def measure_train(bench: Bench) -> Result:
    own, bare = bench.steps["Lightning"], bench.steps["bare loop"]
    ratio = median(own) / median(bare)
    slower = "the network's own work" if ratio > 0.5 else "what Lightning and the callbacks do in each step"
    sentence = f"Lightning trains at {ratio:.3f} times the bare loop's speed: {slower} is the bottleneck"
    return Result("train", own, "bare loop", bare, {"bare loop": bare}, sentence)


STAGES: dict[str, Callable[[Bench], Result]] = {
    "loader": measure_loader,
    "prepare": measure_prepare,
    "train": measure_train,
}


def _in_turn(rivals: dict[str, Callable[[], float]], *, repeats: int) -> dict[str, list[float]]:
    """Images per second of each rival in each repeat; every second repeat takes them in reverse order."""
    speeds: dict[str, list[float]] = {name: [] for name in rivals}
    for repeat in range(repeats):
        for name in list(rivals)[:: -1 if repeat % 2 else 1]:
            with contextlib.redirect_stderr(io.StringIO()):  # the lines and bars of a real run
                speed = rivals[name]()
            speeds[name].append(speed)
        now = ", ".join(f"{name} {values[-1]:.1f}" for name, values in speeds.items())
        print(f"{repeat + 1}/{repeats}: {now} images/s", file=sys.stderr, flush=True)
    return speeds


def _read(cfg: DictConfig, loader: Iterable[Batch]) -> float:
    """Images per second of the loader, epoch after epoch."""
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    for _ in itertools.islice(batches, cfg.warmup):
        pass
    started = time.perf_counter()
    images = sum(len(batch["label"]) for batch in itertools.islice(batches, cfg.batches))
    return images / (time.perf_counter() - started)


def _first_images(cfg: DictConfig) -> Catalog:
    """The first images of the data; afterwards their files are cached."""
    everything = read_catalog(**arguments_for(read_catalog, cfg.data))
    images = everything.images.dropna(subset="path").head(cfg.images)
    lesions = everything.lesions[everything.lesions["image_id"].isin(images["image_id"])]
    for paths in (*images["path"], *lesions["mask_paths"].dropna()):
        for path in filter(None, paths.split(os.pathsep)):
            Path(path).read_bytes()
    return Catalog(images=images, lesions=lesions)


def _prepare_anew(cfg: DictConfig, catalog: Catalog, *, workers: int) -> float:
    """Images per second, into an empty folder on the disk of the stores."""
    beside = Path(cfg.data.store).parent
    beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=beside) as folder:
        arguments = arguments_for(prepare, cfg.data) | {"store": Path(folder), "workers": workers}
        started = time.perf_counter()
        prepare(catalog, **arguments)
        return len(catalog.images) / (time.perf_counter() - started)
