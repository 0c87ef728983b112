"""Files of every format, made from one array, and files that must be refused with one sentence."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import gdcm
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, uid
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_windowing

from mammo.data.images.dicom import HeaderFacts, read_facts, read_mammogram, read_stored
from mammo.errors import DataError

RNG = np.random.default_rng(0)
WIDE = RNG.integers(0, 1 << 16, (96, 64), dtype=np.uint16)
NARROW = RNG.integers(0, 1 << 8, (96, 64), dtype=np.uint8)


def dataset(pixels: NDArray[Any], *, bits: int | None = None, **elements: Any) -> Dataset:
    """A minimal mammogram, explicit little endian."""
    header = Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    header.SOPClassUID = uid.DigitalMammographyXRayImageStorageForPresentation
    header.SOPInstanceUID = "1.2.3"
    header.set_pixel_data(pixels, "MONOCHROME2", bits or 8 * pixels.itemsize, generate_instance_uid=False)
    for keyword, value in elements.items():
        setattr(header, keyword, value)
    return header


def save(header: Dataset, path: Path) -> Path:
    header.save_as(path, enforce_file_format=True)
    return path


def lossless_jpeg(header: Dataset, path: Path) -> Path:
    reader = gdcm.ImageReader()
    reader.SetFileName(str(save(header, path)))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    fragment = change.GetOutput().GetDataElement().GetSequenceOfFragments().GetFragment(0)
    encoded = fragment.GetByteValue().GetBuffer().encode("utf-8", "surrogateescape")
    header.PixelData = encapsulate([encoded])
    header["PixelData"].is_undefined_length = True
    header.file_meta.TransferSyntaxUID = uid.JPEGLosslessSV1
    return save(header, path)


def big_endian(header: Dataset, path: Path) -> Path:
    header.PixelData = header.pixel_array.astype(">u2").tobytes()
    header.file_meta.TransferSyntaxUID = uid.ExplicitVRBigEndian
    header.save_as(path, implicit_vr=False, little_endian=False, enforce_file_format=True)
    return path


def without_meta(header: Dataset, path: Path) -> Path:
    del header.file_meta
    header.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=False)
    return path


def in_syntax(syntax: uid.UID) -> Callable[[Dataset, Path], Path]:
    def write(header: Dataset, path: Path) -> Path:
        if syntax.is_compressed and syntax != uid.DeflatedExplicitVRLittleEndian:
            header.compress(syntax, generate_instance_uid=False)
        header.file_meta.TransferSyntaxUID = syntax
        return save(header, path)

    return write


LOSSLESS = {
    "explicit": save,
    "implicit": in_syntax(uid.ImplicitVRLittleEndian),
    "deflated": in_syntax(uid.DeflatedExplicitVRLittleEndian),
    "rle": in_syntax(uid.RLELossless),
    "jpeg_ls": in_syntax(uid.JPEGLSLossless),
    "jpeg_2000": in_syntax(uid.JPEG2000Lossless),
    "jpeg_lossless": lossless_jpeg,
    "big_endian": big_endian,
    "without_meta": without_meta,
}


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("bits", [16, 12])
def test_lossless_syntaxes_give_the_stored_values(tmp_path: Path, syntax: str, bits: int) -> None:
    stored = WIDE >> (16 - bits)
    path = LOSSLESS[syntax](dataset(stored, bits=bits), tmp_path / "a.dcm")
    pixels = read_mammogram(path).pixels
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, np.rint(stored / (2**bits - 1) * 65535))


@pytest.mark.parametrize("syntax", ["rle", "jpeg_ls", "jpeg_2000", "jpeg_lossless"])
@pytest.mark.parametrize("bits", [16, 12])
def test_decoders_agree_with_pydicom_s(tmp_path: Path, syntax: str, bits: int) -> None:
    """Unsigned and signed pixels are those of pydicom, which uses gdcm, OpenJPEG, CharLS or itself."""
    for stored in (WIDE >> (16 - bits), (WIDE.astype(np.int32) - 32768 >> (16 - bits)).astype(np.int16)):
        path = LOSSLESS[syntax](dataset(stored, bits=bits), tmp_path / "a.dcm")
        np.testing.assert_array_equal(read_stored(path), pydicom.dcmread(path).pixel_array)
        np.testing.assert_array_equal(read_stored(path), stored)


def test_lossy_jpeg_comes_close(tmp_path: Path) -> None:
    smooth = cv2.GaussianBlur(NARROW, (0, 0), 6)
    header = dataset(smooth)
    header.PixelData = encapsulate([cv2.imencode(".jpg", smooth)[1].tobytes()])
    header.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    header["PixelData"].is_undefined_length = True
    pixels = read_mammogram(save(header, tmp_path / "a.dcm")).pixels
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - smooth).max() <= 4


TWELVE = WIDE >> 4


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_values_of_twelve_of_sixteen_bits(tmp_path: Path, signed: bool, compressed: bool) -> None:
    """In the lower or upper bits of a word, and below an overlay or constant bits."""
    values = TWELVE.astype(np.int32) - 2048 * signed
    for words, elements in (
        (values & 0xFFFF, {}),
        (values & 0xFFF | 0xF000, {}),
        ((values << 4) & 0xFFFF, {"HighBit": 15}),
        (values & 0xFFFF, {"HighBit": 15}),  # the header is wrong
        (values & 0xFFF | (WIDE & 1) << 12, {"overlay": 12}),
    ):
        header = dataset(words.astype(np.uint16).view(np.int16 if signed else np.uint16))
        header.BitsStored, header.HighBit = 12, elements.get("HighBit", 11)
        if "overlay" in elements:
            header.add_new((0x6000, 0x0102), "US", elements["overlay"])
        if compressed:
            header.compress(uid.RLELossless, generate_instance_uid=False)
        np.testing.assert_array_equal(read_stored(save(header, tmp_path / "a.dcm")), values)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_padding_of_more_bits_than_the_header_says(tmp_path: Path, signed: bool, compressed: bool) -> None:
    padding = -20000 if signed else 65535
    values = np.where(WIDE % 2 == 0, TWELVE.astype(np.int32) % 2048, padding)
    header = dataset(values.astype(np.int16 if signed else np.uint16))
    header.BitsStored, header.HighBit = 12, 11
    header.add_new("PixelPaddingValue", "SS" if signed else "US", padding)
    if compressed:
        header.compress(uid.RLELossless, generate_instance_uid=False)
    shown = read_mammogram(save(header, tmp_path / "a.dcm")).pixels
    background = WIDE % 2 == 1
    assert not shown[background].any()
    np.testing.assert_array_equal(shown[~background], np.rint(values[~background] / 4095 * 65535))


@pytest.mark.parametrize("compressed", [False, True])
def test_values_of_more_bits_than_the_header_says_are_refused(tmp_path: Path, compressed: bool) -> None:
    header = dataset(WIDE)
    header.BitsStored, header.HighBit = 12, 11
    if compressed:
        header.compress(uid.RLELossless, generate_instance_uid=False)
    with pytest.raises(DataError, match="its values need more bits than the 12 of BitsStored; correct BitsS"):
        read_stored(save(header, tmp_path / "a.dcm"))


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    path = save(dataset(WIDE, PhotometricInterpretation="MONOCHROME1"), tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_mammogram(path).pixels, 65535 - WIDE)


def test_signed_pixels_start_at_black(tmp_path: Path) -> None:
    shifted = np.where(WIDE.min() == WIDE, 0, WIDE).astype(np.uint16)
    signed = (shifted.astype(np.int32) - 32768).astype(np.int16)
    np.testing.assert_array_equal(read_mammogram(save(dataset(signed), tmp_path / "a.dcm")).pixels, shifted)


def test_a_falling_rescale_inverts(tmp_path: Path) -> None:
    path = save(dataset(WIDE, RescaleSlope=-1, RescaleIntercept=65535), tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_mammogram(path).pixels, 65535 - WIDE)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
@pytest.mark.parametrize("signed", [False, True])
def test_the_first_window_is_applied(tmp_path: Path, function: str | None, signed: bool) -> None:
    stored = (WIDE >> 4).astype(np.int16) - 2048 if signed else WIDE >> 4
    lowest = -2048 if signed else 0
    header = dataset(stored, bits=12, WindowCenter=[2000 + lowest, 0], WindowWidth=[700, 10])
    if function:
        header.VOILUTFunction = function
    expected = (apply_windowing(stored, header) - lowest) / 4095 * 65535
    pixels = read_mammogram(save(header, tmp_path / "a.dcm")).pixels
    np.testing.assert_allclose(pixels, expected, atol=0.5001)
    assert pixels.min() < 700
    assert pixels.max() > 64800


def test_a_window_acts_on_rescaled_values(tmp_path: Path) -> None:
    elements = {"RescaleSlope": 2, "RescaleIntercept": 100, "WindowCenter": 1100, "WindowWidth": 1000}
    header = dataset(WIDE >> 4, bits=12, VOILUTFunction="LINEAR_EXACT", **elements)
    expected = np.clip(((WIDE >> 4) * 2.0 + 100 - 600) / 1000, 0, 1) * 65535
    np.testing.assert_allclose(read_mammogram(save(header, tmp_path / "a.dcm")).pixels, expected, atol=0.5001)


def test_a_voi_lut_goes_before_the_window(tmp_path: Path) -> None:
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 12]
    curve = np.sqrt(np.arange(4096) / 4095)
    item.add_new("LUTData", "OW", np.rint(curve * 4095).astype("<u2").tobytes())
    header = dataset(WIDE >> 4, bits=12, VOILUTSequence=[item], WindowCenter=1, WindowWidth=2)
    pixels = read_mammogram(save(header, tmp_path / "a.dcm")).pixels
    np.testing.assert_allclose(pixels / 65535, curve[WIDE >> 4], atol=1e-3)


@pytest.mark.parametrize("elements", [{"ViewPosition": "MLO"}, {"PatientOrientation": "MLO"}, {}])
def test_facts_of_the_header(tmp_path: Path, elements: dict[str, str]) -> None:
    code = Dataset()
    code.CodeValue = "R-10226"
    elements = elements or {"ViewCodeSequence": [code]}  # type: ignore[dict-item]
    header = dataset(WIDE, ImageLaterality="R", ImagerPixelSpacing=[0.07, 0.07], **elements)
    mammogram = read_mammogram(save(header, tmp_path / "a.dcm"))
    assert (mammogram.laterality, mammogram.view, mammogram.pixel_spacing_mm) == ("RIGHT", "MLO", 0.07)


@pytest.mark.parametrize(
    ("elements", "view"),
    [
        ({"ViewPosition": "XCCL"}, "XCCL"),
        ({"ViewPosition": "AT"}, "AT"),
        ({"ViewCodeSequence": "399260004"}, "ML"),
        ({"ViewCodeSequence": "R-1024B"}, "XCCM"),
        ({"ViewCodeSequence": "G-8310"}, None),  # a specimen
        ({"PatientOrientation": "RL"}, None),  # a direction, not the view "rolled lateral"
    ],
)
def test_other_views_of_the_header(tmp_path: Path, elements: dict[str, str], view: str | None) -> None:
    if "ViewCodeSequence" in elements:
        code = Dataset()
        code.CodeValue = elements["ViewCodeSequence"]
        elements = {"ViewCodeSequence": [code]}  # type: ignore[dict-item]
    assert read_mammogram(save(dataset(WIDE, **elements), tmp_path / "a.dcm")).view == view


def test_facts_are_read_without_pixels(tmp_path: Path) -> None:
    known = {"PatientID": "p", "StudyInstanceUID": "1.2", "SeriesDescription": "cropped images"}
    file = save(dataset(WIDE, ImageLaterality="R", ViewPosition="MLO", **known), tmp_path / "a.dcm")
    file.write_bytes(file.read_bytes()[:-100])  # pixels cut short
    assert read_facts(file) == HeaderFacts("RIGHT", "MLO", "p", "1.2", "cropped images")
    assert read_facts(save(dataset(WIDE), tmp_path / "b.dcm")).laterality is None
    assert read_facts(picture(tmp_path / "c.png", WIDE)) == HeaderFacts()
    for content, sentence in ((b"", "the file is empty"), (b"text" * 99, "is not an image")):
        with pytest.raises(DataError, match=sentence):
            read_facts(raw(tmp_path / "d.dcm", content))


def test_a_bare_header_says_nothing(tmp_path: Path) -> None:
    mammogram = read_mammogram(save(dataset(WIDE, Laterality="B", ViewPosition="AP"), tmp_path / "a.dcm"))
    assert (mammogram.laterality, mammogram.view, mammogram.pixel_spacing_mm) == (None, None, None)


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("a.png", WIDE),
        ("b.png", NARROW),
        ("a.tif", WIDE),
        ("b.tiff", NARROW),
        ("a.pgm", WIDE),
        ("b.pgm", NARROW),
    ],
)
def test_pictures_keep_their_values(tmp_path: Path, name: str, pixels: NDArray[Any]) -> None:
    cv2.imwrite(str(tmp_path / name), pixels)
    read = read_mammogram(tmp_path / name).pixels
    assert read.dtype == pixels.dtype
    np.testing.assert_array_equal(read, pixels)


def test_grey_written_as_colour_is_grey(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), cv2.cvtColor(NARROW, cv2.COLOR_GRAY2BGR))
    np.testing.assert_array_equal(read_mammogram(tmp_path / "a.png").pixels, NARROW)


def test_jpeg_is_told_by_content_not_name(tmp_path: Path) -> None:
    smooth = cv2.GaussianBlur(NARROW, (0, 0), 6)
    path = tmp_path / "a.dcm"
    path.write_bytes(cv2.imencode(".jpg", smooth)[1].tobytes())
    assert np.abs(read_mammogram(path).pixels.astype(int) - smooth).max() <= 4


def cut(path: Path, share: float = 0.6) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def picture(path: Path, pixels: NDArray[Any]) -> Path:
    cv2.imwrite(str(path), pixels)
    return path


def raw(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def changed(path: Path, **elements: Any) -> Path:
    return save(dataset(WIDE, **elements), path)


def no_pixels(path: Path) -> Path:
    header = dataset(WIDE)
    del header.PixelData
    return save(header, path)


def foreign_syntax(path: Path, syntax: str) -> Path:
    header = dataset(WIDE)
    header.PixelData = encapsulate([b"\x00\x01" * 100])
    header.file_meta.TransferSyntaxUID = uid.UID(syntax)
    header["PixelData"].is_undefined_length = True
    return save(header, path)


COLOUR = np.dstack([NARROW, NARROW[::-1], NARROW])
BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "not there": (lambda p: p, "cannot be opened"),
    "a folder": (lambda p: p.mkdir() or p, "cannot be opened"),  # type: ignore[func-returns-value]
    "empty": (lambda p: raw(p, b""), "empty"),
    "text": (lambda p: raw(p, b"patient_id,label\n" * 100), "not an image"),
    "random": (lambda p: raw(p, np.random.default_rng(1).bytes(5000)), "not an image"),
    "three bytes": (lambda p: raw(p, b"abc"), "not an image"),
    "no pixel data": (no_pixels, "no pixel data"),
    "report": (lambda p: save_report(p), "without an image"),
    "three channels": (lambda p: save(colour(), p), "3 channels"),
    "palette": (lambda p: changed(p, PhotometricInterpretation="PALETTE COLOR"), "PALETTE COLOR"),
    "frames": (lambda p: changed(p, NumberOfFrames=2, Rows=48), "2 frames"),
    "no rows": (lambda p: changed(p, Rows=0), "0 x 64"),
    "32 bits": (lambda p: changed(p, BitsAllocated=32, BitsStored=32), "32 bits"),
    "unknown syntax": (lambda p: foreign_syntax(p, "1.2.840.10008.1.2.4.100"), "MPEG2"),
    "damaged JPEG 2000": (lambda p: foreign_syntax(p, uid.JPEG2000), "damaged"),
    "damaged RLE": (lambda p: foreign_syntax(p, uid.RLELossless), "damaged"),
    "black": (lambda p: save(dataset(WIDE * 0), p), "every pixel has the value 0"),
    "black png": (lambda p: picture(p.with_suffix(".png"), WIDE * 0), "every pixel has the value 0"),
    "colour png": (lambda p: picture(p.with_suffix(".png"), COLOUR), "colour"),
    "float tiff": (lambda p: picture(p.with_suffix(".tif"), WIDE.astype(np.float32)), "float32"),
}


def colour() -> Dataset:
    header = dataset(NARROW)
    header.set_pixel_data(COLOUR, "RGB", 8)
    return header


def save_report(path: Path) -> Path:
    header = dataset(WIDE)
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(header, keyword)
    return save(header, path)


@pytest.mark.parametrize("case", BAD)
def test_refused_in_one_sentence(tmp_path: Path, case: str) -> None:
    make, reason = BAD[case]
    path = make(tmp_path / "a.dcm")
    with pytest.raises(DataError, match=reason) as caught:
        read_mammogram(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_decoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pydicom.pixels.decoders import HTJ2KLosslessDecoder

    path = foreign_syntax(tmp_path / "a.dcm", uid.HTJ2KLossless)
    with monkeypatch.context() as patch:
        patch.setattr(HTJ2KLosslessDecoder, "_available", {})
        with pytest.raises(DataError, match=r"JPEG 2000.*no decoder is installed"):
            read_mammogram(path)


@pytest.mark.parametrize(("syntax", "share"), itertools.product(LOSSLESS, [0.05, 0.5, 0.98]))
def test_truncated_dicom_is_refused(tmp_path: Path, syntax: str, share: float) -> None:
    path = cut(LOSSLESS[syntax](dataset(WIDE), tmp_path / "a.dcm"), share)
    with pytest.raises(DataError) as caught:
        read_mammogram(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("suffix", "share"), itertools.product([".png", ".tif", ".jpg", ".pgm"], [0.3, 0.98])
)
def test_truncated_picture_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = cut(picture(tmp_path / f"a{suffix}", NARROW), share)
    with pytest.raises(DataError, match="cut short"):
        read_mammogram(path)


def test_real_files_come_out_unchanged(real_dicoms: Path) -> None:
    paths = sorted(real_dicoms.rglob("*.dcm"))
    assert len(paths) == 8
    views = set()
    for path in paths[:2] + paths[-1:]:
        mammogram = read_mammogram(path)
        header = pydicom.dcmread(path)
        np.testing.assert_array_equal(mammogram.pixels, header.pixel_array)
        assert header.PatientID.endswith(f"_{mammogram.laterality}_{mammogram.view}")
        views.add(mammogram.view)
    assert views == {"CC", "MLO"}
