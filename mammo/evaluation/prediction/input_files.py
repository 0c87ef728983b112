"""Files of new mammograms: found by folder or pattern, decoded and prepared for the network."""

import glob
import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from mammo.config.choices import OtherImage
from mammo.data.images.dicom import HeaderFacts, Pixels, read_facts
from mammo.data.images.header_places import Place
from mammo.data.sources.cbis_layouts import is_secondary, place_in_folders
from mammo.data.store.store_building import ImageJob, Settings, prepare_image
from mammo.data.worker_pool import in_own_process
from mammo.errors import ConfigError, DataError

# One image: `path`, `laterality`, `view`, `exam` and `breast` (digests shared by their images), `scores`,
# `error`, `kind` (the word for why it has no score), `transform` (from its pixels to the prepared ones) and
# `notes`, what is to be known of it.
Row: TypeAlias = dict[str, Any]

SECONDARY = "is a cropped image or lesion mask of CBIS-DDSM; secondary=true scores it"
UNREADABLE = "unreadable"
_NAMED = "its path, which is in the table, contains the patient ID of its header, or a UID"
_SHORTEST = 4  # characters of a patient ID that is looked for in a path

_UID = re.compile(r"(?<![\d.])\d+(\.\d+){5,}")
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


class LeftOutError(DataError):
    """A file is not scored because of what it is.

    Args:
        reason: the sentence of the error.
        kind: what it is: of `OtherObject`, or `crop_or_mask`.
    """

    def __init__(self, reason: str, *, kind: str) -> None:
        super().__init__(reason)
        self.kind = kind


def empty_row(path: str | None = None) -> Row:
    """Return the row of an image of which only the path is known, if any."""
    keys = ("path", "laterality", "view", "exam", "breast", "scores", "error", "kind", "transform")
    return dict.fromkeys(keys) | {"path": path, "notes": []}


def wanted_facts(file: Path, *, secondary: bool, include: Collection[str]) -> HeaderFacts:
    """Return what the header and, where it says nothing, the name of a file say.

    Args:
        file: path of the file.
        secondary: whether cropped images and lesion masks of CBIS-DDSM are images too.
        include: kinds of objects that are images too, see `OtherObject`.

    Raises:
        LeftOutError: the file is not an image to be scored.
        DataError: the file is not an image, or its header is damaged.
    """
    named = named_place(file)
    facts = read_facts(file, named if named.laterality else Place(*place_in_folders(file)))
    if is_secondary(file, patient=facts.patient, series=facts.series):
        if not secondary:
            raise LeftOutError(SECONDARY, kind="crop_or_mask")
    elif facts.other is not None and facts.other.kind not in include:
        kind = facts.other.kind
        remedy = f"; include=[{kind}] scores it" if kind in list(OtherImage) else ""
        raise LeftOutError(f"{facts.other.reason}{remedy}", kind=kind)
    return facts


def prepare_files(
    root: Path,
    paths: Sequence[str],
    *,
    settings: Settings,
    secondary: bool = False,
    include: Collection[str] = (),
    alone: bool = False,
) -> list[tuple[Row, Pixels | None]]:
    """Decode and prepare images, as `mammo.prepare` does.

    Args:
        root: folder that the paths are relative to.
        paths: paths of the files.
        settings: settings of the run's store.
        secondary: see `wanted_facts`.
        include: see `wanted_facts`.
        alone: whether each image is decoded in its own process, so that a file that crashes the decoder is
            reported as unreadable.

    Returns:
        For each file its row without scores and its pixels, H W; None instead of the pixels of a file that is
        not scored, whose row gives the reason in `error` and `kind`.
    """
    prepared: list[tuple[Row, Pixels | None]] = []
    for path in paths:
        file = root / path
        call = partial(prepare_image, ImageJob(path, file, ()), settings)
        row = empty_row(path)
        pixels: Pixels | None = None
        try:
            known = wanted_facts(file, secondary=secondary, include=include)
            pixels, _, facts = in_own_process(call) if alone else call()
            row |= {"laterality": known.laterality, "view": known.view, "transform": facts["transform"]}
            row["notes"] = [*facts["notes"], *([_NAMED] if _is_named(path, known) else [])]
            exam = exam_of(file, known.patient, known.study)
            row |= {"exam": _digest(exam), "breast": _digest(exam, row["laterality"])}
        except DataError as error:
            row["error"] = reason_of(error, file)
            row["kind"] = kind_of(error)
        prepared.append((row, pixels))
    return prepared


def reason_of(error: DataError, file: Path) -> str:
    """Return the sentence of an error in one line, without the path of its file."""
    return " ".join(str(error).removeprefix(f"{file}: ").split())


def kind_of(error: DataError) -> str:
    """Return the word for why a file has no score."""
    return error.kind if isinstance(error, LeftOutError) else UNREADABLE


def kind_in(row: Row) -> str | None:
    """Return the word for why the image of a row has no score; None if it has one."""
    return None if row["error"] is None else row.get("kind") or UNREADABLE


def _is_named(path: str, facts: HeaderFacts) -> bool:
    """Return whether a path contains the patient ID or a UID; the names of CBIS-DDSM are public."""
    if _NAME.fullmatch(facts.patient) or not facts.study:
        return False
    patient = facts.patient if len(facts.patient) >= _SHORTEST else None
    by_patient = patient is not None and re.search(rf"(?<!\w){re.escape(patient)}(?!\w)", path)
    return bool(by_patient or _UID.search(path))


def named_place(file: Path) -> Place:
    """Return the laterality and view in the name of a file, such as `NAME_LEFT_CC.png`; None without."""
    named = _NAME.fullmatch(file.name)
    return Place(None, None) if named is None else Place(named["laterality"].upper(), named["view"].upper())


def exam_and_breast(file: Path, laterality: str | None) -> tuple[str | None, str | None]:
    """Return the digests shared by the images of an exam and of a breast; None if exam or side is unknown."""
    try:
        facts = read_facts(file)
    except DataError:  # such as of a file that has been removed
        facts = HeaderFacts()
    exam = exam_of(file, facts.patient, facts.study)
    return _digest(exam), _digest(exam, laterality)


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


def _digest(exam: tuple[str, ...] | None, *parts: str | None) -> str | None:
    if exam is None or None in parts:
        return None
    return hashlib.sha256(json.dumps([*exam, *parts]).encode()).hexdigest()[:24]
