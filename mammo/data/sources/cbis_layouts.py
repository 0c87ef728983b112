"""Finds the files of a series in each release and copy of CBIS-DDSM.

A case file names a series by a path such as `Mass-Test_P_00016_LEFT_CC/<study>/<series>/000000.dcm`. Study
and series are UIDs, or texts that end with the last five digits of the UIDs; the file name seldom matches the
name on disk. A series is searched in this order: by its UID in folder names and in NBIA's `metadata.csv`, by
the case folder with the last five digits, by the path itself, and by the SeriesInstanceUID in DICOM headers.
"""

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from mammo.data.sources.header_cache import cached_headers
from mammo.data.sources.image_files import PICTURES, is_dicom, is_image, walk
from mammo.data.tables.text_table import TextTable
from mammo.errors import DataError

log = logging.getLogger(__name__)

# The folder of a case; the folder of a lesion ends with the abnormality id.
_CASE = re.compile(r"(?:Mass|Calc)-(?:Training|Test)_P_\d+_(LEFT|RIGHT)_(CC|MLO)(?:_\d+)?")
# The folder, and the patient ID, of the crop and mask of a lesion; in some headers it ends with `.dcm`.
_LESION = re.compile(r"(?:Mass|Calc)-(?:Training|Test)_P_\d+_(?:LEFT|RIGHT)_(?:CC|MLO)_\d+(?:\.dcm)?")
_SECONDARY_SERIES = ("cropped images", "roi mask images")
# A UID at the end of a folder's name: `1.3.6...` or, in copies from the Imaging Data Commons, `MG_1.3.6...`.
_UID = re.compile(r"(?:^|_)(\d+(?:\.\d+){4,})$")
# The folder of a series in copies from the Imaging Data Commons: its modality and UID.
_COMMONS = re.compile(r"[A-Z]{2,}_\d+(?:\.\d+){4,}")
_FIVE_DIGITS = re.compile(r"\d{5}$")
# A network disk answers many parallel requests as fast as a single one.
_THREADS = 16


@dataclass(frozen=True)
class FileIndex:
    """The image files below a folder, by series.

    Attributes:
        root: The folder.
        folders: Absolute folder -> its image files, sorted.
        by_uid: SeriesInstanceUID from folder names and `metadata.csv` -> files.
        by_case: Case folder and last five digits of the series -> files.
    """

    root: Path
    folders: dict[str, list[str]]
    by_uid: dict[str, list[str]] = field(default_factory=dict)
    by_case: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def files(self, named: str) -> list[str]:
        """Return absolute paths of the files of a series that a case file names; empty if not found."""
        parts = named.replace("\\", "/").split("/")
        uid, key = _series(["", *parts[:-1]])
        found = self.by_uid.get(uid or "") or self.by_case.get(key or ("", ""))
        literal = os.path.join(self.root, *parts)  # for case files rewritten for converted images
        if not found and literal in self.folders.get(os.path.dirname(literal), []):
            found = [literal]
        return found or self._by_header.get(uid or "", [])

    @cached_property
    def _by_header(self) -> dict[str, list[str]]:
        """SeriesInstanceUID -> files, for DICOM files in folders of no known layout."""
        unknown = [
            file
            for folder, files in self.folders.items()
            if not _is_known_layout(folder)
            for file in files
            if is_dicom(file)
        ]
        by_header: dict[str, list[str]] = {}
        for file, uid in cached_headers(self.root, unknown, _read_series_uid, name="headers").items():
            if uid:
                by_header.setdefault(uid, []).append(file)
        return by_header


def place_in_folders(file: Path) -> tuple[str | None, str | None]:
    """Return laterality and view in the name of a case folder of CBIS-DDSM above a file; None without one."""
    cases = (_CASE.fullmatch(part) for part in reversed(file.absolute().parts[:-1]))
    case = next((case for case in cases if case is not None), None)
    return (None, None) if case is None else (case[1], case[2])


def is_secondary(file: Path, *, patient: str, series: str) -> bool:
    """Return whether a file is a cropped image or a lesion mask of CBIS-DDSM, not a mammogram.

    Pictures of Kaggle's copy have no header; its table of headers is read, `csv/dicom_info.csv` beside the
    folder `jpeg`.

    Args:
        file: Path of the file.
        patient: Patient ID of its header; empty if there is none.
        series: Series description of its header; empty if there is none.
    """
    names = (patient, *file.absolute().parts[:-1])
    if series.lower() in _SECONDARY_SERIES or any(_LESION.fullmatch(name) for name in names):
        return True
    folder = file.absolute().parent
    if file.suffix.lower() not in PICTURES or _UID.search(folder.name) is None:
        return False
    return folder.name in _secondary_series(folder.parent.parent / "csv" / "dicom_info.csv")


@lru_cache
def _secondary_series(listing: Path) -> frozenset[str]:
    """Return the UIDs of the crops and masks in Kaggle's `dicom_info.csv`; none if it is not there."""
    try:
        sheet = TextTable.read(listing)
    except DataError:
        return frozenset()
    secondary = sheet.text("seriesdescription").str.lower().isin(_SECONDARY_SERIES)
    files = sheet.text("image_path")[secondary].dropna()
    return frozenset(file.replace("\\", "/").split("/")[-2] for file in files if "/" in file)


def index_files(root: Path) -> FileIndex:
    """Index the image files below a folder by series; DICOM headers are read if a series is not found."""
    root = root.absolute()
    index = FileIndex(root=root, folders={})
    listings = [root.parent / "metadata.csv"]
    for folder, names in walk(str(root)):
        images = sorted(os.path.join(folder, name) for name in names if is_image(name))
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
    """Return UID and (case folder, last five digits) of the series folder at the end of a path."""
    uid = _UID.search(parts[-1])
    digits = _FIVE_DIGITS.search(parts[-1])
    case = next((part for part in reversed(parts[:-1]) if _CASE.fullmatch(part)), None)
    return uid and uid[1], (case, digits[0]) if case and digits else None


def _is_known_layout(folder: str) -> bool:
    """Return whether the folder's name says which series it holds; its headers then need not be read.

    This is so for `<case>/<study>/<series>`, and for `<modality>_<series>` below any folder: in the Imaging
    Data Commons, the patient IDs of 246 images name no case.
    """
    parts = folder.split(os.sep)
    if _COMMONS.fullmatch(parts[-1]):
        return True
    return len(parts) > 2 and _CASE.fullmatch(parts[-3]) is not None and _series(parts)[1] is not None


def _listed(listing: Path) -> Iterator[tuple[str, str]]:
    """Yield series UID and absolute folder of each row of an NBIA `metadata.csv`; nothing for other files."""
    try:
        sheet = TextTable.read(listing)
    except DataError:
        return
    locations = sheet.text("file_location").str.replace("\\", "/", regex=False)
    for uid, location in zip(sheet.text("series_uid"), locations, strict=True):
        if isinstance(uid, str) and isinstance(location, str):
            yield uid, os.path.normpath(listing.parent / location)


def _read_series_uid(file: str) -> str | None:
    import pydicom

    try:
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
        return str(header.SeriesInstanceUID)
    except Exception:  # a damaged or non-DICOM file raises any type of error; it belongs to no series
        return None
