"""The fastest decoder of each compressed transfer syntax, all from imagecodecs.

Unlike gdcm, which is not faster, these decoders do not crash the process on a damaged file. They are called
directly, because pydicom would copy their output.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import get_j2k_parameters

if TYPE_CHECKING:
    from pydicom import Dataset


def _rle(frame: bytes, header: "Dataset") -> NDArray[Any]:
    import imagecodecs

    dtype = f"<u{header.BitsAllocated // 8}"
    # each segment is one byte of all pixels
    pixels = np.frombuffer(imagecodecs.dicomrle_decode(frame, dtype=dtype), dtype)
    return pixels.reshape(-1, header.Columns)


def _jpeg(frame: bytes, _: "Dataset") -> Any:
    import imagecodecs

    # libjpeg fills the missing part of a truncated image with grey; the end marker can have padding behind it
    if b"\xff\xd9" not in frame[-16:]:
        raise ValueError("cut short")
    return imagecodecs.jpeg8_decode(frame)


def _jpeg_ls(frame: bytes, _: "Dataset") -> Any:
    import imagecodecs

    return imagecodecs.jpegls_decode(frame)


def _jpeg_2000(frame: bytes, _: "Dataset") -> Any:
    import imagecodecs

    return imagecodecs.jpeg2k_decode(frame, numthreads=1)


DECODERS: dict[uid.UID, Callable[[bytes, "Dataset"], NDArray[Any]]] = {
    uid.RLELossless: _rle,
    uid.JPEGBaseline8Bit: _jpeg,
    uid.JPEGExtended12Bit: _jpeg,
    uid.JPEGLossless: _jpeg,
    uid.JPEGLosslessSV1: _jpeg,
    uid.JPEGLSLossless: _jpeg_ls,
    uid.JPEGLSNearLossless: _jpeg_ls,
    uid.JPEG2000Lossless: _jpeg_2000,
    uid.JPEG2000: _jpeg_2000,
}


def decode(header: "Dataset") -> tuple[NDArray[Any], int]:
    """Decode one grey image, in a syntax of `DECODERS`.

    Returns:
        Its stored values, H W, signed if the header says so, and the number of bits that they use: that of
        the compressed image where it is less than the header's or the values need more.

    Raises:
        ValueError: the pixel data are damaged.
    """
    syntax = header.file_meta.TransferSyntaxUID
    frame = next(generate_frames(header.PixelData, number_of_frames=1))
    try:
        pixels = DECODERS[syntax](frame, header)
    except Exception as error:  # each library raises its own type
        raise ValueError(f"damaged or cut short: {error}") from error
    if pixels.shape != (header.Rows, header.Columns):
        raise ValueError("the size differs from the header")
    bits, width = int(header.BitsStored), 8 * pixels.itemsize
    signed = header.get("PixelRepresentation", 0) == 1
    if syntax == uid.RLELossless:
        words = pixels.view(f"{'i' if signed else 'u'}{pixels.itemsize}")
        return without_unused_bits(words, header)
    precision = _precision(frame, syntax) or bits
    if syntax in uid.JPEG2000TransferSyntaxes + uid.JPEGLSTransferSyntaxes:
        used = precision
    else:
        used = bits if signed else width
    unused = max(0, width - used)
    # The bits are two's complement or not as the header says; some decoders and encoders ignore that.
    if signed or unused or pixels.dtype.kind == "i":
        raised: NDArray[Any] = pixels.view(f"u{pixels.itemsize}") << unused
        pixels = raised.view(f"{'i' if signed else 'u'}{pixels.itemsize}") >> unused
    low, high = int(pixels.min()), int(pixels.max())
    limit = 1 << (bits - signed)
    if high >= limit or low < -limit:
        bits = precision if high < 1 << (precision - signed) and low >= -1 << (precision - signed) else width
    return pixels, min(bits, precision)


def without_unused_bits(words: NDArray[Any], header: "Dataset") -> tuple[NDArray[Any], int]:
    """Return the values of pixels that are words of `BitsAllocated` bits: their `BitsStored` bits.

    The bits above are ignored if they are the same in all pixels or those of an overlay. The values are in
    the upper bits of the words if `HighBit` says so, as older files do, and the bits below are 0.

    Args:
        words: H W, `BitsAllocated` bits per pixel, signed as the header says.
        header: header of the image.

    Returns:
        The values, H W, and the number of their bits: `BitsStored`, or `BitsAllocated` if padding needs it.

    Raises:
        ValueError: the values need more bits than the header says.
    """
    stored, allocated = int(header.BitsStored), 8 * words.itemsize
    unused = allocated - stored
    if unused <= 0:
        return words, stored
    low = int(header.get("HighBit") or 0) + 1 - stored
    if 0 < low <= unused and not (words & ((1 << low) - 1)).any():
        words = words >> low
    kept: NDArray[Any] = (words << unused) >> unused
    beyond = kept != words
    if not beyond.any():
        return words, stored
    padding = header.get("PixelPaddingValue")
    if isinstance(padding, int):
        padding %= 1 << allocated
        padding -= (padding >> (allocated - 1) << allocated) if words.dtype.kind == "i" else 0
        if (words[beyond] == padding).all():
            return words, allocated
    above = words.view(words.dtype.str.replace("i", "u")) >> stored
    overlay = any(header.get((group, 0x0102)) for group in range(0x6000, 0x6020, 2))
    if not overlay and above.min() != above.max():
        raise ValueError(f"its values need more bits than the {stored} of BitsStored; correct BitsStored")
    return kept, stored


def _precision(frame: bytes, syntax: uid.UID) -> int | None:
    """Return the bits per pixel that a compressed image says it has; None if it does not."""
    if syntax in uid.JPEG2000TransferSyntaxes:
        found: int | None = get_j2k_parameters(frame).get("precision")
        return found
    place = 2
    while frame[place : place + 1] == b"\xff" and place + 5 <= len(frame):
        marker = frame[place + 1]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return frame[place + 4]
        place += 2 + int.from_bytes(frame[place + 2 : place + 4], "big")
    return None
