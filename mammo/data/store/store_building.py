"""Building of a prepared store: images in chunks, by several processes, resumable at any moment.

Every row of the arrays has its place before the work begins, and the same chunk always gives the same bytes.
A chunk counts as done once its marker file exists; any process that finds no marker may do the chunk, so that
processes share the work without locks, and one killed in the middle loses only the chunks it had in hand.
"""

import errno
import functools
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mammo.atomic_files import write_atomically
from mammo.data.images.breast import BOX_COLUMNS, Box, bounding_box, plan
from mammo.data.images.dicom import Pixels, read_mammogram
from mammo.data.images.masks import find_mask
from mammo.data.worker_pool import behind, in_own_process, progress, results
from mammo.errors import DataError

Record: TypeAlias = dict[str, Any]  # what is known of one image or lesion once it is prepared; JSON

CHUNK = 4  # images; small enough that a handful of files still keeps several processes busy


@dataclass(frozen=True)
class Settings:
    """What decides the bytes of a store, besides its sources."""

    height: int
    width: int
    crop: Literal["breast", "none"]
    aspect: Literal["keep", "stretch"]
    dtype: Literal["uint8", "uint16"]
    masks: bool


@dataclass(frozen=True)
class LesionJob:
    """A lesion to find: the files that may be its mask, and its box in file pixels where that is known."""

    lesion_id: str
    mask_paths: tuple[Path, ...]
    box: Box | None


@dataclass(frozen=True)
class ImageJob:
    """An image to prepare; its row in the arrays is its place in the list of jobs."""

    image_id: str
    path: Path | None
    lesions: tuple[LesionJob, ...]


def allocate(path: Path, *, shape: tuple[int, ...], dtype: str) -> None:
    """Give an .npy file its header and full size; harmless while others already write its rows."""
    header = _npy_header(shape, dtype)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
        file.write(header)
        file.truncate(len(header) + math.prod(shape) * np.dtype(dtype).itemsize)


def run_chunks(
    folder: Path, jobs: Sequence[ImageJob], settings: Settings, *, workers: int
) -> Iterator[list[Record]]:
    """Do every chunk that has no marker yet; yields the records of each chunk, done before or now.

    Raises:
        DataError: The disk is full.
    """
    chunks = range(math.ceil(len(jobs) / CHUNK))
    done = [chunk for chunk in chunks if marker(folder, chunk).is_file()]
    for chunk in done:
        yield json.loads(marker(folder, chunk).read_text())
    # An order of its own for each process: those that share a store then seldom do the same chunk.
    todo = np.random.default_rng().permutation(sorted(set(chunks) - set(done))).tolist()
    work = functools.partial(prepare_chunk, folder, settings=settings, total=len(jobs))
    calls = (functools.partial(work, chunk, jobs[chunk * CHUNK : (chunk + 1) * CHUNK]) for chunk in todo)
    left = sum(len(jobs[chunk * CHUNK : (chunk + 1) * CHUNK]) for chunk in todo)
    with progress(total=len(jobs), done=len(jobs) - left) as advance:
        for records in results(calls, workers=min(workers, len(todo)), again=lambda call: call(alone=True)):
            advance(len(records))
            yield records
    for chunk in todo:  # of a worker that died, or could not write, after its last result
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
    """Prepare the images of one chunk, write their rows and then the marker; returns the marker's records.

    In a worker the disk is written to while the next chunk is prepared.

    Args:
        folder: Of the unfinished store.
        chunk: Its number.
        jobs: Its images.
        settings: Of the store.
        total: Images of the whole store.
        alone: Give each image a process of its own, so that one that kills its decoder is only rejected.
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

    behind(write)
    return records


def prepare_image(job: ImageJob, settings: Settings) -> tuple[Pixels, NDArray[np.uint8], Record]:
    """Decode, crop, orient and resize one image and its lesions.

    Returns:
        The image (H W), its mask (H W, 0 or k in the k-th lesion), and what the tables are to say: facts of
        the header, the transform, and mask and box of each lesion.

    Raises:
        DataError: The image cannot be used.
    """
    if job.path is None:
        raise DataError("file missing")
    mammogram = read_mammogram(job.path)
    pixels = _as_dtype(mammogram.pixels, settings.dtype)
    transform = plan(
        pixels, height=settings.height, width=settings.width, crop=settings.crop, aspect=settings.aspect
    )
    masks: dict[int, NDArray[np.bool_]] = {}
    lesions = []
    for value, lesion in enumerate(job.lesions, start=1):
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
        lesions.append(record)
    facts: Record = {
        "rejected": None,
        "laterality": mammogram.laterality,
        "view": mammogram.view,
        "pixel_spacing_mm": mammogram.pixel_spacing_mm,
        "transform": asdict(transform),
        "lesions": lesions,
    }
    return transform.apply_image(pixels), _merged(masks, settings), facts


def marker(folder: Path, chunk: int) -> Path:
    """The file that says that a chunk is done."""
    return folder / "chunks" / f"{chunk:05d}.json"


def write_rows(path: Path, rows: Mapping[int, NDArray[Any]], total: int) -> None:
    """Write images of an .npy file; by write, since a memory map on a full disk would kill the process.

    The zeros above and below the content of an image are in the file already and take no disk space.
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
    """Report a full disk in one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise DataError(no_space(folder, total * row_bytes(settings))) from error


def no_space(folder: Path, needed: int) -> str:
    """The sentence for a disk without room for `needed` bytes."""
    return (
        f"{folder.parent}: no space left, the store takes {needed:,} bytes; free some or choose another disk "
        "with data.store, and start again: what is prepared is kept"
    )


def row_bytes(settings: Settings) -> int:
    """Bytes that one image takes with its mask."""
    return settings.height * settings.width * (np.dtype(settings.dtype).itemsize + settings.masks)


def _npy_header(shape: tuple[int, ...], dtype: str) -> bytes:
    buffer = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _as_dtype(pixels: Pixels, dtype: str) -> Pixels:
    """Full scale to full scale: 255 becomes 65535 and the reverse."""
    if pixels.dtype == dtype:
        return pixels
    if dtype == "uint16":
        return pixels.astype(np.uint16) * np.uint16(257)
    return (pixels // 257).astype(np.uint8)


def _merged(masks: dict[int, NDArray[np.bool_]], settings: Settings) -> NDArray[np.uint8]:
    """All lesions in one mask, small ones above large ones."""
    merged = np.zeros((settings.height, settings.width), np.uint8)
    for value, mask in sorted(masks.items(), key=lambda item: -np.count_nonzero(item[1])):
        merged[mask] = value
    return merged
