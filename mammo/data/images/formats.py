"""Image files other than DICOM: which format a file has, what its header says, and its grey pixels."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mammo.errors import DataError

Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]

SUPPORTED = "supported formats: DICOM, PNG, JPEG, TIFF, BMP, WebP, JPEG 2000, PGM"

# First bytes of the formats that are read; all other files are read as DICOM, unless they are of `_OTHERS`.
_PICTURES = {
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF"),
    b"BM": "BMP",
    **dict.fromkeys((b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"), "JPEG 2000"),
    **dict.fromkeys((b"P2", b"P5"), "PGM"),
    **dict.fromkeys((b"P3", b"P6"), "PPM"),
}
# First bytes of formats that users have and that are not read.
_OTHERS = {
    b"GIF8": "GIF",
    b"%PDF": "PDF",
    **dict.fromkeys((b"\xff\x0a", b"\0\0\0\x0cJXL "), "JPEG XL"),
    **dict.fromkeys((b"\x1f\x8b", b"BZh", b"\xfd7zXZ"), "gzip, bzip2 or xz"),
    b"PK\x03\x04": "ZIP",
    b"7z\xbc\xaf": "7-Zip",
    b"Rar!": "RAR",
    b"\x93NUMPY": "NumPy",
    b"\x89HDF": "HDF5",
    b"MATLAB 5": "MATLAB",
    b"v/1\x01": "OpenEXR",
    b"8BPS": "Photoshop",
    b"NRRD": "NRRD",
    **dict.fromkeys((b"ObjectType", b"NDims"), "MetaImage"),
    **dict.fromkeys((b"P1", b"P4"), "PBM"),
    b"P7": "PAM",
    **dict.fromkeys((b"PF", b"Pf"), "PFM"),
    b"<": "XML or HTML",
}
_HEAD_BYTES = 352  # as many as the signature of NIfTI needs


@dataclass(frozen=True)
class Picture:
    """What the header of an image file says.

    Attributes:
        format: Name of the format.
        full: Largest value that a pixel can have: 255, 65535, the maximum of a PGM.
        frames: Number of images in the file.
        orientation: Exif orientation that is still to be applied, 1 to 8.
        inverted: Whether 0 is white, and the decoder leaves it so.
    """

    format: str
    full: int
    frames: int = 1
    orientation: int = 1
    inverted: bool = False


def format_of(path: Path) -> str:
    """Return the format of a file by its first bytes: a name of `_PICTURES`, or `DICOM`.

    A file with `DICM` at byte 128 is DICOM whatever its preamble: it can be a TIFF file at the same time.

    Raises:
        DataError: The file cannot be opened, is empty, or has a known format that is not read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror})") from error
    if not head:
        raise DataError(f"{path}: the file is empty")
    if head[128:132] == b"DICM":
        return "DICOM"
    for signature, name in _PICTURES.items():
        if head.startswith(signature):
            return name
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WebP"
    other = next((name for signature, name in _OTHERS.items() if head.startswith(signature)), None)
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        other = "AVIF" if brand == b"avif" else "HEIC" if brand[:2] in (b"he", b"mi") else "MP4 or QuickTime"
    if head[344:347] in (b"n+1", b"ni1"):
        other = "NIfTI"
    if other is not None:
        raise DataError(f"{path}: has the format {other}, which is not read; {SUPPORTED}")
    return "DICOM"


def other_picture(path: Path) -> str | None:
    """Return the format of a file that only Pillow knows, such as TGA; None if it does not know it either."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                return image.format
    except Exception:  # damaged bytes make Pillow raise many types
        return None


def read_picture(path: Path, format_name: str) -> tuple[Picture, Pixels]:
    """Read an image file: its header and its pixels, H W, upright, dark where the film is dark.

    Raises:
        DataError: The file is not a single grey image of 8 or 16 bits, or is damaged.
    """
    picture = picture_header(path, format_name)
    if picture.frames > 1:
        raise DataError(
            f"{path}: is a {picture.format} file of {picture.frames} images; save each in its own file"
        )
    pixels = _decode(path, format_name)
    if 255 < picture.full < 65535 and picture.format == "TIFF":
        pixels = pixels >> (16 - picture.full.bit_length())  # OpenCV fills the upper bits
    if (highest := int(pixels.max())) > picture.full:
        raise DataError(f"{path}: is damaged, it has the value {highest}, above its maximum {picture.full}")
    if picture.inverted:
        pixels = picture.full - pixels
    return picture, np.ascontiguousarray(_upright(pixels, picture.orientation))


def picture_header(path: Path, format_name: str) -> Picture:
    """Read the header of an image file, without its pixels.

    Raises:
        DataError: The header is damaged, or of an unusual variant of the format.
    """
    from PIL import Image, UnidentifiedImageError
    from PIL.ExifTags import Base

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                frames = int(getattr(image, "n_frames", 1))
                orientation = int(image.getexif().get(Base.Orientation) or 1)
                tags = dict(image.tag_v2) if format_name == "TIFF" else {}  # type: ignore[attr-defined]
    except UnidentifiedImageError as error:
        reason = "is damaged, cut short, or an unusual variant; save it with 8 or 16 bits of grey"
        raise DataError(f"{path}: cannot be decoded as {format_name}; the file {reason}") from error
    except Exception as error:  # damaged bytes make Pillow raise many types
        raise DataError(f"{path}: cannot be decoded; the file is damaged or cut short") from error
    full, inverted = 255, False
    if format_name == "TIFF":
        bits = int(np.max(tags.get(258, 1)))
        full = max(255, (1 << bits) - 1)
        inverted = tags.get(262) == 0 and bits > 8  # up to 8 bits, libtiff inverts
        orientation = 1  # OpenCV applies it
        if bits > 8 and tags.get(284) == 2 and tags.get(277, 1) > 1:
            # OpenCV decodes it to wrong pixels
            raise DataError(f"{path}: is a TIFF file with separate planes of its channels; save it as grey")
    elif format_name in ("PNG", "PGM", "PPM", "JPEG 2000"):
        full = _full(path, format_name)
    return Picture(format_name, full, frames, orientation if 1 <= orientation <= 8 else 1, inverted)


def _full(path: Path, format_name: str) -> int:
    """Return the largest value that a pixel of a PNG, PGM, PPM or JPEG 2000 file can have."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    if format_name == "PNG":
        return 65535 if head[24] == 16 else 255
    if format_name == "JPEG 2000":
        from pydicom.pixels.utils import get_j2k_parameters

        found = get_j2k_parameters(head)
        if not found:
            raise DataError(f"{path}: cannot be decoded as JPEG 2000; the file is damaged or cut short")
        if found["is_signed"] or found["precision"] > 16:
            kind = "signed" if found["is_signed"] else f"{found['precision']}-bit"
            raise DataError(f"{path}: has {kind} JPEG 2000 pixels; save it with 8 or 16 bits per pixel")
        return max(255, (1 << int(found["precision"])) - 1)
    lines = b"\n".join(line.partition(b"#")[0] for line in head.split(b"\n")).split(maxsplit=4)
    return int(lines[3])


def _decode(path: Path, format_name: str) -> Any:
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    pixels: Any
    try:
        # Not imread, because it fills the missing part of a truncated JPEG with grey.
        encoded = np.fromfile(path, np.uint8)
        if encoded[:2].tobytes() == b"P2":  # OpenCV needs a newline after the last number
            encoded = np.append(encoded, np.uint8(10))
        pixels = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        reason = "is damaged, cut short, or an unusual variant; save it with 8 or 16 bits of grey"
        raise DataError(f"{path}: cannot be decoded as {format_name}; the file {reason}")
    if pixels.dtype not in (np.uint8, np.uint16):
        kind = pixels.dtype
        raise DataError(f"{path}: has {kind} pixels; save it with 8 or 16 unsigned bits per pixel")
    if pixels.ndim == 3:
        if np.any(pixels[..., 1:3] != pixels[..., :1]):
            raise DataError(f"{path}: is a colour image; a mammogram has one grey channel")
        pixels = pixels[..., 0]
    return pixels


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply an Exif orientation to an image, H W."""
    if orientation >= 5:
        pixels = pixels.T
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
