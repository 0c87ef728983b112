"""Reads a mammogram file of any common format to grey pixels and header fields."""

import functools
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mammo.data.catalog import VIEWS
from mammo.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]

# First bytes of the formats that OpenCV decodes; all other files are read as DICOM.
_PICTURE_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"P2", b"P5")
_SIDES = {"L": "LEFT", "R": "RIGHT"}
# ViewCodeSequence in SNOMED-RT and SNOMED CT (DICOM PS3.16, context group 4014).
_VIEW_CODES = {
    **{"R-10242": "CC", "399162004": "CC", "R-10226": "MLO", "399368009": "MLO"},
    **{"R-10224": "ML", "399260004": "ML", "R-10228": "LM", "399352003": "LM"},
    **{"R-10230": "LMO", "399099002": "LMO", "R-10244": "FB", "399196006": "FB"},
    **{"R-102D0": "SIO", "399188001": "SIO", "R-40AAA": "ISO", "441555000": "ISO"},
    **{"R-1024A": "XCCL", "399192008": "XCCL", "R-1024B": "XCCM", "399101009": "XCCM"},
    **{"Y-X1770": "XCCL", "Y-X1771": "XCCM"},  # deprecated codes
}


@dataclass(frozen=True)
class Mammogram:
    """A decoded mammogram.

    Attributes:
        pixels: H W, full scale (0..255 or 0..65535), dark background, dense tissue is bright.
        laterality: LEFT, RIGHT, or None if the header has neither.
        view: One of `mammo.data.catalog.VIEWS`, or None if the header has none.
        pixel_spacing_mm: Distance between rows at the detector, or None.
    """

    pixels: Pixels
    laterality: str | None = None
    view: str | None = None
    pixel_spacing_mm: float | None = None


@dataclass(frozen=True)
class HeaderFacts:
    """What the header of a file says about its image; empty or None if it does not, as for a PNG.

    Attributes:
        laterality: see `Mammogram`.
        view: see `Mammogram`.
        patient: Patient ID.
        study: Study instance UID.
        series: Series description.
    """

    laterality: str | None = None
    view: str | None = None
    patient: str = ""
    study: str = ""
    series: str = ""


def read_facts(path: Path) -> HeaderFacts:
    """Read the header of a file without its pixels.

    Raises:
        DataError: The file is not an image, or its header is damaged.
    """
    with _guarded(path, "its header is damaged"):
        if _signature(path).startswith(_PICTURE_SIGNATURES):
            return HeaderFacts()
        header = _open_header(path, pixels=False)
        tags = ("PatientID", "StudyInstanceUID", "SeriesDescription")
        return HeaderFacts(_laterality(header), _view(header), *(str(header.get(tag) or "") for tag in tags))


def read_mammogram(path: Path) -> Mammogram:
    """Read a mammogram as it is meant to be shown: VOI LUT or window applied, MONOCHROME1 inverted.

    Args:
        path: DICOM of any transfer syntax, PNG or TIFF (8 or 16 bit), JPEG, or PGM.

    Raises:
        DataError: The file is not a single grey image, cannot be decoded, or all its pixels have one value.
    """
    with _guarded(path, "its header is damaged"):
        stored, header = _decode(path)
        mammogram = Mammogram(stored) if header is None else _mammogram(stored, header, path)
    refuse_blank(mammogram.pixels, str(path))
    return mammogram


def refuse_blank(pixels: Pixels, name: str) -> None:
    """Raise DataError with the name of an image if all its pixels, H W, have one value."""
    first = pixels[0, 0]
    # for most images, a few pixels are enough to decide
    if (pixels[::64, ::64] == first).all() and (pixels == first).all():
        raise DataError(f"{name}: is blank, every pixel has the value {first}")


def _mammogram(stored: NDArray[Any], header: "Dataset", path: Path) -> Mammogram:
    return Mammogram(
        pixels=_shown(stored, header, path),
        laterality=_laterality(header),
        view=_view(header),
        pixel_spacing_mm=_pixel_spacing(header),
    )


def read_stored(path: Path) -> NDArray[Any]:
    """Read the stored values of a file, H W, without any display transform; raises DataError."""
    with _guarded(path, "its header is damaged"):
        return _decode(path)[0]


def _decode(path: Path) -> tuple[NDArray[Any], "Dataset | None"]:
    """Return the stored values, H W, and the header if the file is DICOM."""
    if _signature(path).startswith(_PICTURE_SIGNATURES):
        return _decode_picture(path), None
    header = _read_header(path)
    return _decode_dicom(path, header), header


def _signature(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            signature = file.read(4)
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror})") from error
    if not signature:
        raise DataError(f"{path}: the file is empty")
    return signature


def _decode_picture(path: Path) -> Pixels:
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    pixels: Any
    try:
        # Not imread, because it fills the missing part of a truncated JPEG with grey.
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise DataError(f"{path}: cannot be decoded; the file is damaged or cut short")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{path}: has {pixels.dtype} pixels; save it with 8 or 16 bits per pixel")
    if pixels.ndim == 3:
        if np.any(pixels[..., 1:3] != pixels[..., :1]):
            raise DataError(f"{path}: is a colour image; a mammogram has one grey channel")
        pixels = np.ascontiguousarray(pixels[..., 0])
    return pixels  # type: ignore[no-any-return]


def _open_header(path: Path, *, pixels: bool) -> "Dataset":
    """Read a DICOM file, with or without its pixel data."""
    import pydicom

    with _guarded(path, "is not an image; supported formats: DICOM, PNG, TIFF, JPEG, PGM"):
        header = pydicom.dcmread(path, force=True, stop_before_pixels=not pixels)
    if not any(keyword in header for keyword in ("Rows", "Columns", "PixelData")):
        known = "SOPClassUID" in header or "TransferSyntaxUID" in header.file_meta
        reason = "is a DICOM file without an image, or cut short" if known else "is not an image"
        raise DataError(f"{path}: {reason}; supported formats: DICOM, PNG, TIFF, JPEG, PGM")
    return header


def _read_header(path: Path) -> "Dataset":
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    header = _open_header(path, pixels=True)
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


def _decode_dicom(path: Path, header: "Dataset") -> NDArray[Any]:
    from pydicom.pixels.utils import pixel_array

    from mammo.data.images.codecs import DECODERS, decode

    syntax = header.file_meta.TransferSyntaxUID
    with _guarded(path, f"its pixels ({syntax.name}) cannot be decoded"):
        if syntax in DECODERS:
            return decode(header)
        # a view of the file's bytes if they are not compressed
        pixels: NDArray[Any] = pixel_array(header, view_only=True)
    return pixels


def _shown(stored: NDArray[Any], header: "Dataset", path: Path) -> Pixels:
    """Map stored values to display values of full scale.

    All steps (modality LUT, VOI LUT, inversion, scaling) depend only on the stored value. They are computed
    for a table of the at most 65,536 possible values, which is then applied to the image once.
    """
    bits = int(header.BitsStored)
    signed = header.get("PixelRepresentation", 0) == 1
    lowest = -(1 << (bits - 1)) if signed else 0
    values = np.arange(lowest, lowest + (1 << bits), dtype=np.int32)
    with _guarded(path, "its LUT or window cannot be applied"):
        fraction = _display_fraction(values, header)
    if header.PhotometricInterpretation == "MONOCHROME1":
        fraction = 1 - fraction
    white, dtype = (255, np.uint8) if bits <= 8 else (65535, np.uint16)
    table = np.rint(np.clip(fraction, 0, 1) * white).astype(dtype)
    if stored.dtype == dtype and np.array_equal(table, values):
        return stored  # as in the original files of CBIS-DDSM
    indices = np.clip(stored, lowest, values[-1]).astype(np.int32) - lowest  # overlays may use unstored bits
    pixels: Pixels = table[indices]
    return pixels


def _display_fraction(values: NDArray[np.int32], header: "Dataset") -> NDArray[np.float64]:
    """Return display values in [0, 1] by the VOI LUT, else by the first window, else by the whole range."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi, apply_windowing

    modality = np.asarray(apply_modality_lut(values, header))
    if header.get("VOILUTSequence"):
        depth = header.VOILUTSequence[0].LUTDescriptor[2]
        black, white = 0.0, float((1 << depth) - 1)
        shown = apply_voi(np.rint(modality).astype(np.int32), header)
    elif header.get("WindowCenter") is not None and header.get("WindowWidth") is not None:
        with np.errstate(over="ignore"):
            # pydicom does not report black and white of the window; its output for extreme values gives them.
            black, white = apply_windowing(np.array([-1e9, 1e9]), header)
            shown = apply_windowing(modality, header)
    else:
        black, white = float(modality.min()), float(modality.max())
        shown = modality
    return (np.asarray(shown, np.float64) - black) / (white - black)


def _laterality(header: "Dataset") -> str | None:
    return _SIDES.get(str(header.get("ImageLaterality") or header.get("Laterality") or "").upper())


def _view(header: "Dataset") -> str | None:
    view = str(header.get("ViewPosition") or "").upper()
    if view in VIEWS:
        return view
    view = str(header.get("PatientOrientation") or "").upper()
    if view in ("CC", "MLO"):  # CBIS-DDSM writes the view there; other names could be directions
        return view
    codes = header.get("ViewCodeSequence") or []
    return _VIEW_CODES.get(str(codes[0].get("CodeValue"))) if codes else None


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
