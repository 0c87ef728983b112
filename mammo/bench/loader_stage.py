"""The stage `loader`: batches from the prepared store and from other file formats."""

import itertools
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from mammo.bench.measurement import Result, in_turn
from mammo.data.images.breast import Transform
from mammo.data.images.dicom import read_mammogram
from mammo.data.loading.loader import Batch, StoreLoader
from mammo.training.setup import Training


def measure_loader(cfg: DictConfig, training: Training) -> Result:
    data = training.datamodule
    table = training.store.table.set_index("row", drop=False).loc[data.train.image_rows[: cfg.images]]
    transforms = [training.store.transform(image_id) for image_id in table["image_id"]]
    with tempfile.TemporaryDirectory(prefix="mammo-bench-") as name:
        pngs = _written(Path(name), training.store.read(table["row"]), ".png")
        jpegs = _written(Path(name), (training.store.read(table["row"]) >> 8).astype(np.uint8), ".jpg")
        files = [Path(path) for path in table["path"]]
        size = data.part_size
        rivals: dict[str, Callable[[], float]] = {
            "loader": lambda: loader_speed(cfg, training),
            "copy": lambda: _copy(cfg, training),
            "DICOM at every epoch": lambda: _batches(
                [*zip(files, transforms, strict=True)], _decoded_and_reduced, size
            ),
            "16-bit PNG": lambda: _batches(pngs, _picture, size),
            "8-bit JPEG": lambda: _batches(jpegs, _picture, size),
        }
        speeds = in_turn(rivals, repeats=cfg.repeats)
    own, copy = speeds.pop("loader"), speeds.pop("copy")
    times = ", ".join(
        f"{median(own) / median(speed):,.0f} times that of {name}" for name, speed in speeds.items()
    )
    slower = "memory" if median(own) > 0.5 * median(copy) else "the work on each batch"
    sentence = (
        f"the loader has {median(own) / median(copy):.2f} of the speed of a plain copy, {times}: "
        f"{slower} is the bottleneck"
    )
    return Result("loader", own, "copy of the same bytes", copy, speeds, sentence)


def loader_speed(cfg: DictConfig, training: Training) -> float:
    """Return images per second of one thread that reads epoch after epoch."""
    data = training.datamodule
    whole = data.train_dataloader()
    order = whole.batch_sampler
    loader = StoreLoader(dataset=data.train, batch_sampler=order, threads=1, device=whole.device)
    batches: Iterable[Batch] = itertools.chain.from_iterable(itertools.repeat(loader))
    for _ in itertools.islice(batches, 8):
        pass
    started = time.perf_counter()
    images = sum(int(batch["present"].sum()) for batch in itertools.islice(batches, cfg.batches))
    return images / (time.perf_counter() - started)


def _copy(cfg: DictConfig, training: Training) -> float:
    data = training.datamodule
    source = np.stack([data.train.pixels(index) for index in range(data.part_size)])
    target = np.empty_like(source)
    np.copyto(target, source)
    started = time.perf_counter()
    for _ in range(cfg.batches):
        np.copyto(target, source)
    seconds = time.perf_counter() - started
    return float(cfg.batches * len(source) / seconds)


def _batches(items: list[Any], read: Callable[[Any], NDArray[Any]], size: int) -> float:
    """Return images per second of one thread that reads single images and stacks them to batches."""
    read(items[0])
    started = time.perf_counter()
    for first in range(0, len(items), size):
        np.stack([read(item) for item in items[first : first + size]])
    return len(items) / (time.perf_counter() - started)


def _decoded_and_reduced(item: tuple[Path, Transform]) -> NDArray[Any]:
    path, transform = item
    return transform.apply_image(read_mammogram(path).pixels)


def _picture(path: Path) -> NDArray[Any]:
    import cv2

    return np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))


def _written(folder: Path, images: NDArray[Any], suffix: str) -> list[Path]:
    import cv2

    paths = [folder / f"{index}{suffix}" for index in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        cv2.imwrite(str(path), image)
    return paths
