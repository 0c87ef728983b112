"""Files of new mammograms: found by folder or pattern, decoded and prepared for the network."""

import glob
import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from mammo.data.images.dicom import Pixels
from mammo.data.sources.cbis_layouts import is_secondary
from mammo.data.store.store_building import ImageJob, Settings, prepare_image
from mammo.data.worker_pool import in_own_process
from mammo.errors import ConfigError, DataError

# One image: `path`, `laterality`, `view`, `breast` (digest shared by its images), `scores`, `error`, and
# `notes`, what is to be known of its grey values.
Row: TypeAlias = dict[str, Any]

SECONDARY = "is a cropped image or lesion mask of CBIS-DDSM; secondary=true scores it"

# Names of images in CBIS-DDSM; in some headers they end with `.dcm`.
_NAME = re.compile(r"(?P<exam>.+)_(?P<laterality>LEFT|RIGHT)_(?P<view>CC|MLO)(_\d+)?(\.\w+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Files:
    """Files of the input.

    Attributes:
        root: folder that the paths are relative to.
        paths: sorted paths, with `/` between folders.
    """

    root: Path
    paths: list[str]


def find_files(pattern: str, *, leave_out: Sequence[Path] = ()) -> Files:
    """Find all files of a folder and its subfolders, one file, or the files that match a pattern.

    Hidden files and folders are left out.

    Args:
        pattern: path of a folder or file, or pattern (`*`, `?`, `[]`, `**`).
        leave_out: files and folders that are not input, even where the pattern matches them.

    Raises:
        ConfigError: There is no file.
    """
    if not pattern:  # an unset shell variable
        raise ConfigError("input has no value: give input=...")
    place = Path(pattern)
    if place.is_file():
        return Files(place.parent, [place.name])
    if place.is_dir():
        root, found = place, set(_below(place))
    elif glob.has_magic(pattern):
        parts = place.parts
        root = Path(*parts[: next(n for n, part in enumerate(parts) if glob.has_magic(part))])
        matches = map(Path, glob.iglob(pattern, recursive=True))
        found = {file for match in matches for file in (_below(match) if match.is_dir() else [match])}
    else:
        raise ConfigError(
            f"input={pattern}: no such file or folder; give one, or a pattern such as 'new/*.dcm'"
        )
    excluded = {path.absolute() for path in leave_out}
    paths = [
        file.relative_to(root).as_posix()
        for file in found
        if not excluded.intersection((file.absolute(), *file.absolute().parents))
    ]
    if not paths:
        raise ConfigError(f"input={pattern}: no file there; give a folder, file or pattern of mammograms")
    return Files(root, sorted(paths, key=path_sort_key))


def path_sort_key(path: str) -> tuple[str, ...]:
    """Return the key that sorts paths folder by folder.

    Example:
        >>> sorted(["a b/1.dcm", "a/2.dcm"], key=path_sort_key)
        ['a/2.dcm', 'a b/1.dcm']
    """
    return tuple(path.split("/"))


def _below(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and its subfolders, following links; ConfigError for one it cannot open."""

    def refuse(error: OSError) -> None:
        raise ConfigError(f"input: {error.filename} cannot be opened ({error.strerror})") from error

    seen = set()
    for directory, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        status = os.stat(directory)
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder above it
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = [name for name in folders if not name.startswith(".")]
        files = (Path(directory, name) for name in names if not name.startswith("."))
        yield from (file for file in files if file.is_file() or file.is_symlink())


def empty_row(path: str | None = None) -> Row:
    """Return the row of an image of which only the path is known, if any."""
    row: Row = dict.fromkeys(("path", "laterality", "view", "breast", "scores", "error"))
    return row | {"path": path, "notes": []}


def prepare_files(
    root: Path, paths: Sequence[str], *, settings: Settings, secondary: bool = False, alone: bool = False
) -> list[tuple[Row, Pixels | None]]:
    """Decode and prepare images, as `mammo.prepare` does.

    Args:
        root: folder that the paths are relative to.
        paths: paths of the files.
        settings: settings of the run's store.
        secondary: whether cropped images and lesion masks of CBIS-DDSM are images too; else their `error` is
            `SECONDARY`.
        alone: whether each image is decoded in its own process, so that a file that crashes the decoder is
            reported as unreadable.

    Returns:
        For each file its row without scores and its pixels, H W; None instead of the pixels of an unreadable
        file, whose row gives the reason in `error`.
    """
    prepared: list[tuple[Row, Pixels | None]] = []
    for path in paths:
        file = root / path
        call = partial(prepare_image, ImageJob(path, file, ()), settings)
        row = empty_row(path)
        pixels: Pixels | None = None
        patient, study, series = _identifiers(file)
        try:
            if not secondary and is_secondary(file, patient=patient, series=series):
                raise DataError(SECONDARY)
            pixels, _, facts = in_own_process(call) if alone else call()
            for key, by_name in named_places(file).items():
                row[key] = facts[key] or by_name
            row["notes"] = list(facts["notes"])
            row["breast"] = _digest(exam_of(file, patient, study), row["laterality"])
        except DataError as error:
            row["error"] = " ".join(str(error).removeprefix(f"{file}: ").split())
        prepared.append((row, pixels))
    return prepared


def named_places(file: Path) -> dict[str, str | None]:
    """Return the laterality and view in the name of a file, such as `NAME_LEFT_CC.png`; None without."""
    named = _NAME.fullmatch(file.name)
    return {key: named and named[key].upper() for key in ("laterality", "view")}


def breast_of(file: Path, laterality: str | None) -> str | None:
    """Return a digest shared by the images of one breast in one exam; None if exam or side is unknown."""
    patient, study, _ = _identifiers(file)
    return _digest(exam_of(file, patient, study), laterality)


def exam_of(file: Path, patient: str, study: str) -> tuple[str, ...] | None:
    """Return a key shared by the images of one exam; None if the exam is unknown.

    An exam is a DICOM study, or the common start of names such as `NAME_LEFT_CC` and `NAME_LEFT_MLO`: those
    in the patient ID of the header (CBIS-DDSM gives each image its own study), or of files in one folder.

    Args:
        file: path of the image.
        patient: patient ID of its header; empty if there is none.
        study: study UID of its header; empty if there is none.
    """
    if (named := _NAME.fullmatch(patient)) is not None:
        return ("patient", named["exam"])
    if study:
        return ("study", patient, study)
    if (named := _NAME.fullmatch(file.name)) is not None:
        return ("folder", str(file.parent.absolute()), named["exam"])
    return None


def _digest(exam: tuple[str, ...] | None, laterality: str | None) -> str | None:
    if exam is None or laterality is None:
        return None
    return hashlib.sha256(json.dumps([*exam, laterality]).encode()).hexdigest()[:24]


def _identifiers(file: Path) -> tuple[str, str, str]:
    """Read patient ID, study UID and series description of a DICOM file; empty where it has none."""
    import pydicom

    tags = ["PatientID", "StudyInstanceUID", "SeriesDescription"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=tags)
            patient, study, series = (str(header.get(tag) or "") for tag in tags)
    except Exception:  # damaged bytes make pydicom raise many types; a JPEG or PNG is no DICOM file
        return "", "", ""
    return patient, study, series
