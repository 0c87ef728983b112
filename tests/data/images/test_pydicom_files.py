"""Every test file that pydicom ships: read as pydicom reads it, or refused for a true reason."""

import warnings
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pydicom
import pydicom.data
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from mammo.data.images.dicom import read_mammogram, read_stored
from mammo.errors import DataError

ROOT = Path(pydicom.data.__file__).parent / "test_files"
FILES = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file())
# of those beside the folder of a DICOMDIR, whose images are all read
READ = {
    *("693_J2KI.dcm", "CT_small.dcm", "J2K_pixelrep_mismatch.dcm", "JPEG-lossy.dcm", "JPEG2000.dcm"),
    *("JPEGLSNearLossless_08.dcm", "JPEGLSNearLossless_16.dcm", "JPGExtended.dcm", "MR_small.dcm"),
    *("MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_expb.dcm", "MR_small_implicit.dcm"),
    *("MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_padded.dcm"),
    *("examples_overlay.dcm", "image_dfl.dcm", "liver_1frame.dcm", "liver_expb_1frame.dcm"),
}
# 12 bits, which the decoders that pydicom takes cannot read
EXTENDED = ("JPEG-lossy.dcm", "JPGExtended.dcm")


def reference(path: Path, header: Dataset) -> NDArray[Any]:
    if path.name not in EXTENDED:
        return header.pixel_array
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    content = reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape")
    return np.frombuffer(content, np.uint16).reshape(header.Rows, header.Columns)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_as_pydicom_reads_it_or_refused_for_a_true_reason(name: str) -> None:
    path = ROOT / name
    header = pydicom.dcmread(path, force=True) if path.suffix in ("", ".dcm") else None
    in_dicomdir = header is not None and name.startswith("dicomdirtests") and "PixelData" in header
    if name in READ or in_dicomdir:
        assert header is not None
        compare(path, header)
        return
    with pytest.raises(DataError, match=true_reason(path, header)):
        read_mammogram(path)


def compare(path: Path, header: Dataset) -> None:
    stored = reference(path, header)
    np.testing.assert_array_equal(read_stored(path), stored)
    mammogram = read_mammogram(path)
    modality = np.asarray(apply_modality_lut(stored, header), np.float64)
    # pydicom applies a window outside of all values, too
    rendered = modality if mammogram.notes else np.asarray(apply_voi_lut(modality, header), np.float64)
    valid = np.ones(stored.shape, bool)
    if "PixelPaddingValue" in header:
        valid = stored != header.PixelPaddingValue
    assert (mammogram.pixels[~valid] == 0).all()
    # the same but for black and white
    slope, offset = np.polyfit(rendered[valid], mammogram.pixels[valid], 1)
    assert (slope > 0) == (header.PhotometricInterpretation == "MONOCHROME2")
    np.testing.assert_allclose(rendered[valid] * slope + offset, mammogram.pixels[valid], atol=2)


def true_reason(path: Path, header: Dataset | None) -> str:
    """Part of the message that must be given."""
    if path.suffix == ".gz":
        return "has the format gzip"
    if header is None or not ("SOPClassUID" in header or "TransferSyntaxUID" in header.file_meta):
        return "is not an image|has no pixels, its size is 0 x 0"
    if path.name == "badVR.dcm":
        return "its header is damaged"
    if header.get("SamplesPerPixel", 1) == 3:
        return "has 3 channels"
    if header.get("PhotometricInterpretation") == "PALETTE COLOR":
        return "PALETTE COLOR"
    if "PixelData" not in header:
        return "is a DICOM file without an image"
    if "Rows" not in header:
        return "has no pixels, its size is 0 x 0"
    if int(header.get("NumberOfFrames") or 1) > 1:
        return f"holds {header.NumberOfFrames} frames"
    if header.BitsAllocated == 32:
        return "stores 32 bits per pixel"
    with pytest.raises((ValueError, RuntimeError)):
        _ = header.pixel_array
    return "cannot be decoded"


@pytest.mark.parametrize("padding", [b"", b"\0", b"\xff", b"\x20", b"\0\0\0", b"\xff\0"])
@pytest.mark.parametrize("name", EXTENDED)
def test_padding_behind_a_jpeg_frame(tmp_path: Path, name: str, padding: bytes) -> None:
    header = pydicom.dcmread(ROOT / name)
    frame = next(generate_frames(header.PixelData, number_of_frames=1)).rstrip(b"\xff")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header.PixelData = encapsulate([frame + padding])
        header.save_as(tmp_path / "a.dcm")
        np.testing.assert_array_equal(read_stored(tmp_path / "a.dcm"), read_stored(ROOT / name))
        header.PixelData = encapsulate([frame[: len(frame) // 2] + padding])
        header.save_as(tmp_path / "a.dcm")
    with pytest.raises(DataError, match="cut short"):
        read_stored(tmp_path / "a.dcm")


@pytest.mark.parametrize("signed", [False, True])
def test_the_header_says_whether_a_jpeg_2000_image_is_signed(tmp_path: Path, signed: bool) -> None:
    """As pydicom does: the codestream gives the number of bits, the header how to take them."""
    import imagecodecs

    header = pydicom.dcmread(ROOT / "MR_small_jp2klossless.dcm")
    values = np.random.default_rng(0).integers(-4096, 4096, (64, 64)).astype(np.int16)
    sent = values if not signed else (values & 0x1FFF).astype(np.uint16)
    header.PixelData = encapsulate(
        [imagecodecs.jpeg2k_encode(sent, level=0, codecformat="j2k", bitspersample=13)]
    )
    header.PixelRepresentation = int(signed)
    header.BitsStored, header.HighBit = 13, 12
    header.save_as(tmp_path / "a.dcm")
    expected = values if signed else (values & 0x1FFF).astype(np.uint16)
    np.testing.assert_array_equal(read_stored(tmp_path / "a.dcm"), expected)
    np.testing.assert_array_equal(pydicom.dcmread(tmp_path / "a.dcm").pixel_array, expected)
