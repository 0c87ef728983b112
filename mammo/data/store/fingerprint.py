"""The fingerprint of a prepared store: what determines its bytes."""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mammo.data.catalog import IMAGE_COLUMNS, LESION_COLUMNS
from mammo.data.store.store_building import ImageJob, Settings

if TYPE_CHECKING:
    from mammo.data.catalog import Catalog

# Increase with every change of prepared pixels or tables; stores of older versions are then not used.
PREPARATION_VERSION = 5
# keys of `data` that determine the pixels of an image
PREPARATION_KEYS = ("height", "width", "crop", "aspect", "white", "window", "for_processing")


def recorded_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings by name; those of the kinds of files only if they are not measured."""
    recorded: dict[str, Any] = asdict(settings)
    display: dict[str, Any] = recorded.pop("display")
    if display["kinds"] is None:
        del display["kinds"]
    return recorded | display


def fingerprint_of(catalog: "Catalog", jobs: list[ImageJob], settings: Settings) -> str:
    """Return a hash of settings, tables and files (relative path, size and time, but not content)."""
    files = [job.path for job in jobs]
    if settings.masks:
        files += [path for job in jobs for lesion in job.lesions for path in lesion.mask_paths]
    root = os.path.commonpath([path.parent for path in files if path is not None] or [Path("/")])
    digest = hashlib.sha256(json.dumps([PREPARATION_VERSION, recorded_settings(settings)]).encode())
    # without the user's own columns, which have no part in the pixels
    known = (catalog.images[list(IMAGE_COLUMNS)], catalog.lesions[list(LESION_COLUMNS)])
    for table, paths in zip(known, ("path", "mask_paths"), strict=True):
        digest.update(table.drop(columns=paths).to_csv(index=False).encode())
    for path in files:
        digest.update(_identity(path, root).encode())
    return digest.hexdigest()[:16]


def _identity(path: Path | None, root: str) -> str:
    if path is None:
        return "no file\n"
    name = str(path).removeprefix(root)
    try:
        status = path.stat()
    except OSError:
        return f"{name} not found\n"
    return f"{name} {status.st_size} {status.st_mtime_ns}\n"
