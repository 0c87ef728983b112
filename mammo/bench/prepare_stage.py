"""The stage `prepare`: from full-size files to a store."""

import os
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

from omegaconf import DictConfig

from mammo.bench.measurement import Result, in_turn
from mammo.config.checks import plain
from mammo.data.catalog import Catalog
from mammo.data.images.breast import plan
from mammo.data.images.dicom import read_stored
from mammo.data.sources.reader import read_catalog
from mammo.data.store.store import image_jobs
from mammo.data.store.store_building import CHUNK, ImageJob, Settings, allocate, run_chunks
from mammo.data.worker_pool import in_own_process
from mammo.errors import ConfigError


def measure_prepare(cfg: DictConfig) -> Result:
    jobs = image_jobs(_first_images(cfg))
    if len(jobs) <= 2 * CHUNK:
        raise ConfigError(
            f"images={cfg.images}: {len(jobs)} images of the data have a file, and measuring two workers "
            f"needs more than {2 * CHUNK}; give more images"
        )
    settings = Settings(
        height=cfg.data.height,
        width=cfg.data.width,
        crop=cfg.data.crop.value,
        aspect=cfg.data.aspect.value,
        dtype="uint16",
        masks=cfg.data.masks and any(lesion.mask_paths for job in jobs for lesion in job.lesions),
    )
    beside = Path(cfg.data.store).parent  # the disk of the stores
    beside.mkdir(parents=True, exist_ok=True)
    rivals = {
        "alone": lambda: in_own_process(partial(_alone, jobs, settings)),
        "one worker": lambda: _prepare_anew(jobs, settings, beside, workers=1),
        "two workers": lambda: _prepare_anew(jobs, settings, beside, workers=2),
    }
    speeds = in_turn(rivals, repeats=cfg.repeats)
    alone, one, two = (median(speeds[name]) for name in rivals)
    work, times = one / alone, two / one
    if times < 1.5:
        slower = "what the workers share" if len(os.sched_getaffinity(0)) > 1 else "the only core"
    else:
        slower = "reading, decoding and reducing" if work > 0.5 else "the rest of the work on each image"
    sentence = (
        f"a worker reaches {work:.2f} of the speed of only reading, decoding and reducing, two workers "
        f"reach {times:.2f} times the speed of one: {slower} is the bottleneck"
    )
    limits = [2 * speed for speed in speeds["alone"]]
    others = {"one worker": speeds["one worker"], "reading, decoding and one resize alone": speeds["alone"]}
    return Result("prepare", speeds["two workers"], "twice the work alone", limits, others, sentence)


def _first_images(cfg: DictConfig) -> Catalog:
    """Return the first images of the data, and read their files once so that they are in the page cache."""
    everything = read_catalog(plain(cfg.data))
    images = everything.images.dropna(subset="path").head(cfg.images)
    lesions = everything.lesions[everything.lesions["image_id"].isin(images["image_id"])]
    for paths in (*images["path"], *lesions["mask_paths"].dropna()):
        for path in filter(None, paths.split(os.pathsep)):
            Path(path).read_bytes()
    return Catalog(images=images, lesions=lesions)


def _alone(jobs: Sequence[ImageJob], settings: Settings) -> float:
    """Return images per second of reading and decoding each file and resizing it to its prepared size."""
    import cv2

    work = []
    for job in jobs:
        assert job.path is not None
        made = plan(
            read_stored(job.path),
            height=settings.height,
            width=settings.width,
            crop=settings.crop,
            aspect=settings.aspect,
        )
        masks = [path for lesion in job.lesions for path in lesion.mask_paths] if settings.masks else []
        work.append((job.path, made))
        # a lesion also has other files; only its mask is as large as the image
        whole = (made.file_height, made.file_width)
        work += [(path, made) for path in masks if read_stored(path).shape == whole]
    started = time.perf_counter()
    for path, made in work:
        size = made.content_shape[::-1]
        cv2.resize(made.cut(read_stored(path)), size, interpolation=cv2.INTER_AREA)
    return len(jobs) / (time.perf_counter() - started)


def _prepare_anew(jobs: Sequence[ImageJob], settings: Settings, beside: Path, *, workers: int) -> float:
    """Return images per second into an empty folder, timed after the first chunk of each worker."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=beside) as name:
        folder = Path(name)
        (folder / "chunks").mkdir()
        for array, dtype in (("images.npy", "uint16"), ("masks.npy", "uint8")):
            allocate(folder / array, shape=(len(jobs), settings.height, settings.width), dtype=dtype)
        chunks = run_chunks(folder, jobs, settings, workers=workers)
        ended = [(time.perf_counter(), len(chunk)) for chunk in chunks]
    return sum(images for _, images in ended[workers:]) / (ended[-1][0] - ended[workers - 1][0])
