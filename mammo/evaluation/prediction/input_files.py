"""New mammograms: which files there are, and what each shows once it is prepared."""

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
from mammo.data.store.store_building import ImageJob, Settings, prepare_image
from mammo.data.worker_pool import in_own_process
from mammo.errors import ConfigError, DataError

# Of one image: `path`, `laterality`, `view`, `breast` (a digest that its images share), `scores`, `error`.
Row: TypeAlias = dict[str, Any]

# As CBIS-DDSM names its images, in some headers with the `.dcm` of a file.
_NAME = re.compile(r"(?P<exam>.+)_(?P<laterality>LEFT|RIGHT)_(?P<view>CC|MLO)(_\d+)?(\.\w+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Files:
    """What to score.

    Attributes:
        root: folder that the paths are relative to.
        paths: sorted, with `/` between folders.
    """

    root: Path
    paths: list[str]


def find_files(wanted: str, *, leave_out: Sequence[Path] = ()) -> Files:
    """All files of a folder and its subfolders, one file, or what a pattern matches, but for hidden ones.

    Args:
        wanted: folder, file or pattern (`*`, `?`, `[]`, `**`).
        leave_out: files and folders that are no input, wherever they stand.

    Raises:
        ConfigError: there is no file.
    """
    if not wanted:  # as a shell leaves it of a variable that is not set
        raise ConfigError("input has no value: give input=...")
    place = Path(wanted)
    if place.is_file():
        return Files(place.parent, [place.name])
    if place.is_dir():
        root, found = place, set(_below(place))
    elif glob.has_magic(wanted):
        parts = place.parts
        root = Path(*parts[: next(n for n, part in enumerate(parts) if glob.has_magic(part))])
        hits = map(Path, glob.iglob(wanted, recursive=True))
        found = {file for hit in hits for file in (_below(hit) if hit.is_dir() else [hit])}
    else:
        raise ConfigError(
            f"input={wanted}: no such file or folder; give one, or a pattern such as 'new/*.dcm'"
        )
    ours = {path.absolute() for path in leave_out}
    paths = [
        file.relative_to(root).as_posix()
        for file in found
        if not ours.intersection((file.absolute(), *file.absolute().parents))
    ]
    if not paths:
        raise ConfigError(f"input={wanted}: no file there; give a folder, file or pattern of mammograms")
    return Files(root, sorted(paths, key=in_order))


def in_order(path: str) -> tuple[str, ...]:
    """The key that paths are sorted by, folder by folder."""
    return tuple(path.split("/"))


def _below(folder: Path) -> Iterator[Path]:
    """Files of a folder and its subfolders, linked ones too; raises ConfigError for one it cannot open."""

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


def prepare_files(
    root: Path, paths: Sequence[str], *, settings: Settings, alone: bool = False
) -> list[tuple[Row, Pixels | None]]:
    """Decode and prepare images, as `mammo.prepare` does.

    Args:
        root: that the paths are relative to.
        paths: of the files.
        settings: of the run's store.
        alone: give each image a process of its own, so that one that kills its decoder is only unreadable.

    Returns:
        For each file its row without scores, and H W, or None where `error` says why not.
    """
    prepared: list[tuple[Row, Pixels | None]] = []
    for path in paths:
        file = root / path
        call = partial(prepare_image, ImageJob(path, file, ()), settings)
        row: Row = dict.fromkeys(("path", "laterality", "view", "breast", "scores", "error")) | {"path": path}
        pixels: Pixels | None = None
        try:
            pixels, _, facts = in_own_process(call) if alone else call()
            named = _NAME.fullmatch(file.name)
            for key in ("laterality", "view"):
                row[key] = facts[key] or (named and named[key].upper())
            row["breast"] = breast_of(file, row["laterality"])
        except DataError as error:
            row["error"] = " ".join(str(error).removeprefix(f"{file}: ").split())
        prepared.append((row, pixels))
    return prepared


def breast_of(file: Path, laterality: str | None) -> str | None:
    """A digest that the images of one breast of one exam share; None where the exam or the side is not known.

    An exam is a DICOM study, or the common start of names such as `NAME_LEFT_CC` and `NAME_LEFT_MLO`, in the
    header's patient (CBIS-DDSM gives each image a study of its own) or of files in one folder.
    """
    patient, study = _identifiers(file)
    if (named := _NAME.fullmatch(patient)) is not None:
        exam = ["patient", named["exam"]]
    elif study:
        exam = ["study", patient, study]
    elif (named := _NAME.fullmatch(file.name)) is not None:
        exam = ["folder", str(file.parent.absolute()), named["exam"]]
    else:
        return None
    if laterality is None:
        return None
    return hashlib.sha256(json.dumps([*exam, laterality]).encode()).hexdigest()[:24]


def _identifiers(file: Path) -> tuple[str, str]:
    """Patient and study of a DICOM file; empty where there is none."""
    import pydicom

    tags = ["PatientID", "StudyInstanceUID"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=tags)
            patient, study = (str(header.get(tag) or "") for tag in tags)
    except Exception:  # whatever damaged bytes make pydicom raise; a picture is no DICOM file
        return "", ""
    return patient, study
