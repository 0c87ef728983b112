"""Where each release and copy of CBIS-DDSM keeps the files of a series.

A case file names a series by a path such as `Mass-Test_P_00016_LEFT_CC/<study>/<series>/000000.dcm`, in which
study and series are UIDs, or texts that end with the last five digits of the UIDs, and the file's own name is
seldom that on disk. The series is looked for by its UID in the folder names and in NBIA's `metadata.csv`,
then by the case folder with the last five digits, by the path itself, and last by the SeriesInstanceUID
in DICOM headers.
"""

import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path

from mammo.atomic_files import write_atomically
from mammo.data.sources.csv_table import CsvTable
from mammo.errors import DataError

log = logging.getLogger(__name__)

_PICTURES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".pgm"}
_DICOM = {".dcm", ".dicom", ".dic", ".ima", ""}
# The folder of a case; that of a lesion ends with its abnormality id.
_CASE = re.compile(r"(?:Mass|Calc)-(?:Training|Test)_P_\d+_(?:LEFT|RIGHT)_(?:CC|MLO)(?:_\d+)?")
# A UID at the end of a folder's name: `1.3.6...` or, in copies from the Imaging Data Commons, `MG_1.3.6...`.
_UID = re.compile(r"(?:^|_)(\d+(?:\.\d+){4,})$")
_FIVE_DIGITS = re.compile(r"\d{5}$")
# A network disk answers many questions at once as fast as one.
_THREADS = 16


@dataclass(frozen=True)
class FileIndex:
    """The image files below a folder, by series.

    Attributes:
        root: The folder.
        folders: Absolute folder -> its image files, sorted.
        by_uid: SeriesInstanceUID, as known from folder names and `metadata.csv` -> files.
        by_case: Case folder and last five digits of the series -> files.
    """

    root: Path
    folders: dict[str, list[str]]
    by_uid: dict[str, list[str]] = field(default_factory=dict)
    by_case: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def files(self, named: str) -> list[str]:
        """Absolute paths of the files of the series that a path of a case file names; empty if not found."""
        parts = named.replace("\\", "/").split("/")
        uid, key = _series(["", *parts[:-1]])
        found = self.by_uid.get(uid or "") or self.by_case.get(key or ("", ""))
        literal = os.path.join(self.root, *parts)  # of case files rewritten for converted images
        if not found and literal in self.folders.get(os.path.dirname(literal), []):
            found = [literal]
        return found or self._by_header.get(uid or "", [])

    @cached_property
    def _by_header(self) -> dict[str, list[str]]:
        """SeriesInstanceUID -> files, of DICOM files in folders that are none of the known layouts."""
        unknown = [
            file
            for folder, files in self.folders.items()
            if not _is_known_layout(folder)
            for file in files
            if _is_dicom(file)
        ]
        by_header: dict[str, list[str]] = {}
        for file, uid in _series_uids(self.root, unknown).items():
            by_header.setdefault(uid, []).append(file)
        return by_header


def index_files(root: Path) -> FileIndex:
    """Walk a folder once and index its image files by series; headers are read when a series is not found."""
    root = root.absolute()
    index = FileIndex(root=root, folders={})
    listings = [root.parent / "metadata.csv"]
    for folder, names in _walk(str(root)):
        images = sorted(os.path.join(folder, name) for name in names if _is_image(name))
        if images:
            index.folders[folder] = images
        if "metadata.csv" in names:
            listings.append(Path(folder, "metadata.csv"))
    for folder, files in sorted(index.folders.items()):
        uid, key = _series(folder.split(os.sep))
        if uid:
            index.by_uid.setdefault(uid, []).extend(files)
        if key:
            index.by_case.setdefault(key, []).extend(files)
    for listing in listings:
        for uid, folder in _listed(listing):
            if folder in index.folders:
                index.by_uid.setdefault(uid, index.folders[folder])
    return index


def _series(parts: list[str]) -> tuple[str | None, tuple[str, str] | None]:
    """UID, and case folder with last five digits, of the series folder at the end of a path."""
    uid = _UID.search(parts[-1])
    digits = _FIVE_DIGITS.search(parts[-1])
    case = next((part for part in reversed(parts[:-1]) if _CASE.fullmatch(part)), None)
    return uid and uid[1], (case, digits[0]) if case and digits else None


def _is_known_layout(folder: str) -> bool:
    """Whether the folder is `<case>/<study>/<series>`, so that its headers would add nothing."""
    parts = folder.split(os.sep)
    return len(parts) > 2 and _CASE.fullmatch(parts[-3]) is not None and _series(parts)[1] is not None


def _is_image(name: str) -> bool:
    suffix = os.path.splitext(name)[1].lower()
    # `._1-1.dcm` is what macOS leaves beside a file on a foreign disk
    return not name.startswith(".") and (suffix in _PICTURES or _is_dicom(name))


def _is_dicom(name: str) -> bool:
    suffix = os.path.splitext(name)[1].lower()
    return suffix in _DICOM or suffix[1:].isdigit()  # a file named by its UID ends with `.123`


def _walk(root: str) -> Iterator[tuple[str, list[str]]]:
    """Every folder below root, links followed, with the names of its files; one level after the other."""
    seen: set[str] = set()
    level = [root]
    with ThreadPoolExecutor(_THREADS) as pool:
        while level:
            folders, level = level, []
            # some at once: a small folder takes less time than handing it to a thread
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
    """Folders, links to folders, and names of files in a folder; nothing of one that must not be read."""
    inner: list[str] = []
    links: list[str] = []
    names: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    (links if entry.is_symlink() else inner).append(entry.path)
                else:
                    names.append(entry.name)
    except OSError as error:
        log.warning("%s: %s; passed over", folder, error.strerror)
    return inner, links, names


def _listed(listing: Path) -> Iterator[tuple[str, str]]:
    """Series UID and absolute folder of each row of an NBIA `metadata.csv`; nothing of any other file."""
    try:
        sheet = CsvTable.read(listing)
    except DataError:
        return
    locations = sheet.text("file_location").str.replace("\\", "/", regex=False)
    for uid, location in zip(sheet.text("series_uid"), locations, strict=True):
        if isinstance(uid, str) and isinstance(location, str):
            yield uid, os.path.normpath(listing.parent / location)


def _series_uids(root: Path, files: list[str]) -> dict[str, str]:
    """SeriesInstanceUID of each DICOM file; a file unchanged since the last look is not opened again."""
    cache = _cache_file(root)
    try:
        known = json.loads(cache.read_text())
    except (OSError, ValueError):
        known = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        stamps = dict(zip(files, pool.map(_stamp, files), strict=True))
        new = [file for file in files if known.get(file, [None])[0] != stamps[file]]
        if new:
            log.info("%s: reading the headers of %d files", root, len(new))
        read = dict(zip(new, pool.map(_read_series_uid, new), strict=True))
    uids = {file: read[file] if file in read else known[file][1] for file in files}
    if new:
        _write(cache, json.dumps({file: [stamps[file], uid] for file, uid in uids.items()}))
    return {file: uid for file, uid in uids.items() if uid}


def _cache_file(root: Path) -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mammo"
    return folder / f"headers-{hashlib.sha256(str(root).encode()).hexdigest()[:16]}.json"


def _stamp(file: str) -> list[int]:
    """Size and time of change; a vanished file has none of another's."""
    try:
        status = os.stat(file)
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _read_series_uid(file: str) -> str | None:
    import pydicom

    try:
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
        return str(header.SeriesInstanceUID)
    except Exception:  # a file that is no DICOM, or a damaged one, fails in any way; it belongs to no series
        return None


def _write(file: Path, text: str) -> None:
    """Write a whole file or none; a cache that cannot be written is done without."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, text)
    except OSError as error:
        log.warning("%s: %s; the headers are read again next time", file, error.strerror)
