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
from mammo.config.checks import arguments_for
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
            f"images={cfg.images}: of the data {len(jobs)} images have a file; two workers need more than "
            f"{2 * CHUNK} to be measured; give more"
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
        f"a worker prepares {work:.2f} times as many images as it could read, decode and reduce, two workers "
        f"{times:.2f} times as many as one: {slower} is the bottleneck"
    )
    limits = [2 * speed for speed in speeds["alone"]]
    others = {"one worker": speeds["one worker"], "reading, decoding and one resize alone": speeds["alone"]}
    return Result("prepare", speeds["two workers"], "twice the work alone", limits, others, sentence)


def _first_images(cfg: DictConfig) -> Catalog:
    """The first images of the data; afterwards their files are cached."""
    everything = read_catalog(**arguments_for(read_catalog, cfg.data))
    images = everything.images.dropna(subset="path").head(cfg.images)
    lesions = everything.lesions[everything.lesions["image_id"].isin(images["image_id"])]
    for paths in (*images["path"], *lesions["mask_paths"].dropna()):
        for path in filter(None, paths.split(os.pathsep)):
            Path(path).read_bytes()
    return Catalog(images=images, lesions=lesions)


def _alone(jobs: Sequence[ImageJob], settings: Settings) -> float:
    """Images per second of reading, decoding and reducing each file to what is kept of it."""
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
        # of a lesion's files the mask is as large as the image
        whole = (made.file_height, made.file_width)
        work += [(path, made) for path in masks if read_stored(path).shape == whole]
    started = time.perf_counter()
    for path, made in work:
        size = made.content_shape[::-1]
        cv2.resize(made.cut(read_stored(path)), size, interpolation=cv2.INTER_AREA)
    return len(jobs) / (time.perf_counter() - started)


def _prepare_anew(jobs: Sequence[ImageJob], settings: Settings, beside: Path, *, workers: int) -> float:
    """Images per second into an empty folder, from when each worker has done a chunk to the last chunk."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=beside) as name:
        folder = Path(name)
        (folder / "chunks").mkdir()
        for array, dtype in (("images.npy", "uint16"), ("masks.npy", "uint8")):
            allocate(folder / array, shape=(len(jobs), settings.height, settings.width), dtype=dtype)
        chunks = run_chunks(folder, jobs, settings, workers=workers)
        ended = [(time.perf_counter(), len(chunk)) for chunk in chunks]
    return sum(images for _, images in ended[workers:]) / (ended[-1][0] - ended[workers - 1][0])
