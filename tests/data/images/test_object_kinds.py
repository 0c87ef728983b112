"""DICOM objects that are no views of a breast are known by their header."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from helpers.pacs import code, dicom_object, mammogram, others, save
from pydicom import Dataset
from pydicom.fileset import FileSet

from mammo.data.images.dicom import read_facts
from mammo.data.images.header_places import Place, place_of
from mammo.data.images.object_kinds import other_object

SMALL = np.arange(12, dtype=np.uint16).reshape(3, 4)
FILM = {"Laterality": "L", "PatientOrientation": "CC"}  # as in CBIS-DDSM


def kind_of(header: Dataset) -> str | None:
    found = other_object(header, place_of(header))
    return None if found is None else found.kind


@pytest.mark.parametrize("kind", others())
def test_each_kind_is_known_and_says_why(kind: str, tmp_path: Path) -> None:
    file = save(others()[kind], tmp_path / "x")
    found = read_facts(file).other
    assert found is not None
    assert found.kind == kind.partition(".")[0]
    assert len(found.reason) > 15


@pytest.mark.parametrize(
    ("elements", "kind"),
    [
        (FILM, None),
        (FILM | {"Modality": "OT"}, "secondary_capture"),
        ({"Laterality": "L"}, "secondary_capture"),
        (FILM | {"SourceImageSequence": [Dataset()]}, "secondary_capture"),
        (FILM | {"SamplesPerPixel": 3}, "secondary_capture"),
    ],
)
def test_a_scanned_film_is_a_secondary_capture_that_names_side_and_view(
    elements: dict[str, Any], kind: str | None
) -> None:
    assert kind_of(dicom_object("capture", number=1, pixels=SMALL, **elements)) == kind


def test_the_name_of_a_file_says_side_and_view_too() -> None:
    header = dicom_object("capture", number=1, pixels=SMALL)
    assert other_object(header, Place("LEFT", "MLO")) is None


def test_the_dicomdir_of_a_medium_is_known(tmp_path: Path) -> None:
    medium = FileSet()
    medium.add(mammogram("LEFT", "CC", number=1, SeriesNumber=1))
    medium.write(tmp_path / "medium")
    found = read_facts(tmp_path / "medium" / "DICOMDIR").other
    assert found is not None
    assert found.kind == "dicomdir"
    others = [file for file in (tmp_path / "medium").rglob("*") if file.is_file() and file.name != "DICOMDIR"]
    assert [read_facts(file).other for file in others] == [None]


def test_real_films_are_mammograms(real_dicoms: Path) -> None:
    files = sorted(real_dicoms.rglob("*.dcm"))
    assert len(files) == 8
    assert {read_facts(file).other for file in files} == {None}


@pytest.mark.parametrize(
    ("elements", "kind"),
    [
        ({}, None),
        ({"Modality": None}, None),
        ({"Modality": "CR"}, None),
        ({"Modality": "CR", "ViewPosition": None, "PatientOrientation": None}, "other_modality"),
        ({"Modality": "MR"}, "other_modality"),
        ({"EstimatedRadiographicMagnificationFactor": "1.07"}, None),
        ({"EstimatedRadiographicMagnificationFactor": "x"}, None),
        ({"PaddleDescription": "10CM SPOT"}, "spot"),
        ({"SeriesDescription": "L CC MAG"}, "spot"),
        ({"SeriesDescription": "L CC IMAGE"}, None),
        ({"ViewCodeSequence": [code("399162004", "cranio-caudal")]}, None),
        ({"ImageType": ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "GENERATED_2D"]}, "synthetic"),
        ({"ImageType": ["DERIVED", "PRIMARY"]}, None),
        ({"PresentationIntentType": "FOR PROCESSING"}, "for_processing"),
        ({"SOPClassUID": pydicom.uid.CTImageStorage}, "tomosynthesis"),
        ({"NumberOfFrames": 1}, None),
        ({"NumberOfFrames": 12}, "tomosynthesis"),
    ],
)
def test_what_makes_a_mammogram(elements: dict[str, Any], kind: str | None) -> None:
    header = mammogram("LEFT", "CC", number=1)
    for keyword, value in elements.items():
        if value is None:
            delattr(header, keyword)
        elif value == "x":
            header[keyword] = pydicom.DataElement(keyword, "LO", value)
        else:
            setattr(header, keyword, value)
    assert kind_of(header) == kind


def test_a_reason_does_not_repeat_free_text() -> None:
    header = mammogram("LEFT", "CC", number=1, SeriesDescription="Muster Anna SPOT")
    found = other_object(header, place_of(header))
    assert found is not None
    assert "Muster" not in found.reason.title()
