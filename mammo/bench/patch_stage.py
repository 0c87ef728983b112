"""The stage `patches`: windows read from the memory map of the prepared store."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from mammo.bench.measurement import Result, in_turn
from mammo.training.setup import Training

_SIDE = 128  # height and width of a window, if the images are as large
_IN_MEMORY = 256  # most images held in memory


def measure_patches(cfg: DictConfig, training: Training) -> Result:
    store, size = training.store, cfg.data.batch_size
    _, height, width = store.images.shape
    side = (min(_SIDE, height), min(_SIDE, width))
    rng = np.random.default_rng(cfg.seed)
    windows = [
        (
            rng.choice(training.datamodule.train.image_rows, size),
            rng.integers(0, width - side[1] + 1, size),
            rng.integers(0, height - side[0] + 1, size),
        )
        for _ in range(cfg.batches)
    ]
    out = np.empty((size, *side), store.images.dtype)
    same = np.stack([store.read_windows(*places, size=side) for places in windows])
    few = training.datamodule.train.image_rows[:_IN_MEMORY]
    images = store.read(few)

    def in_memory(places: tuple[NDArray[Any], ...]) -> None:
        for window, row, x, y in zip(out, *(place.tolist() for place in places), strict=True):
            window[...] = images[row % len(few), y : y + side[0], x : x + side[1]]

    def whole(places: tuple[NDArray[Any], ...]) -> None:
        for window, row, x, y in zip(out, *(place.tolist() for place in places), strict=True):
            window[...] = store.read([row])[0, y : y + side[0], x : x + side[1]]

    def speed(read: Callable[[Any], object], items: Any) -> float:
        started = time.perf_counter()
        for item in items:
            read(item)
        return float(len(items) * size / (time.perf_counter() - started))

    speeds = in_turn(
        {
            "patches": lambda: speed(lambda places: store.read_windows(*places, size=side, out=out), windows),
            "copy": lambda: speed(lambda source: np.copyto(out, source), same),
            "images in memory": lambda: speed(in_memory, windows),
            "whole images": lambda: speed(whole, windows),
        },
        repeats=cfg.repeats,
        unit="patches/s",
    )
    own, copy = speeds.pop("patches"), speeds.pop("copy")
    times = ", ".join(
        f"{median(own) / median(speed):.1f} times that of {name}" for name, speed in speeds.items()
    )
    slower = "memory" if median(own) > 0.5 * median(copy) else "the gathering of single lines"
    sentence = (
        f"windows of {side[0]} x {side[1]} are read with {median(own) / median(copy):.2f} of the speed of a "
        f"plain copy, {times}: {slower} is the bottleneck"
    )
    return Result("patches", own, "copy of the same bytes", copy, speeds, sentence)
