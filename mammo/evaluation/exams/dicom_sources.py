"""What DICOM objects of results take from the images that they are of, and from the run."""

import hashlib
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mammo
from mammo.errors import DataError
from mammo.runs import RunFolder
from mammo.runs.provenance import weights_digest

if TYPE_CHECKING:
    from pydicom import Dataset

NOT_CLINICAL = "not for clinical use"
MANUFACTURER = "mammo"

_REFERENCE = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
# of the patient and the study; type 2 in every object, so that they may be empty but not missing
_COPIED = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
_SEXES = ("M", "F", "O")
_LONG_STRING = 64  # characters of the value representation LO


@dataclass(frozen=True)
class Maker:
    """The run that makes the objects.

    Attributes:
        run: name of its folder, at most 64 characters.
        version: commit of its code, or the version of this package.
        weights: SHA-256 of its weights.
    """

    run: str
    version: str
    weights: str

    @classmethod
    def of(cls, run: RunFolder) -> "Maker":
        """Return what a run is called in DICOM objects."""
        version = run.facts().get("commit") or f"mammo {mammo.__version__}"
        return cls(plain(run.path.absolute().name)[:_LONG_STRING], version, weights_digest(run))

    def uid(self, *parts: Any) -> str:
        """Return a UID that is the same in each call for these weights and parts, and no other.

        Objects that are written again have the UIDs of the first ones, so that an archive has them once. The
        UID is derived from a UUID (DICOM PS3.5, annex B.2).
        """
        text = "\n".join([self.weights, *map(str, parts)])
        digest = hashlib.sha256(text.encode()).digest()
        return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def source_of(file: Path) -> "Dataset | None":
    """Return the header of an image that DICOM objects can refer to, without its pixels.

    Elements that every object has are empty where the header lacks them or has a value that is not valid.

    Returns:
        None if the file is no DICOM image, or lacks a UID of its study, series or instance.
    """
    from mammo.data.images.dicom import open_header
    from mammo.data.images.formats import format_of

    try:
        if format_of(file) != "DICOM":
            return None
        header = open_header(file, pixels=False)
        if not all(header.get(keyword) for keyword in _REFERENCE):
            return None
    except DataError:
        return None
    for keyword in _COPIED:
        if header.get(keyword) is None or not _is_valid(keyword, header.get(keyword)):
            setattr(header, keyword, "")
    return header


def say_failed(path: str, error: Exception) -> None:
    """Print on stderr that there is no DICOM object of a file, because of its header."""
    reason = " ".join(str(error).split()) or type(error).__name__
    print(f"warning: {path}: no DICOM object, because of its header ({reason})", file=sys.stderr, flush=True)


def plain(text: str) -> str:
    """Return a text in ASCII, which needs no character set."""
    return text.encode("ascii", "replace").decode()


def _is_valid(keyword: str, value: Any) -> bool:
    from pydicom.valuerep import DA, TM

    if keyword == "PatientSex":
        return value in _SEXES
    kinds = {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM}
    try:
        if keyword in kinds and value != "":
            kinds[keyword](str(value))
    except ValueError:
        return False
    return True


def reference_to(source: "Dataset") -> "Dataset":
    """Return the item of a sequence that refers to an image."""
    from pydicom import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    return item
