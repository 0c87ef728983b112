"""Builds a prepared store in chunks of images, by several processes; the work can be resumed at any time.

The position of each row in the arrays is fixed before the work begins, and a chunk always gives the same
bytes. A chunk is done once its marker file exists; any process may prepare a chunk without a marker.
Processes therefore share the work without locks, and a killed process loses only its unfinished chunks.
"""

import errno
import functools
import io
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mammo.atomic_files import write_atomically
from mammo.data.images.breast import BOX_COLUMNS, Box, bounding_box, plan
from mammo.data.images.dicom import Mammogram, Pixels, read_mammogram
from mammo.data.images.display import Display
from mammo.data.images.masks import find_mask
from mammo.data.progress_bar import progress
from mammo.data.worker_pool import completed_results, in_own_process, write_in_background
from mammo.errors import DataError

Record: TypeAlias = dict[str, Any]  # values of one prepared image or lesion, as in JSON

CHUNK = 4  # images; small, so that a few files still keep several processes busy


@dataclass(frozen=True)
class Settings:
    """Settings that, with the source files, determine the bytes of a store."""

    height: int
    width: int
    crop: Literal["breast", "none"]
    aspect: Literal["keep", "stretch"]
    dtype: Literal["uint8", "uint16"]
    masks: bool
    display: Display = field(default_factory=Display)


@dataclass(frozen=True)
class LesionJob:
    """A lesion of an image: the files that may be its mask, and its box in file pixels, if known."""

    lesion_id: str
    mask_paths: tuple[Path, ...]
    box: Box | None


@dataclass(frozen=True)
class ImageJob:
    """An image to prepare; its row in the arrays is its index in the list of jobs."""

    image_id: str
    path: Path | None
    lesions: tuple[LesionJob, ...]


def allocate(path: Path, *, shape: tuple[int, ...], dtype: str) -> None:
    """Give an .npy file its header and full size; safe while other processes already write its rows."""
    header = _npy_header(shape, dtype)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
        file.write(header)
        file.truncate(len(header) + math.prod(shape) * np.dtype(dtype).itemsize)


def allocate_arrays(partial: Path, settings: Settings, *, total: int) -> None:
    """Create the arrays of a store at full size; raise DataError at once if the disk has too little space."""
    arrays = [partial / "images.npy", *([partial / "masks.npy"] if settings.masks else [])]
    present = sum(path.stat().st_blocks * 512 for path in arrays if path.is_file())
    needed = total * row_bytes(settings)
    if shutil.disk_usage(partial).free + present < needed:
        raise DataError(no_space(partial, needed))
    with report_full_disk(partial, settings, total):
        for path, dtype in zip(arrays, (settings.dtype, "uint8"), strict=False):
            allocate(path, shape=(total, settings.height, settings.width), dtype=dtype)


def run_chunks(
    folder: Path,
    jobs: Sequence[ImageJob],
    settings: Settings,
    *,
    workers: int,
    chunks: Sequence[int] | None = None,
    advance: Callable[[int], object] | None = None,
) -> Iterator[list[Record]]:
    """Prepare every chunk without a marker; yield the records of all chunks, earlier ones included.

    Args:
        folder: Folder of the unfinished store.
        jobs: All images of the store.
        settings: Settings of the store.
        workers: Number of parallel processes, 0 for this process.
        chunks: Numbers of the chunks to prepare; None for all.
        advance: Function that is called with the number of images done since its last call; None to show
            the progress here.

    Raises:
        DataError: The disk is full.
    """
    chunks = range(math.ceil(len(jobs) / CHUNK)) if chunks is None else chunks
    done = [chunk for chunk in chunks if marker(folder, chunk).is_file()]
    for chunk in done:
        yield json.loads(marker(folder, chunk).read_text())
    # A random order: processes that share a store then seldom prepare the same chunk.
    todo = np.random.default_rng().permutation(sorted(set(chunks) - set(done))).tolist()
    work = functools.partial(prepare_chunk, folder, settings=settings, total=len(jobs))
    calls = (functools.partial(work, chunk, jobs[chunk * CHUNK : (chunk + 1) * CHUNK]) for chunk in todo)
    left = sum(len(jobs[chunk * CHUNK : (chunk + 1) * CHUNK]) for chunk in todo)
    shown = progress(total=len(jobs), done=len(jobs) - left) if advance is None else nullcontext(advance)
    with shown as advance:
        for records in completed_results(
            calls, workers=min(workers, len(todo)), retry=lambda call: call(alone=True)
        ):
            advance(len(records))
            yield records
    for chunk in todo:  # chunks of a worker that died, or failed to write, after its last result
        if not marker(folder, chunk).is_file():
            work(chunk, jobs[chunk * CHUNK : (chunk + 1) * CHUNK])


def prepare_chunk(
    folder: Path,
    chunk: int,
    jobs: Sequence[ImageJob],
    *,
    settings: Settings,
    total: int,
    alone: bool = False,
) -> list[Record]:
    """Prepare the images of one chunk, write their rows and then the marker; return the marker's records.

    A worker writes to the disk while it prepares the next chunk.

    Args:
        folder: Folder of the unfinished store.
        chunk: Number of the chunk.
        jobs: Images of the chunk.
        settings: Settings of the store.
        total: Number of images of the whole store.
        alone: Whether each image gets its own process; an image that crashes its decoder is then rejected.
    """
    if marker(folder, chunk).is_file():
        records: list[Record] = json.loads(marker(folder, chunk).read_text())
        return records
    records, images, masks = [], {}, {}
    for row, job in enumerate(jobs, start=chunk * CHUNK):
        try:
            call = functools.partial(prepare_image, job, settings)
            images[row], masks[row], record = in_own_process(call) if alone else call()
        except DataError as error:
            record = {"rejected": str(error).removeprefix(f"{job.path}: ")}
        records.append({"row": row, **record})

    def write() -> None:
        with report_full_disk(folder, settings, total):
            write_rows(folder / "images.npy", images, total)
            if settings.masks:
                write_rows(folder / "masks.npy", masks, total)
            write_atomically(marker(folder, chunk), json.dumps(records), durable=True)

    write_in_background(write)
    return records


def prepare_image(job: ImageJob, settings: Settings) -> tuple[Pixels, NDArray[np.uint8], Record]:
    """Decode, crop, orient and resize one image and its lesions.

    Returns:
        The image (H W), its mask (H W, k in the k-th lesion, else 0), and its record for the tables: values
        of the header, the transform, and mask and box of each lesion.

    Raises:
        DataError: The image cannot be used.
    """
    if job.path is None:
        raise DataError("file missing")
    return prepare_mammogram(read_mammogram(job.path, settings.display), job.lesions, settings)


def prepare_mammogram(
    mammogram: Mammogram, lesions: Sequence[LesionJob], settings: Settings
) -> tuple[Pixels, NDArray[np.uint8], Record]:
    """Crop, orient and resize a decoded image and its lesions; see `prepare_image`."""
    pixels = _as_dtype(mammogram.pixels, settings.dtype)
    transform = plan(
        pixels, height=settings.height, width=settings.width, crop=settings.crop, aspect=settings.aspect
    )
    masks: dict[int, NDArray[np.bool_]] = {}
    records = []
    for value, lesion in enumerate(lesions, start=1):
        record: Record = {"lesion_id": lesion.lesion_id}
        box = lesion.box
        if settings.masks or not lesion.mask_paths:
            found = find_mask(lesion.mask_paths, image_shape=(pixels.shape[0], pixels.shape[1]))
            record["mask_status"] = found.status
            if found.pixels is not None:
                within = bounding_box(found.pixels)
                box = box or within
                masks[value] = transform.apply_mask(found.pixels, within=within)
                record["mask_value"] = value
        if box is not None:
            record |= zip(BOX_COLUMNS, transform.apply_box(box), strict=True)
        records.append(record)
    facts: Record = {
        "rejected": None,
        "laterality": mammogram.laterality,
        "view": mammogram.view,
        "pixel_spacing_mm": mammogram.pixel_spacing_mm,
        "kind": mammogram.kind,
        "notes": mammogram.notes,
        "transform": asdict(transform),
        "lesions": records,
    }
    return transform.apply_image(pixels), _merged(masks, settings), facts


def marker(folder: Path, chunk: int) -> Path:
    """Return the marker file of a chunk, which exists once the chunk is done."""
    return folder / "chunks" / f"{chunk:05d}.json"


def write_rows(path: Path, rows: Mapping[int, NDArray[Any]], total: int) -> None:
    """Write images into an .npy file, not by a memory map, which would kill the process on a full disk.

    The zeros above and below the content of an image are already in the file and take no disk space.
    """
    with path.open("r+b") as file:
        for row, pixels in rows.items():
            lines = np.flatnonzero(pixels.any(1))
            if not lines.size:
                continue
            header = _npy_header((total, *pixels.shape), str(pixels.dtype))
            file.seek(len(header) + row * pixels.nbytes + lines[0] * pixels[0].nbytes)
            file.write(np.ascontiguousarray(pixels[lines[0] : lines[-1] + 1]).data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def report_full_disk(folder: Path, settings: Settings, total: int) -> Iterator[None]:
    """Turn the OSError of a full disk into a DataError."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise DataError(no_space(folder, total * row_bytes(settings))) from error


def no_space(folder: Path, needed: int) -> str:
    """Return the error message for a disk without space for `needed` bytes."""
    return (
        f"{folder.parent}: no space left, the store takes {needed:,} bytes; free some or choose another disk "
        "with data.store, and start again; prepared images are kept"
    )


def row_bytes(settings: Settings) -> int:
    """Return the number of bytes of one image with its mask."""
    return settings.height * settings.width * (np.dtype(settings.dtype).itemsize + settings.masks)


def _npy_header(shape: tuple[int, ...], dtype: str) -> bytes:
    buffer = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _as_dtype(pixels: Pixels, dtype: str) -> Pixels:
    """Convert from full scale to full scale: 255 becomes 65535 and vice versa."""
    if pixels.dtype == dtype:
        return pixels
    if dtype == "uint16":
        return pixels.astype(np.uint16) * np.uint16(257)
    return (pixels // 257).astype(np.uint8)


def _merged(masks: dict[int, NDArray[np.bool_]], settings: Settings) -> NDArray[np.uint8]:
    """Merge all lesions into one mask, small ones on top of large ones."""
    merged = np.zeros((settings.height, settings.width), np.uint8)
    for value, mask in sorted(masks.items(), key=lambda item: -np.count_nonzero(item[1])):
        merged[mask] = value
    return merged
