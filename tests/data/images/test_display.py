"""Grey values where several readings are possible: padding, windows, white point, raw images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.dicom_headers import header_of
from numpy.typing import NDArray
from pydicom import Dataset, uid

from mammo.data.images.dicom import read_mammogram
from mammo.data.images.display import Display, range_of
from mammo.errors import DataError

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)  # all values of 12 bits


def shown(folder: Path, header: Dataset, **choices: Any) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Grey values in 0..1 and notes."""
    header.save_as(folder / "a.dcm", enforce_file_format=True)
    mammogram = read_mammogram(folder / "a.dcm", Display(**choices))
    return mammogram.pixels / np.iinfo(mammogram.pixels.dtype).max, mammogram.notes


@pytest.mark.parametrize(
    ("choices", "white"),
    [
        ({}, 4095),
        ({"white": 5000}, 5000),
        ({"kinds": {"DICOM, 16 bits": (0, 16383)}}, 16383),
        ({"white": "file"}, 65535),
        ({"white": 40000}, 40000),
        ({"kinds": {"DICOM, 16 bits": (0, 65535)}}, 65535),
    ],
)
def test_the_white_point(tmp_path: Path, choices: dict[str, Any], white: int) -> None:
    grey, notes = shown(tmp_path, header_of(RAMP), **choices)
    np.testing.assert_allclose(grey, RAMP / white, atol=1e-5)
    dark = f"is dark, because its values need only 12 bits and white is {white}"
    assert notes == ((dark,) if white > 8 * 4095 else ())


def test_values_above_the_white_point_are_told(tmp_path: Path) -> None:
    grey, notes = shown(tmp_path, header_of(RAMP), kinds={"DICOM, 16 bits": (0, 1023)})
    np.testing.assert_allclose(grey, np.minimum(RAMP / 1023, 1), atol=1e-5)
    assert notes == ("has values outside black and white, 0 and 1023",)


def test_another_kind_of_file_is_told(tmp_path: Path) -> None:
    known = {"DICOM, 16 bits, HOLOGIC": (0, 65535), "PNG, 16 bits": None}
    grey, notes = shown(tmp_path, header_of(RAMP, Manufacturer="GE "), kinds=known)
    np.testing.assert_allclose(grey, RAMP / 4095, atol=1e-5)
    assert notes == (
        "is of a kind of file that is not among the training images (DICOM, 16 bits, GE)",
        "its white point is 4095, by its own values",
    )


def test_the_white_point_of_signed_values() -> None:
    full = (-32768, 32767)
    assert range_of((0, 3000), full) == (0, 4095)
    assert range_of((-1, 3000), full) == (-1, 4094)  # one pixel below 0 does not make the background grey
    assert range_of((-1000, 2900), full) == (-1000, 3095)
    assert range_of((-1, 32767), full) == (-1, 32767)
    assert range_of((-32768, 0), full) == full
    assert range_of((0, 32767), full) == (0, 32767)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("window", [{}, {"WindowCenter": 2048, "WindowWidth": 4096}])
@pytest.mark.parametrize(
    "padding",
    [
        {"PixelPaddingValue": 65535},
        {"PixelPaddingValue": 60000, "PixelPaddingRangeLimit": 65535},
        {"PixelPaddingValue": 65535, "PixelPaddingRangeLimit": 60000},
    ],
)
def test_padding_is_background_and_does_not_compress(
    tmp_path: Path, photometric: str, window: dict[str, int], padding: dict[str, int]
) -> None:
    stored = RAMP.copy()
    stored[:, :20] = 65535
    header = header_of(stored, PhotometricInterpretation=photometric, **window, **padding)
    grey, notes = shown(tmp_path, header)
    expected = RAMP / 4095
    expected = 1 - expected if photometric == "MONOCHROME1" else expected
    assert (grey[:, :20] == 0).all()
    np.testing.assert_allclose(grey[:, 20:], expected[:, 20:], atol=2e-3)
    assert notes == ()


@pytest.mark.parametrize(
    ("choices", "white"),
    [({}, -5 + 4095), ({"white": 5000}, 5000), ({"white": "file"}, 32767), ({"white": 40000}, 32767)],
)
def test_the_background_of_signed_values_is_black(
    tmp_path: Path, choices: dict[str, Any], white: int
) -> None:
    """Noise around 0 is darker than 1 % of the scale, and does not become grey."""
    stored = RAMP.astype(np.int16) % 3001 - 5
    grey, _ = shown(tmp_path, header_of(stored, PixelRepresentation=1), **choices)
    np.testing.assert_allclose(grey, (stored + 5) / (white + 5), atol=1e-5)


def test_padding_of_signed_values(tmp_path: Path) -> None:
    stored = RAMP.astype(np.int16)
    stored[:, :20] = -2000
    header = header_of(stored)
    header.add_new("PixelPaddingValue", "US", 65536 - 2000)  # as some writers do
    grey, _ = shown(tmp_path, header)
    assert (grey[:, :20] == 0).all()
    np.testing.assert_allclose(grey[:, 20:], RAMP[:, 20:] / 4095, atol=1e-5)


RAW = {
    "intent": {"PresentationIntentType": "FOR PROCESSING"},
    "class": {"SOPClassUID": uid.DigitalMammographyXRayImageStorageForProcessing},
}


@pytest.mark.parametrize("elements", RAW.values(), ids=RAW)
def test_raw_images_are_refused_or_converted(tmp_path: Path, elements: dict[str, str]) -> None:
    attenuation = np.linspace(0, 5, 4096).reshape(64, 64)
    exposure = np.rint(16383 * np.exp(-attenuation)).astype(np.uint16)
    header = header_of(exposure, bits=14, PhotometricInterpretation="MONOCHROME1", **elements)
    with pytest.raises(DataError, match=r"a\.dcm: is a raw image.*data\.for_processing=convert"):
        shown(tmp_path, header)
    grey, _ = shown(tmp_path, header, for_processing="convert")
    np.testing.assert_allclose(grey, attenuation / 5, atol=0.01)
    header.PixelIntensityRelationship, header.PixelIntensityRelationshipSign = "LOG", 1
    header.PixelData = np.rint(16383 * (1 - attenuation / 5)).astype(np.uint16).tobytes()
    np.testing.assert_allclose(
        shown(tmp_path, header, for_processing="convert")[0], attenuation / 5, atol=0.01
    )
    header.PixelIntensityRelationshipSign = -1
    inverse = 1 - attenuation / 5
    np.testing.assert_allclose(shown(tmp_path, header, for_processing="convert")[0], inverse, atol=0.01)


BAD_WINDOWS: dict[str, tuple[dict[str, Any], str]] = {
    "width 0": ({"WindowCenter": 10, "WindowWidth": 0}, "its window has the width 0"),
    "empty": ({"WindowCenter": None, "WindowWidth": None}, "its window is empty"),
    "half": ({"WindowCenter": 10}, "its window is empty"),
    "far away": ({"WindowCenter": 10**6, "WindowWidth": 2}, "its window contains none of its values"),
    "function": (
        {"WindowCenter": 10, "WindowWidth": 20, "VOILUTFunction": "CUBIC"},
        "its VOI LUT function CUBIC is not known",
    ),
}


@pytest.mark.parametrize("case", BAD_WINDOWS)
def test_an_unusable_window_leaves_the_range(tmp_path: Path, case: str) -> None:
    elements, note = BAD_WINDOWS[case]
    grey, notes = shown(tmp_path, header_of(RAMP, **elements))
    np.testing.assert_allclose(grey, RAMP / 4095, atol=1e-5)
    assert notes == (note,)


def lut(curve: NDArray[Any], explanation: str) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(curve), 0, 12]
    item.LUTExplanation = explanation
    item.add_new("LUTData", "OW", np.rint(curve * 4095).astype("<u2").tobytes())
    return item


def test_white_of_a_lut_is_that_of_its_entries(tmp_path: Path) -> None:
    """Entries of 12 bits in a LUT whose descriptor says 16 are not dark."""
    item = lut(np.linspace(0, 1, 4096), "")
    item.LUTDescriptor = [4096, 0, 16]
    grey, notes = shown(tmp_path, header_of(RAMP, bits=12, VOILUTSequence=[item]))
    np.testing.assert_allclose(grey, RAMP / 4095, atol=1e-5)
    assert notes == ()
    grey, _ = shown(tmp_path, header_of(RAMP // 8, bits=12, VOILUTSequence=[item]))
    np.testing.assert_allclose(grey, RAMP // 8 / 4095, atol=1e-5)  # a dark image remains dark


def test_a_lut_that_is_cut_short_leaves_the_window(tmp_path: Path) -> None:
    item = lut(np.ones(4096), "HARD")
    del item.LUTData
    header = header_of(RAMP, VOILUTSequence=[item], WindowCenter=1000, WindowWidth=1000)
    header.VOILUTFunction = "LINEAR_EXACT"
    grey, notes = shown(tmp_path, header)
    np.testing.assert_allclose(grey, np.clip((RAMP - 500.0) / 1000, 0, 1), atol=1e-4)
    assert notes == ("its VOI LUT cannot be applied",)


@pytest.mark.parametrize(
    ("name", "width", "notes"),
    [
        (None, 1000, ()),
        ("harder", 500, ()),
        ("softer", 1000, ("has no window data.window=softer; its first is used",)),
    ],
)
def test_a_window_by_its_explanation(
    tmp_path: Path, name: str | None, width: int, notes: tuple[str, ...]
) -> None:
    header = header_of(RAMP, WindowCenter=[500, 250], WindowWidth=[1000, 500], VOILUTFunction="LINEAR_EXACT")
    header.WindowCenterWidthExplanation = ["NORMAL", "HARDER "]
    grey, said = shown(tmp_path, header, window=name)
    np.testing.assert_allclose(grey, np.clip(RAMP / width, 0, 1), atol=1e-4)
    assert said == notes


def test_a_lut_by_its_explanation(tmp_path: Path) -> None:
    ramp = np.arange(4096) / 4095
    header = header_of(RAMP, bits=12, VOILUTSequence=[lut(ramp, "NORMAL"), lut(ramp**2, "SOFTER")])
    np.testing.assert_allclose(shown(tmp_path, header)[0], RAMP / 4095, atol=1e-3)
    np.testing.assert_allclose(shown(tmp_path, header, window="softer")[0], (RAMP / 4095) ** 2, atol=1e-3)


def test_a_usable_window_after_one_of_width_0(tmp_path: Path) -> None:
    header = header_of(RAMP, WindowCenter=[10, 2048], WindowWidth=[0, 4096])
    grey, notes = shown(tmp_path, header)
    np.testing.assert_allclose(grey, RAMP / 4095, atol=1e-3)
    assert notes == ("its window has the width 0",)
