"""The prepared store: all images at one size in one memory-mapped array, built once."""

import importlib.metadata
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mammo.atomic_files import write_atomically
from mammo.data.catalog import IMAGE_COLUMNS, LESION_COLUMNS
from mammo.data.images.breast import BOX_COLUMNS, Transform
from mammo.data.images.display import Display, Range
from mammo.data.store.fingerprint import PREPARATION_VERSION, fingerprint_of, recorded_settings
from mammo.data.store.store_building import (
    ImageJob,
    LesionJob,
    Record,
    Settings,
    allocate_arrays,
    report_full_disk,
    run_chunks,
)
from mammo.data.store.white_points import known_ranges, measure_ranges
from mammo.errors import DataError

if TYPE_CHECKING:
    from mammo.data.catalog import Catalog

_PACKAGES = ("mammo", "numpy", "opencv-python-headless", "pandas", "pydicom", "imagecodecs")


class Store:
    """A prepared store on disk.

    Args:
        directory: Folder of the store.
        own: The user's own columns of the images, by image id, and of the lesions, by lesion id; they are not
            part of the store on disk.

    Attributes:
        directory: Folder of the store.
        table: Table of the accepted images and the user's own columns, with `row` (index in `images` and
            `masks`), `pixel_spacing_mm` and `kind` of the file, and columns `transform_*`, the fields of
            `Transform`.
        own_columns: Names of the user's own columns in `table`.
        lesions: Table of the lesions and the user's own columns, with boxes in prepared pixels (not clipped
            to the image), `mask_status`, and `mask_value`, the value of the lesion in `masks`.
        manifest: Settings, fingerprint, versions, counts, `kinds` (number of images, black and white of each
            kind of file) and `notes` (what is to be known of the grey values, with the number of images).
    """

    def __init__(self, directory: Path, own: tuple[pd.DataFrame, pd.DataFrame] | None = None) -> None:
        self.directory = directory
        self._own = own
        try:
            self.manifest: dict[str, Any] = json.loads((directory / "manifest.json").read_text())
        except (OSError, ValueError) as error:
            raise DataError(
                f"{directory}: contains no prepared store; create it by python -m mammo.prepare"
            ) from error
        self.table = pd.read_parquet(directory / "images.parquet")
        self.lesions = pd.read_parquet(directory / "lesions.parquet")
        self.own_columns: list[str] = []
        if own is not None:
            of_images, of_lesions = own
            self.own_columns = [str(name) for name in of_images if name not in self.table]
            self.table = self.table.join(of_images[self.own_columns], on="image_id")
            further = of_lesions.columns.difference(self.lesions.columns, sort=False)
            self.lesions = self.lesions.join(of_lesions[further], on="lesion_id")

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open a finished store; raise DataError if there is none."""
        return cls(directory)

    @cached_property
    def images(self) -> np.memmap[Any, np.dtype[Any]]:
        """N H W, uint8 or uint16 of full scale; rows of rejected images are 0."""
        return np.load(self.directory / "images.npy", mmap_mode="r")  # type: ignore[no-any-return]

    @cached_property
    def masks(self) -> np.memmap[Any, np.dtype[np.uint8]] | None:
        """N H W, 0 outside lesions, else the lesion's `mask_value`; None if no mask was prepared."""
        path = self.directory / "masks.npy"
        return np.load(path, mmap_mode="r") if path.is_file() else None

    @cached_property
    def _file(self) -> io.FileIO:
        return (self.directory / "images.npy").open("rb", buffering=0)

    def read(self, rows: ArrayLike, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read images, B H W as in `images`; the GIL is released, so that threads can read in parallel.

        Unlike pages of the memory map, the file pages read do not count as memory of the process.

        Args:
            rows: Indices in `images`, B.
            out: Output array, B H W, each image contiguous; None for a new array.
        """
        rows, images = np.asarray(rows), self.images
        if out is None:
            out = np.empty((len(rows), *images.shape[1:]), images.dtype)
        for row, image in zip(rows.tolist(), out, strict=True):
            rest = memoryview(image).cast("B")
            place = images.offset + row * rest.nbytes
            while rest.nbytes:
                count = os.preadv(self._file.fileno(), [rest], place)
                if count == 0:
                    raise DataError(f"{self.directory / 'images.npy'}: is cut short; remove its folder")
                rest, place = rest[count:], place + count
        return out

    def read_windows(
        self,
        rows: ArrayLike,
        x: ArrayLike,
        y: ArrayLike,
        *,
        size: tuple[int, int],
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Read windows of images, B h w, straight from the memory map; the GIL is released, as in `read`.

        Nothing else of an image is read, but the pages read count as memory of the process.

        Args:
            rows: Indices in `images`, B.
            x: First column of each window, B.
            y: First row of each window, B.
            size: Height and width of the windows.
            out: Output array, B h w, None for a new array.

        Raises:
            ValueError: A window is not inside its image.
        """
        rows, x, y = (np.asarray(array, np.int64) for array in (rows, x, y))
        images, (height, width) = self.images, size
        count, rest_y, rest_x = np.array(images.shape) - (1, height, width)
        for start, last in ((rows, count), (x, rest_x), (y, rest_y)):
            if ((start < 0) | (start > last)).any():
                raise ValueError(
                    f"a window of {height} x {width} pixels is outside of its image or the store"
                )
        if out is None:
            out = np.empty((len(rows), height, width), images.dtype)
        pixels = images.view(np.ndarray)  # a slice of a memory map itself takes microseconds
        for row, left, top, window in zip(rows.tolist(), x.tolist(), y.tolist(), out, strict=True):
            window[...] = pixels[row, top : top + height, left : left + width]
        return out

    def transform(self, image_id: str) -> Transform:
        """Return the transform from file to prepared pixels; KeyError if the image is not in the store."""
        rows = self.table.loc[self.table["image_id"] == image_id]
        if rows.empty:
            raise KeyError(image_id)
        return Transform(
            **{field.name: rows[f"transform_{field.name}"].item() for field in fields(Transform)}
        )

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        return type(self), (self.directory, self._own)  # a memory map would be pickled with all its pixels


def prepare(
    catalog: "Catalog",
    *,
    store: Path,
    height: int,
    width: int,
    crop: Literal["breast", "none"] = "breast",
    aspect: Literal["keep", "stretch"] = "keep",
    workers: int = 1,
    max_rejected: float = 0.05,
    masks: bool = True,
    white: str | int = "auto",
    window: str | None = None,
    for_processing: Literal["reject", "convert"] = "reject",
    known_kinds: Mapping[str, Range | None] | None = None,
) -> Store:
    """Prepare the images of a catalog, or open the store that already contains them.

    Args:
        catalog: Images and lesions; each file is read once.
        store: Folder of all stores; this one becomes `store/<fingerprint>/`.
        height: Rows of a prepared image.
        width: Columns of a prepared image.
        crop: Region to keep, see `mammo.data.images.breast.plan`.
        aspect: Way to reach the size, see `mammo.data.images.breast.plan`.
        workers: Number of parallel processes, each of at most 1 GB of memory; with 0, this process prepares
            the images and crashes if a decoder crashes.
        max_rejected: Largest share of images that may be missing or unreadable.
        masks: Whether to prepare the masks of lesions, and use them for boxes missing in the catalog.
        white: White point of files without a window, see `Display`.
        window: Explanation of the window to use, see `Display`.
        for_processing: What to do with raw images, see `Display`.
        known_kinds: Black and white of kinds of files, those of the training; the others are measured.

    Raises:
        DataError: Too many images are missing or unreadable, or the store cannot be written.
    """
    jobs = image_jobs(catalog)
    paths = [job.path for job in jobs if job.path is not None]
    settings = Settings(
        height=height,
        width=width,
        crop=crop,
        aspect=aspect,
        dtype="uint8" if all(path.suffix.lower() in (".jpg", ".jpeg") for path in paths) else "uint16",
        masks=masks and any(lesion.mask_paths for job in jobs for lesion in job.lesions),
        display=Display(white, window, for_processing, known_kinds),
    )
    fingerprint = fingerprint_of(catalog, jobs, settings)
    if known_kinds is not None:  # a store that measured the same is used as well
        measuring = replace(settings, display=replace(settings.display, kinds=None))
        measured = fingerprint_of(catalog, jobs, measuring)
        if (store / measured).is_dir():
            kinds = known_ranges(Store(store / measured).manifest["kinds"])
            fingerprint = measured if kinds.items() <= known_kinds.items() else fingerprint
    final, partial = store / fingerprint, store / f"{fingerprint}.partial"
    try:
        if not final.is_dir():
            _make(catalog, jobs, settings, partial=partial, workers=workers, max_rejected=max_rejected)
            _publish(partial, final)
    except OSError as error:
        if not final.is_dir():  # otherwise another process was faster and has renamed the folder
            raise DataError(
                f"{store}: cannot be written ({error.strerror}); choose another data.store"
            ) from error
    images = catalog.images.set_index("image_id").drop(columns=IMAGE_COLUMNS, errors="ignore")
    lesions = catalog.lesions.set_index("lesion_id").drop(columns=LESION_COLUMNS, errors="ignore")
    made = Store(final, (images, lesions) if len(images.columns) or len(lesions.columns) else None)
    _refuse_finished(made, max_rejected)
    return made


def _refuse_finished(made: Store, max_rejected: float) -> None:
    """Raise DataError if a store, finished under a larger `max_rejected`, has too many rejected images."""
    rejected, accepted = made.manifest["counts"]["rejected"], made.manifest["counts"]["images"]
    if rejected > max_rejected * (rejected + accepted):
        raise DataError(
            f"{made.directory}: {rejected} of {rejected + accepted} images were rejected, more than "
            f"data.max_rejected={max_rejected:g} of them, see its rejected.csv; repair the files or raise "
            "data.max_rejected"
        )


def _make(
    catalog: "Catalog",
    jobs: list[ImageJob],
    settings: Settings,
    *,
    partial: Path,
    workers: int,
    max_rejected: float,
) -> None:
    """Fill the folder of an unfinished store; continue the work of other processes, if any."""
    (partial / "chunks").mkdir(parents=True, exist_ok=True)
    rejected = {row: "file missing" for row, job in enumerate(jobs) if job.path is None}
    _refuse_too_many(partial, catalog, jobs, rejected, max_rejected)
    allocate_arrays(partial, settings, total=len(jobs))
    paths = [job.path for job in jobs if job.path is not None]
    with report_full_disk(partial, settings, len(jobs)):
        ranges = measure_ranges(paths, settings.display, cache=partial / "white_points.json", workers=workers)
    measured = replace(settings, display=replace(settings.display, kinds=ranges))
    records: dict[int, Record] = {}
    for chunk in run_chunks(partial, jobs, measured, workers=workers):
        records.update((record["row"], record) for record in chunk)
        rejected.update((record["row"], record["rejected"]) for record in chunk if record["rejected"])
        _refuse_too_many(partial, catalog, jobs, rejected, max_rejected)
    accepted = [record for _, record in sorted(records.items()) if not record["rejected"]]
    images, lesions = _images_table(catalog.images, accepted), _lesions_table(catalog.lesions, accepted)
    counts = {
        "images": len(images),
        "rejected": len(rejected),
        "lesions": len(lesions),
        "lesions_with_mask": int(lesions["mask_value"].notna().sum()),
    }
    manifest = {
        "fingerprint": partial.stem,
        "preparation_version": PREPARATION_VERSION,
        "settings": recorded_settings(settings),
        "counts": counts,
        "kinds": _kinds(images, ranges),
        "notes": dict(Counter(note for record in accepted for note in record["notes"]).most_common()),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }
    with report_full_disk(partial, settings, len(jobs)):
        _write_rejected(partial, catalog, rejected)
        write_atomically(partial / "images.parquet", images.to_parquet(index=False), durable=True)
        write_atomically(partial / "lesions.parquet", lesions.to_parquet(index=False), durable=True)
        write_atomically(partial / "manifest.json", json.dumps(manifest, indent=2), durable=True)


def _publish(partial: Path, final: Path) -> None:
    """Rename a finished store to its final name; delete it if another process has published one already."""
    try:
        partial.rename(final)
    except OSError:
        if not final.is_dir():
            raise
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(final / "chunks", ignore_errors=True)
    (final / "white_points.json").unlink(missing_ok=True)
    # temporary files of another process, left when the folder was renamed
    for draft in final.glob("*.tmp"):
        draft.unlink(missing_ok=True)


def _kinds(images: pd.DataFrame, ranges: Mapping[str, Range | None]) -> dict[str, Any]:
    """Return the number of images, black and white of each kind of file that was prepared."""
    kinds: dict[str, Any] = {}
    for kind, count in sorted(Counter(images["kind"]).items()):
        black, white = ranges.get(kind) or (None, None)
        kinds[kind] = {"images": count, "black": black, "white": white}
    return kinds


def image_jobs(catalog: "Catalog") -> list[ImageJob]:
    """Return the job of each image of a catalog, in the same order."""
    lesions: dict[str, list[LesionJob]] = {}
    for lesion in catalog.lesions.to_dict("records"):
        paths = "" if pd.isna(lesion["mask_paths"]) else lesion["mask_paths"]
        sides = tuple(lesion[side] for side in BOX_COLUMNS)
        job = LesionJob(
            lesion_id=lesion["lesion_id"],
            mask_paths=tuple(Path(path) for path in paths.split(os.pathsep) if path),
            box=None if any(pd.isna(side) for side in sides) else sides,
        )
        lesions.setdefault(lesion["image_id"], []).append(job)
    return [
        ImageJob(image_id, None if pd.isna(path) else Path(path), tuple(lesions.get(image_id, ())))
        for image_id, path in zip(catalog.images["image_id"], catalog.images["path"], strict=True)
    ]


def _refuse_too_many(
    partial: Path, catalog: "Catalog", jobs: list[ImageJob], rejected: dict[int, str], max_rejected: float
) -> None:
    if len(rejected) <= max_rejected * len(jobs) and len(rejected) < len(jobs):
        return
    _write_rejected(partial, catalog, rejected)
    missing = sum(job.path is None for job in jobs)
    first = min(row for row in rejected if jobs[row].path is not None or missing == len(rejected))
    raise DataError(
        f"{len(rejected)} of {len(jobs)} images cannot be used, {missing} of them without a file, and "
        f"data.max_rejected={max_rejected:g}; the first is {jobs[first].path or jobs[first].image_id}: "
        f"{rejected[first]}; all are in {partial / 'rejected.csv'}; repair the files, select the "
        "available part (data.abnormality=mass) or raise data.max_rejected"
    )


def _write_rejected(partial: Path, catalog: "Catalog", rejected: dict[int, str]) -> None:
    rows = sorted(rejected)
    table = catalog.images.iloc[rows][["image_id", "patient_id", "path"]].rename(columns={"path": "file"})
    table = table.assign(reason=[rejected[row] for row in rows])
    write_atomically(partial / "rejected.csv", table.to_csv(index=False), durable=True)


def _images_table(images: pd.DataFrame, records: list[Record]) -> pd.DataFrame:
    """Return the table of the accepted images, with values from their files."""
    rows = [record["row"] for record in records]
    table = images.iloc[rows][list(IMAGE_COLUMNS)].reset_index(drop=True)
    table["row"] = rows
    for column in ("laterality", "view"):
        from_files = pd.Series([record[column] for record in records], dtype="string")
        table[column] = table[column].fillna(from_files)
    table["kind"] = pd.Series([record["kind"] for record in records], dtype="string")
    spacing = [record["pixel_spacing_mm"] for record in records]
    table["pixel_spacing_mm"] = pd.Series(spacing, dtype="Float64")
    transforms = pd.DataFrame([record["transform"] for record in records])
    return table.join(transforms.add_prefix("transform_"))


def _lesions_table(lesions: pd.DataFrame, records: list[Record]) -> pd.DataFrame:
    """Return the table of the lesions of accepted images, with boxes in prepared pixels."""
    found = pd.DataFrame(
        [lesion for record in records for lesion in record["lesions"]],
        columns=["lesion_id", *BOX_COLUMNS, "mask_status", "mask_value"],
    ).astype({"lesion_id": "string", "mask_status": "string", "mask_value": "Int64"})
    found[BOX_COLUMNS] = found[BOX_COLUMNS].astype("Float64")
    known = lesions[list(LESION_COLUMNS)].drop(columns=BOX_COLUMNS)
    return known.merge(found, on="lesion_id", validate="one_to_one")
