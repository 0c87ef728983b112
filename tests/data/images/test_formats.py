"""Image files other than DICOM: every format, orientation and depth, and what is refused by its name."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mammo.data.images.dicom import read_kind, read_mammogram, read_stored
from mammo.data.images.display import Display
from mammo.errors import DataError

RNG = np.random.default_rng(0)
WIDE = RNG.integers(0, 1 << 16, (40, 30), dtype=np.uint16)
TWELVE = WIDE >> 4
NARROW = RNG.integers(0, 1 << 8, (40, 30), dtype=np.uint8)


def pgm(path: Path, pixels: NDArray[Any], maximum: int) -> None:
    content = pixels.astype(">u2" if maximum > 255 else np.uint8).tobytes()
    path.write_bytes(b"P5\n# a comment\n30 40\n%d\n" % maximum + content)


def tiff(path: Path, content: bytes, *, bits: int, photometric: int = 1, sample_format: int = 1) -> None:
    """A TIFF of 40 x 30 pixels in one strip."""
    tags = [(256, 4, 30), (257, 4, 40), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 134)]
    tags += [(277, 3, 1), (278, 4, 40), (279, 4, len(content)), (339, 3, sample_format)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + content)


def planes(path: Path, pixels: list[NDArray[np.uint16]]) -> None:
    """A TIFF of three channels, one after the other."""
    size = pixels[0].nbytes
    entries = [(256, 4, 1, 30), (257, 4, 1, 40), (258, 3, 3, 134), (259, 3, 1, 1), (262, 3, 1, 2)]
    entries += [(273, 4, 3, 140), (277, 3, 1, 3), (278, 4, 1, 40), (279, 4, 3, 152), (284, 3, 1, 2)]
    head = struct.pack("<IH", 8, 10) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    arrays = struct.pack("<3H6I", 16, 16, 16, 164, 164 + size, 164 + 2 * size, size, size, size)
    path.write_bytes((b"II*\0" + head).ljust(134, b"\0") + arrays + b"".join(map(np.ndarray.tobytes, pixels)))


def packed(pixels: NDArray[np.uint16]) -> bytes:
    """12 bits per pixel, two pixels in three bytes."""
    left, right = pixels.reshape(-1, 2).T
    return (
        np.stack([left >> 4, (left & 15) << 4 | right >> 8, right & 255], axis=1).astype(np.uint8).tobytes()
    )


GOOD: dict[str, tuple[Callable[[Path], object], NDArray[Any], str]] = {
    "a.bmp": (lambda p: cv2.imwrite(str(p), NARROW), NARROW, "BMP, 8 bits"),
    "a.webp": (
        lambda p: cv2.imwrite(str(p), NARROW, [cv2.IMWRITE_WEBP_QUALITY, 101]),
        NARROW,
        "WebP, 8 bits",
    ),
    "a.jp2": (lambda p: p.write_bytes(imagecodecs.jpeg2k_encode(WIDE, level=0)), WIDE, "JPEG 2000, 16 bits"),
    "b.jp2": (
        lambda p: p.write_bytes(imagecodecs.jpeg2k_encode(TWELVE, level=0, bitspersample=12)),
        TWELVE,
        "JPEG 2000, 12 bits",
    ),
    "a.j2k": (
        lambda p: p.write_bytes(imagecodecs.jpeg2k_encode(NARROW, level=0, codecformat="j2k")),
        NARROW,
        "JPEG 2000, 8 bits",
    ),
    "big.tif": (lambda p: Image.fromarray(WIDE).save(p, big_tiff=True), WIDE, "TIFF, 16 bits"),
    "rgb.png": (lambda p: cv2.imwrite(str(p), np.dstack([WIDE] * 3)), WIDE, "PNG, 16 bits"),
    "rgb.tif": (lambda p: cv2.imwrite(str(p), np.dstack([WIDE] * 3)), WIDE, "TIFF, 16 bits"),
    "rgba.png": (
        lambda p: cv2.imwrite(str(p), np.dstack([NARROW] * 3 + [NARROW * 0 + 255])),
        NARROW,
        "PNG, 8 bits",
    ),
    "grey.ppm": (lambda p: cv2.imwrite(str(p), np.dstack([WIDE] * 3)), WIDE, "PPM, 16 bits"),
    "palette.png": (lambda p: Image.fromarray(NARROW).convert("P").save(p), NARROW, "PNG, 8 bits"),
    "text.pgm": (
        lambda p: p.write_text("P2 30 40 255\n" + " ".join(map(str, NARROW.ravel()))),  # no last newline
        NARROW,
        "PGM, 8 bits",
    ),
    "12.pgm": (lambda p: pgm(p, TWELVE, 4095), TWELVE, "PGM, 12 bits"),
    "packed.tif": (lambda p: tiff(p, packed(TWELVE), bits=12), TWELVE, "TIFF, 12 bits"),
    "white is 0.tif": (
        lambda p: tiff(p, WIDE.tobytes(), bits=16, photometric=0),
        65535 - WIDE,
        "TIFF, 16 bits",
    ),
    "8 bits, white is 0.tif": (
        lambda p: tiff(p, NARROW.tobytes(), bits=8, photometric=0),
        255 - NARROW,
        "TIFF, 8 bits",
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_the_pixels_of_a_format(tmp_path: Path, name: str) -> None:
    write, expected, kind = GOOD[name]
    write(tmp_path / name)
    np.testing.assert_array_equal(read_stored(tmp_path / name), expected)
    mammogram = read_mammogram(tmp_path / name, Display(white="file"))
    assert mammogram.kind == kind == read_kind(tmp_path / name)[0]
    white = (1 << int(kind.split()[-2])) - 1
    full = np.iinfo(mammogram.pixels.dtype).max
    np.testing.assert_array_equal(mammogram.pixels, np.rint(expected / white * full))


@pytest.mark.parametrize(("maximum", "full"), [(15, 255), (1000, 65535)])
def test_the_maximum_of_a_pgm_is_its_white(tmp_path: Path, maximum: int, full: int) -> None:
    pixels = WIDE % (maximum + 1)
    pgm(tmp_path / "a.pgm", pixels, maximum)
    for white in ("file", "auto"):
        read = read_mammogram(tmp_path / "a.pgm", Display(white=white)).pixels
        np.testing.assert_array_equal(read, np.rint(pixels / maximum * full))
    pgm(tmp_path / "b.pgm", pixels + maximum, maximum)
    if maximum == 1000:
        with pytest.raises(DataError, match="above its maximum 1000"):
            read_mammogram(tmp_path / "b.pgm")


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_twelve_bits_in_sixteen_fill_the_scale(tmp_path: Path, name: str) -> None:
    cv2.imwrite(str(tmp_path / name), TWELVE)
    read = read_mammogram(tmp_path / name).pixels
    np.testing.assert_array_equal(read, np.rint(TWELVE / 4095 * 65535))
    np.testing.assert_array_equal(read_mammogram(tmp_path / name, Display(white="file")).pixels, TWELVE)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_orientation_of_exif(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[274] = orientation
    options: dict[str, dict[str, Any]] = {
        "tif": {"tiffinfo": {274: orientation}},
        "webp": {"lossless": True, "exif": exif.tobytes()},
        "jpg": {"exif": exif, "quality": 100},
        "png": {"exif": exif},
    }
    Image.fromarray(NARROW).save(path, **options[suffix])
    Image.fromarray(NARROW).save(tmp_path / "reference.png", exif=exif)
    with Image.open(tmp_path / "reference.png") as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_allclose(read_stored(path), upright, atol=3 if suffix == "jpg" else 0)
    if orientation == 6 and suffix == "png":  # the row at the top is the column at the right
        np.testing.assert_array_equal(read_stored(path)[:, -1], NARROW[0])


def several(path: Path, **options: Any) -> None:
    pictures = [Image.fromarray(NARROW), Image.fromarray(255 - NARROW)]
    pictures = [picture.convert("RGB") if path.suffix == ".webp" else picture for picture in pictures]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], **options)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.tif", "is a TIFF file of 2 images; save each in its own file"),
        ("a.png", "is a PNG file of 2 images"),
        ("a.webp", "is a WebP file of 2 images"),
        ("a.mpo", "is a JPEG file of 2 images"),
        ("a.gif", "has the format GIF, which is not read; supported formats: DICOM, PNG"),
    ],
)
def test_files_of_several_images_are_refused(tmp_path: Path, name: str, reason: str) -> None:
    several(tmp_path / name)
    with pytest.raises(DataError, match=reason):
        read_mammogram(tmp_path / name)


OTHERS = {
    "PDF": b"%PDF-1.7\n",
    "ZIP": b"PK\x03\x04",
    "HEIC": b"\0\0\0\x18ftypheic",
    "AVIF": b"\0\0\0\x18ftypavif",
    "JPEG XL": b"\xff\x0a\0",
    "gzip, bzip2 or xz": b"\x1f\x8b\x08",
    "NumPy": b"\x93NUMPY\x01\0",
    "HDF5": b"\x89HDF\r\n",
    "NIfTI": bytes(344) + b"n+1\0",
    "MATLAB": b"MATLAB 5.0 MAT-file",
    "NRRD": b"NRRD0004\n",
    "MetaImage": b"ObjectType = Image\n",
    "XML or HTML": b"<!doctype html>",
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats_are_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").write_bytes(OTHERS[name] + bytes(200))
    with pytest.raises(
        DataError, match=f"a: has the format {name}, which is not read; supported formats: DICOM"
    ):
        read_mammogram(tmp_path / "a")


@pytest.mark.parametrize("name", ["TGA", "PCX", "ICO", "DIB"])
def test_formats_of_pillow_that_are_not_read_are_refused_by_name(tmp_path: Path, name: str) -> None:
    Image.fromarray(NARROW).save(tmp_path / "a", format=name)
    with pytest.raises(
        DataError, match=f"a: has the format {name}, which is not read; supported formats: DICOM"
    ):
        read_mammogram(tmp_path / "a")


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "signed tiff": (lambda p: tiff(p, WIDE.tobytes(), bits=16, sample_format=2), "has int16 pixels"),
    "32 bits": (lambda p: tiff(p, WIDE.astype(np.uint32).tobytes(), bits=32), "has uint32 pixels"),
    "separate planes": (
        lambda p: planes(p, [WIDE] * 3),
        "is a TIFF file with separate planes of its channels; save it as grey",
    ),
    "signed jpeg 2000": (
        lambda p: p.write_bytes(imagecodecs.jpeg2k_encode(WIDE.view(np.int16), level=0)),
        "has signed JPEG 2000 pixels",
    ),
    "cut jpeg 2000": (lambda p: p.write_bytes(b"\0\0\0\x0cjP  \r\n"), "cannot be decoded.*cut short"),
    "cut pgm": (
        lambda p: p.write_bytes(b"P5 30 40 255\n" + NARROW.tobytes()[:-1]),
        "cannot be decoded as PGM.*cut short",
    ),
    "cut webp": (lambda p: p.write_bytes(b"RIFF\x10\0\0\0WEBPVP8 "), "cannot be decoded.*cut short"),
    "cut bmp": (lambda p: p.write_bytes(b"BM\x10\0\0\0"), "cannot be decoded.*cut short"),
    "no header": (lambda p: p.write_bytes(b"II*\0\xff\xff\xff\xff"), "cannot be decoded.*cut short"),
}


@pytest.mark.parametrize("case", BAD)
def test_variants_are_refused_in_one_sentence(tmp_path: Path, case: str) -> None:
    write, reason = BAD[case]
    write(tmp_path / "a")
    with pytest.raises(DataError, match=reason) as caught:
        read_mammogram(tmp_path / "a")
    assert "\n" not in str(caught.value)


def test_dicom_is_told_before_its_preamble(tmp_path: Path) -> None:
    """A preamble may make a DICOM file a TIFF file, too."""
    for preamble in (b"II*\0", b"MM\0*", b"\xff\xd8\xff", b"GIF8"):
        (tmp_path / "a").write_bytes(preamble.ljust(128, b"\0") + b"DICM" + bytes(30))
        with pytest.raises(DataError, match="is not an image; supported"):
            read_mammogram(tmp_path / "a")
