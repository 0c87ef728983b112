"""The fastest decoder of each compressed transfer syntax, as a plugin of pydicom: those of imagecodecs.

Unlike gdcm, which is slower or as fast, none of them takes the process down with a damaged file.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydicom import uid

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner

PLUGIN = "imagecodecs"


def _rle(frame: bytes, runner: "DecodeRunner") -> bytes:
    import imagecodecs

    # each segment is one byte of all pixels
    return bytes(imagecodecs.dicomrle_decode(frame, dtype=f"<u{runner.bits_allocated // 8}"))


def _jpeg(frame: bytes, _: "DecodeRunner") -> Any:
    import imagecodecs

    # libjpeg fills up an image that was cut short, in grey
    if not frame[-16:].rstrip(b"\0").endswith(b"\xff\xd9"):
        raise ValueError("cut short")
    return imagecodecs.jpeg8_decode(frame)


def _jpeg_ls(frame: bytes, _: "DecodeRunner") -> Any:
    import imagecodecs

    return imagecodecs.jpegls_decode(frame)


def _jpeg_2000(frame: bytes, _: "DecodeRunner") -> Any:
    import imagecodecs

    return imagecodecs.jpeg2k_decode(frame, numthreads=1)


_DECODE: dict[uid.UID, Callable[[bytes, "DecodeRunner"], Any]] = {
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

# what pydicom asks of a plugin
DECODER_DEPENDENCIES = dict.fromkeys(_DECODE, (PLUGIN,))


def is_available(syntax: str) -> bool:
    """Whether a transfer syntax is decoded here."""
    return syntax in _DECODE


def decode_frame(frame: bytes, runner: "DecodeRunner") -> bytes | memoryview:
    """The pixels of an encoded frame, little endian, for pydicom to interpret."""
    pixels = _DECODE[runner.transfer_syntax](frame, runner)
    if isinstance(pixels, bytes):
        return pixels
    # as wide as the codestream says, which may be less than the header does
    runner.set_option("bits_allocated", 8 * pixels.itemsize)
    return memoryview(pixels).cast("B")


@functools.cache
def plugin_for(syntax: uid.UID) -> str:
    """The name of the plugin to decode a transfer syntax with; empty where pydicom is to choose."""
    from pydicom.pixels.decoders.base import get_decoder

    if not is_available(syntax):
        return ""
    get_decoder(syntax).add_plugin(PLUGIN, (__name__, decode_frame.__name__))
    return PLUGIN
