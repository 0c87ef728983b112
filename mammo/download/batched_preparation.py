"""Preparation of a data set in batches, so that only a few of its images are on the disk at a time.

After a batch, each image file is replaced by its header, a DICOM file without pixels. The headers are found
by the readers of the data set as the images were, so that all commands find the prepared store again.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mammo.atomic_files import draft_of
from mammo.data.catalog import Catalog
from mammo.data.images.display import Display
from mammo.data.progress_bar import progress
from mammo.data.sources.reader import read_catalog
from mammo.data.store.fingerprint import fingerprint_of
from mammo.data.store.gradual_store import RANGES, GradualStore
from mammo.data.store.store import image_jobs, prepare
from mammo.data.store.store_building import Settings, row_bytes
from mammo.download.download_plan import DownloadPlan
from mammo.download.idc_series import Series
from mammo.download.series_download import download_series, missing_series, require_room
from mammo.download.series_transfer import require_server

if TYPE_CHECKING:
    from mammo.data.store.store import Store

BATCH_BYTES = 2_000_000_000  # of image files on the disk at a time


def prepare_in_batches(
    plan: DownloadPlan,
    data: Mapping[str, Any],
    arguments: Mapping[str, Any],
    *,
    endpoint: str,
    announce: Callable[[list[Series]], object],
    batch_bytes: int = BATCH_BYTES,
) -> "tuple[Store | None, dict[Series, str]]":
    """Download, prepare and strip the images of a plan in batches, and open their store.

    Args:
        plan: Series of CBIS-DDSM, with the images that need them.
        data: Plain values of the node `data`.
        arguments: Arguments of `prepare` without the catalog.
        endpoint: Address of the server.
        announce: Function that is called with the series to download, before that begins.
        batch_bytes: Bytes of the image files of a batch.

    Returns:
        The store, None if series did not come; and those that did not come, with the reason.

    Raises:
        DataError: The server cannot be reached, the disk is full, or the images cannot be prepared.
    """
    data = {**data, "cases": None}  # those of the chosen patients, in `data.root`
    catalog = read_catalog(data)
    by_image = plan.series_by_image()
    images = list(catalog.images["image_id"])
    settings = _settings(plan, arguments)
    gradual = GradualStore(arguments["store"], images, settings)
    if not gradual.folder.is_dir() and all(is_stripped(plan.root / each.folder) for each in plan.series):
        fingerprint = fingerprint_of(catalog, image_jobs(catalog), settings)
        if _is_prepared(arguments["store"], fingerprint):
            announce([])
            return _finished(catalog, arguments), {}

    failed: dict[Series, str] = {}
    chunks = gradual.open_chunks()
    left = sum(map(len, chunks))
    done = set(plan.series).difference(_series_of(chunks, images, by_image))
    strip(plan.root, list(done))  # after a kill between the preparation and this
    announce(missing_series(_series_of(chunks, images, by_image), plan.root))
    if chunks:
        gradual.allocate()
        same_disk = gradual.folder.stat().st_dev == plan.root.stat().st_dev
        require_room(
            plan.root,
            min(sum(each.size for each in plan.series), batch_bytes)
            + (left * row_bytes(settings) if same_disk else 0),
            remedy="free some, or choose fewer with patients=N or data.abnormality",
        )
        require_server(endpoint)
    with progress(total=len(images), done=len(images) - left, what="downloading and preparing") as advance:
        for batch in _batches(chunks, images, by_image, batch_bytes):
            missing = missing_series(_series_of(batch, images, by_image), plan.root)
            lost = download_series(missing, plan.root, endpoint=endpoint, advance=lambda size: None)
            failed |= lost
            whole = [chunk for chunk in batch if not lost.keys() & _series_of([chunk], images, by_image)]
            jobs = image_jobs(read_catalog(data))
            gradual.fill(
                jobs,
                whole,
                workers=arguments["workers"],
                max_rejected=arguments["max_rejected"],
                advance=advance,
            )
            strip(plan.root, _series_of(whole, images, by_image))
    if failed:
        return None, failed
    catalog = read_catalog(data)
    gradual.hand_over(fingerprint_of(catalog, image_jobs(catalog), settings))
    return _finished(catalog, arguments), {}


def _is_prepared(store: Path, fingerprint: str) -> bool:
    """Return whether a store is finished, or was handed over to `prepare` with all its images."""
    return (store / fingerprint).is_dir() or (store / f"{fingerprint}.partial" / RANGES).is_file()


def _finished(catalog: Catalog, arguments: Mapping[str, Any]) -> "Store":
    store = prepare(catalog, **arguments)
    (store.directory / RANGES).unlink(missing_ok=True)
    return store


def strip(root: Path, series: Sequence[Series]) -> None:
    """Replace the DICOM files of series by their headers."""
    import pydicom

    for file in (file for each in series for file in (root / each.folder).glob("*.dcm")):
        if _has_pixels(file):
            header = pydicom.dcmread(file, force=True, stop_before_pixels=True)
            with draft_of(file) as draft:
                header.save_as(draft)


def is_stripped(folder: Path) -> bool:
    """Return whether the files of a series are headers, all of them."""
    files = list(folder.glob("*.dcm"))
    return bool(files) and not any(map(_has_pixels, files))


def _has_pixels(file: Path) -> bool:
    import pydicom

    return "PixelData" in pydicom.dcmread(file, force=True, defer_size=1024)


def _settings(plan: DownloadPlan, arguments: Mapping[str, Any]) -> Settings:
    """Return the settings that `prepare` will find in the headers of all images."""
    return Settings(
        height=arguments["height"],
        width=arguments["width"],
        crop=arguments["crop"],
        aspect=arguments["aspect"],
        dtype="uint16",
        masks=arguments["masks"] and plan.has_lesion_files,
        display=Display(arguments["white"], arguments["window"], arguments["for_processing"]),
    )


def _series_of(
    chunks: Sequence[range], images: Sequence[str], by_image: Mapping[str, list[Series]]
) -> list[Series]:
    return list({each: None for chunk in chunks for row in chunk for each in by_image[images[row]]})


def _batches(
    chunks: Sequence[range], images: Sequence[str], by_image: Mapping[str, list[Series]], most: int
) -> list[list[range]]:
    """Return the chunks in batches whose files have at most some number of bytes, at least one chunk each."""
    batches: list[list[range]] = []
    filled = most
    for chunk in chunks:
        size = sum(each.size for each in _series_of([chunk], images, by_image))
        if filled + size > most:
            batches.append([])
            filled = 0
        batches[-1].append(chunk)
        filled += size
    return batches
