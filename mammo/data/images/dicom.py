"""Reads a mammogram file of any common format to grey pixels and header fields."""

import functools
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from mammo.data.images.display import Display, Range, Stored, grey_values, is_raw
from mammo.data.images.formats import (
    SUPPORTED,
    Picture,
    format_of,
    other_picture,
    picture_header,
    read_picture,
)
from mammo.data.images.formats import Pixels as Pixels
from mammo.data.images.header_places import Place, place_of
from mammo.data.images.object_kinds import OtherObject, other_object
from mammo.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset


@dataclass(frozen=True)
class Mammogram:
    """A decoded mammogram.

    Attributes:
        pixels: H W, full scale (0..255 or 0..65535), dark background, dense tissue is bright.
        laterality: LEFT, RIGHT, or None if the header has neither.
        view: One of `mammo.data.catalog.VIEWS`, or None if the header has none.
        pixel_spacing_mm: Distance between rows at the detector, or None.
        kind: Format, bits and manufacturer of the file; empty for pixels that are from no file.
        notes: What the user should know of the grey values, see `grey_values`.
    """

    pixels: Pixels
    laterality: str | None = None
    view: str | None = None
    pixel_spacing_mm: float | None = None
    kind: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class HeaderFacts:
    """What the header of a file says about its image; empty or None if it does not, as for a PNG.

    Attributes:
        laterality: see `Mammogram`.
        view: see `Mammogram`.
        patient: Patient ID.
        study: Study instance UID.
        series: Series description.
        other: what the object is if it is not a mammogram, see `other_object`.
    """

    laterality: str | None = None
    view: str | None = None
    patient: str = ""
    study: str = ""
    series: str = ""
    other: OtherObject | None = None


def read_facts(path: Path, named: Place | None = None) -> HeaderFacts:
    """Read the header of a file without its pixels.

    Args:
        path: The file.
        named: Laterality and view by the name of the file, used where the header has none.

    Raises:
        DataError: The file is neither an image nor another DICOM object, or its header is damaged.
    """
    with _guarded(path, "its header is damaged"):
        if format_of(path) != "DICOM":
            return HeaderFacts() if named is None else HeaderFacts(named.laterality, named.view)
        header = _any_header(path, pixels=False)
        tags = ("PatientID", "StudyInstanceUID", "SeriesDescription")
        place = place_of(header)
        if named is not None:
            place = Place(place.laterality or named.laterality, place.view or named.view)
        other = other_object(header, place)
        if other is None:
            _refuse_no_image(path, header)
        patient, study, series = (str(header.get(tag) or "") for tag in tags)
        return HeaderFacts(place.laterality, place.view, patient, study, series, other)


def read_mammogram(path: Path, display: Display | None = None) -> Mammogram:
    """Read a mammogram as it is meant to be shown: VOI LUT or window applied, MONOCHROME1 inverted.

    Padding is background. Without VOI LUT and window, white is the white point.

    Args:
        path: DICOM of any transfer syntax, PNG, TIFF, JPEG, BMP, WebP, JPEG 2000 or PGM.
        display: Choices of the display; by default, the white point is that of the image's own values, the
            least of 8, 10, 12, 14 and 16 bits that holds them.

    Raises:
        DataError: The file is not a single grey image, cannot be decoded, is raw, or all its pixels have one
            value.
    """
    return as_mammogram(read_values(path), display or Display(), path)


def as_mammogram(stored: Stored, display: Display, path: Path) -> Mammogram:
    """Return the mammogram of stored values, see `read_mammogram`."""
    with _guarded(path, "its LUT or window cannot be applied"):
        pixels, notes = grey_values(stored, display, str(path))
    place, spacing = Place(None, None), None
    if stored.header is not None:
        with _guarded(path, "its header is damaged"):
            place, spacing = place_of(stored.header), _pixel_spacing(stored.header)
    refuse_blank(pixels, str(path))
    return Mammogram(pixels, place.laterality, place.view, spacing, stored.kind, notes)


def refuse_blank(pixels: Pixels, name: str) -> None:
    """Raise DataError with the name of an image if all its pixels, H W, have one value."""
    first = pixels[0, 0]
    # for most images, a few pixels are enough to decide
    if (pixels[::64, ::64] == first).all() and (pixels == first).all():
        raise DataError(f"{name}: is blank, every pixel has the value {first}")


def read_stored(path: Path) -> NDArray[Any]:
    """Read the stored values of a file, H W, without any display transform; raises DataError."""
    return read_values(path).values


def read_values(path: Path) -> Stored:
    """Read the stored values of a file and what its header says of them; raises DataError."""
    with _guarded(path, "its header is damaged"):
        format_name = format_of(path)
        if format_name != "DICOM":
            picture, values = read_picture(path, format_name)
            return Stored(values, (0, picture.full), _picture_kind(picture))
        header = _read_header(path)
        values, full = _decode_dicom(path, header)
        return Stored(values, full, _dicom_kind(header), header)


def read_kind(path: Path) -> tuple[str, Range]:
    """Read the kind of a file and its range, as in `Stored`, without its pixels; raises DataError."""
    with _guarded(path, "its header is damaged"):
        format_name = format_of(path)
        if format_name != "DICOM":
            picture = picture_header(path, format_name)
            return _picture_kind(picture), (0, picture.full)
        header = open_header(path, pixels=False)
        return _dicom_kind(header), _full(header, int(header.get("BitsStored") or 16))


def _picture_kind(picture: Picture) -> str:
    return f"{picture.format}, {picture.full.bit_length()} bits"


def _dicom_kind(header: "Dataset") -> str:
    signed = " signed" if header.get("PixelRepresentation") == 1 else ""
    maker = " ".join(str(header.get("Manufacturer") or "").split())
    parts = [f"DICOM, {header.get('BitsStored')} bits{signed}", maker, "raw" if is_raw(header) else ""]
    return ", ".join(filter(None, parts))


def open_header(path: Path, *, pixels: bool) -> "Dataset":
    """Read a DICOM image, with or without its pixel data; raises DataError."""
    header = _any_header(path, pixels=pixels)
    _refuse_no_image(path, header)
    return header


def _any_header(path: Path, *, pixels: bool) -> "Dataset":
    import pydicom

    with _guarded(path, f"is not an image; {SUPPORTED}"):
        return pydicom.dcmread(path, force=True, stop_before_pixels=not pixels)


def _refuse_no_image(path: Path, header: "Dataset") -> None:
    if not any(keyword in header for keyword in ("Rows", "Columns", "PixelData")):
        if "SOPClassUID" in header or "TransferSyntaxUID" in header.file_meta:
            reason = "is a DICOM file without an image, or cut short"
        elif (other := other_picture(path)) is not None:
            reason = f"has the format {other}, which is not read"
        else:
            reason = "is not an image"
        raise DataError(f"{path}: {reason}; {SUPPORTED}")


def _read_header(path: Path) -> "Dataset":
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    header = open_header(path, pixels=True)
    if "TransferSyntaxUID" not in header.file_meta:
        implicit, little = header.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    _refuse_other_images(path, header)
    return header


def _refuse_other_images(path: Path, header: "Dataset") -> None:
    """Raise DataError unless the header describes one grey image of at most 16 bits."""
    if "PixelData" not in header:
        raise DataError(f"{path}: has no pixel data; the file was cut short or holds only a header")
    rows, columns = header.get("Rows") or 0, header.get("Columns") or 0
    if rows < 1 or columns < 1:
        raise DataError(f"{path}: has no pixels, its size is {rows} x {columns}")
    if header.get("SamplesPerPixel", 1) != 1:
        raise DataError(f"{path}: has {header.SamplesPerPixel} channels; a mammogram has one grey channel")
    if str(header.get("PhotometricInterpretation")) not in ("MONOCHROME1", "MONOCHROME2"):
        kind = header.get("PhotometricInterpretation")
        raise DataError(f"{path}: has the photometric interpretation {kind}, not MONOCHROME1 or MONOCHROME2")
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise DataError(f"{path}: holds {header.NumberOfFrames} frames; save each frame in its own file")
    if header.get("BitsAllocated") not in (1, 8, 16) or not 1 <= (header.get("BitsStored") or 0) <= 16:
        raise DataError(f"{path}: stores {header.get('BitsAllocated')} bits per pixel; save it with 8 or 16")


def _decode_dicom(path: Path, header: "Dataset") -> tuple[NDArray[Any], Range]:
    """Return the stored values, H W, and the smallest and largest value that the file can have."""
    from pydicom.pixels.utils import pixel_array

    from mammo.data.images.codecs import DECODERS, decode, without_unused_bits

    syntax = header.file_meta.TransferSyntaxUID
    bits = int(header.BitsStored)
    with _guarded(path, f"its pixels ({syntax.name}) cannot be decoded"):
        if syntax in DECODERS:
            pixels, bits = decode(header)
        else:  # a view of the file's bytes if they are not compressed
            words = pixel_array(header, view_only=True, correct_unused_bits=False)
            pixels, bits = without_unused_bits(words, header)
    return pixels, _full(header, bits)


def _full(header: "Dataset", bits: int) -> Range:
    """Return the smallest and largest value of a number of bits."""
    if header.get("PixelRepresentation", 0) == 1:
        return -1 << (bits - 1), (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1


def _pixel_spacing(header: "Dataset") -> float | None:
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        try:
            return float(header[keyword].value[0])
        except (KeyError, TypeError, ValueError, IndexError):
            continue
    return None


@contextmanager
def _guarded(path: Path, what: str) -> Iterator[None]:
    """Turn any error of pydicom and its decoders into a one-sentence DataError; ignore their warnings."""
    _silence_loggers()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (DataError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of pylibjpeg-rle is not an Exception
        reason = str(error)
        if "missing dependencies" in reason:
            reason = "no decoder is installed"
        elif "\n" in reason or not reason:
            reason = "damaged or cut short"
        raise DataError(f"{path}: {what} ({reason})") from error


@functools.cache
def _silence_loggers() -> None:
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
