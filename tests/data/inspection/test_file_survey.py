"""The survey of image files: properties of headers, depths, warnings, and the contact sheet."""

import base64
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.dicom_headers import header_of
from helpers.pages import Browser
from numpy.typing import NDArray

from mammo.data.images.display import Display
from mammo.data.inspection.contact_sheet import chosen_files, write_sheet
from mammo.data.inspection.file_survey import FileFacts, survey
from mammo.data.inspection.survey_findings import count_properties, ranges_of, warnings_of
from mammo.data.store.store_building import Settings
from mammo.errors import DataError


def breast(highest: int) -> NDArray[np.uint16]:
    y, x = np.mgrid[:160, :120]
    inside = ((y - 80) / 65) ** 2 + (x / 85) ** 2 < 1
    return np.rint(np.where(inside, 1 - 0.004 * x, 0.02) * highest).astype(np.uint16)


def save(path: Path, pixels: NDArray[Any], *, bits: int = 12, **elements: Any) -> Path:
    header = header_of(pixels, bits=bits, **elements)
    header.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of each kind of trouble, and good ones."""
    place = tmp_path_factory.mktemp("files")
    for number in range(20):
        cv2.imwrite(str(place / f"bright{number:02d}.png"), breast(60000))
        cv2.imwrite(str(place / f"dark{number:02d}.png"), breast(4000))
    good, told = breast(4000), {"Manufacturer": "GE", "ImageLaterality": "L", "ViewPosition": "CC"}
    presented = {"PresentationIntentType": "FOR PRESENTATION", "BreastImplantPresent": "YES"}
    save(place / "good.dcm", good, **told, **presented, WindowCenter=[2000, 9], WindowWidth=[4000, 9])
    save(place / "padded.dcm", good, **told, PixelPaddingValue=0, PixelPaddingRangeLimit=3)
    save(place / "text.dcm", good, Manufacturer="HOLOGIC", SeriesDescription="R MLO")
    save(place / "wrong.dcm", 4095 - good, Manufacturer="HOLOGIC")
    save(place / "width.dcm", good, WindowCenter=10, WindowWidth=0)
    save(place / "raw.dcm", good, PresentationIntentType="FOR PROCESSING")
    (place / "notes.txt").write_text("no image")
    return place


@pytest.fixture(scope="module")
def files(folder: Path) -> list[FileFacts]:
    return survey(sorted(folder.iterdir()), display=Display(), pixels=True, workers=0)


def test_properties_are_counted(files: list[FileFacts]) -> None:
    counts = count_properties(files)
    assert counts["format"] == {"PNG": 40, "DICOM": 6}
    assert counts["photometric interpretation"] == {"MONOCHROME2": 6}
    assert counts["presentation intent"] == {"none": 4, "FOR PRESENTATION": 1, "FOR PROCESSING": 1}
    assert counts["pixel padding"] == {"none": 5, "range": 1}
    assert counts["windows"] == {"none": 4, "2 windows": 1, "1 window": 1}
    assert counts["bits"] == {"16": 40, "12 of 16": 6}
    assert counts["transfer syntax"] == {"Explicit VR Little Endian": 6}
    assert counts["implant"] == {"none": 5, "YES": 1}
    assert counts["laterality"] == {"none": 3, "LEFT": 2, "RIGHT (from free text)": 1}
    assert counts["view"] == {"none": 3, "CC": 2, "MLO (from free text)": 1}
    assert counts["manufacturer"] == {"GE": 2, "HOLOGIC": 2, "none": 2}
    assert counts["bits that the values need"] == {"12": 24, "16": 20}


def test_ranges_are_those_of_a_store(files: list[FileFacts]) -> None:
    assert ranges_of(files) == {
        "DICOM, 12 bits": (0, 4095),
        "DICOM, 12 bits, GE": (0, 4095),
        "DICOM, 12 bits, HOLOGIC": (0, 4095),
        "DICOM, 12 bits, raw": None,
        "PNG, 16 bits": (0, 65535),
    }


def test_warnings(files: list[FileFacts], folder: Path) -> None:
    labels = {file.path: "MALIGNANT" if file.path.name.startswith("dark") else "BENIGN" for file in files}
    found = warnings_of(files, labels)
    assert len(found) == 6
    assert f"background is brighter than the breast in 1 file {folder / 'wrong.dcm'};" in found[0]
    assert {sentence.partition(": ")[0] for sentence in found[1:3]} == {"not usable"}
    assert any(f"1 file {folder / 'raw.dcm'}; it is a raw image" in sentence for sentence in found)
    assert any(f"1 file {folder / 'notes.txt'}; it is not an image" in sentence for sentence in found)
    assert (
        f"of 40 files of the kind 'PNG, 16 bits', 20 files, the first is {folder / 'dark00.png'} need only "
        "12 bits, and others 16, so that they are up to 16 times darker" in found[3]
    )
    assert "label go together" in found[4]
    assert "'PNG, 16 bits, values of 12 bits': 0 BENIGN, 20 MALIGNANT" in found[4]
    assert found[5] == f"1 file {folder / 'width.dcm'}: its window has the width 0"
    mixed = {file.path: ("A", "B")[number % 2] for number, file in enumerate(files)}
    assert not any("label go together" in sentence for sentence in warnings_of(files, mixed))


def test_a_reason_that_names_its_subject() -> None:
    files = [
        FileFacts(Path("a.dcm"), error="its header is damaged"),
        FileFacts(Path("b"), error="has no pixels"),
    ]
    assert warnings_of(files) == [
        "not usable: 1 file a.dcm; its header is damaged",
        "not usable: 1 file b; it has no pixels",
    ]


def test_headers_alone(folder: Path) -> None:
    found = survey(sorted(folder.iterdir()), display=Display(), pixels=False, workers=0)
    assert count_properties(found)["format"] == {"PNG": 40, "DICOM": 6}
    assert all(file.used is None and not file.bright_background for file in found)


def test_the_sheet_shows_each_kind_and_what_is_suspicious(
    files: list[FileFacts], folder: Path, tmp_path: Path, browser: Browser
) -> None:
    chosen = chosen_files(files)
    assert len(chosen) == 16
    assert chosen[0].path.name == "wrong.dcm"
    shown = {file.kind for file in chosen}
    assert shown == {file.kind for file in files if file.error is None}
    settings = Settings(80, 60, "breast", "keep", "uint16", False, Display(kinds=ranges_of(files)))
    labels = {folder / "good.dcm": "<BENIGN>"}
    write_sheet(tmp_path / "a.html", files, settings=settings, warnings=["<look>"], labels=labels)
    page = (tmp_path / "a.html").read_text()
    assert page.count('class="suspicious"') == 1
    assert "&lt;look&gt;" in page
    assert "DICOM, 12 bits, GE, LEFT, CC, &lt;BENIGN&gt;" in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert f"The files are in <code>{folder}</code>." in page
    assert "<figcaption>wrong.dcm<br>" in page
    pictures = re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    assert len(pictures) == 16
    first = cv2.imdecode(np.frombuffer(base64.b64decode(pictures[0]), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert first.shape == (80, 60)
    for width in (390, 1280):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.ask("Emulation.setDeviceMetricsOverride", **size)
        browser.open(tmp_path / "a.html")
        assert browser.run("document.documentElement.scrollWidth") <= width
    browser.ask("Emulation.clearDeviceMetricsOverride")
    with pytest.raises(DataError, match=r"sheet=.*cannot be written"):
        write_sheet(tmp_path / "no" / "a.html", files, settings=settings, warnings=[], labels={})
