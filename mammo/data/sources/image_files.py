"""The image files below a folder."""

import logging
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

log = logging.getLogger(__name__)

PICTURES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".pgm"}
_DICOM = {".dcm", ".dicom", ".dic", ".ima", ""}
# A network disk answers many parallel requests as fast as a single one.
_THREADS = 16


def is_image(name: str) -> bool:
    """Return whether a file may be an image by its name."""
    suffix = os.path.splitext(name)[1].lower()
    # macOS adds files such as `._1-1.dcm` on foreign disks
    return not name.startswith(".") and (suffix in PICTURES or is_dicom(name))


def is_dicom(name: str) -> bool:
    """Return whether a file may be in DICOM by its name."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix in _DICOM or suffix[1:].isdigit()  # a file named by its UID ends with `.123`


def walk(root: str) -> Iterator[tuple[str, list[str]]]:
    """Yield root and every folder below it with its file names, level by level; links are followed.

    Hidden folders are skipped, such as that with the unfinished files of a download.
    """
    seen: set[str] = set()
    level = [root]
    with ThreadPoolExecutor(_THREADS) as pool:
        while level:
            folders, level = level, []
            # in batches: scanning a small folder takes less time than passing it to a thread
            size = math.ceil(len(folders) / (4 * _THREADS))
            pieces = [folders[first : first + size] for first in range(0, len(folders), size)]
            scans = chain.from_iterable(pool.map(lambda piece: [_scan(folder) for folder in piece], pieces))
            for folder, (inner, links, names) in zip(folders, scans, strict=True):
                fresh = {link: os.path.realpath(link) for link in links}
                # a link may lead back to a folder above it
                level += inner + [link for link, target in fresh.items() if target not in seen]
                seen.update(fresh.values())
                yield folder, names


def _scan(folder: str) -> tuple[list[str], list[str], list[str]]:
    """Return folders, links to folders, and file names of a folder; nothing if it cannot be read."""
    inner: list[str] = []
    links: list[str] = []
    names: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    if entry.name.startswith("."):
                        continue
                    (links if entry.is_symlink() else inner).append(entry.path)
                else:
                    names.append(entry.name)
    except OSError as error:
        log.warning("%s: %s; folder skipped", folder, error.strerror)
    return inner, links, names
