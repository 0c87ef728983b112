"""Laterality and view from tags, and from free text where the tags are empty."""

import pytest
from pydicom import Dataset

from mammo.data.images.header_places import Place, place_of, read_text


@pytest.mark.parametrize(
    ("text", "laterality", "view"),
    [
        ("R MLO", "RIGHT", "MLO"),
        ("LCC", "LEFT", "CC"),
        ("Mammo CC LT", "LEFT", "CC"),
        ("rt_xccl", "RIGHT", "XCCL"),
        ("Left Breast, ML", "LEFT", "ML"),
        ("R-CC RAW", "RIGHT", "CC"),
        ("RIGHT", "RIGHT", None),
        ("R", None, None),  # a letter alone may mean anything
        ("CC", None, "CC"),
        ("MLO L+R", None, "MLO"),
        ("CC and MLO left", "LEFT", None),
        ("LEFT RCC", None, "CC"),
        ("100 ml contrast R CC", "RIGHT", "CC"),
        ("L2 spine", None, None),
        ("Left medio-lateral oblique", "LEFT", "MLO"),
        ("CRANIOCAUDAL R", "RIGHT", "CC"),
        ("R exaggerated cranio-caudal laterally", "RIGHT", "XCCL"),
        ("LCC implant displaced", "LEFT", "CC"),
        ("ACC LLC", None, None),
        ("full mammogram images", None, None),
        ("", None, None),
    ],
)
def test_text(text: str, laterality: str | None, view: str | None) -> None:
    assert read_text(text) == Place(laterality, view)


def place(**elements: object) -> Place:
    header = Dataset()
    for keyword, value in elements.items():
        setattr(header, keyword, value)
    return place_of(header)


def test_text_fills_empty_tags_only() -> None:
    assert place(SeriesDescription="R MLO") == Place("RIGHT", "MLO", True, True)
    assert place(SeriesDescription="Screening", ProtocolName="LCC") == Place("LEFT", "CC", True, True)
    assert place(AcquisitionDeviceProcessingDescription="R CC") == Place("RIGHT", "CC", True, True)
    assert place(StudyDescription="R CC") == Place(None, None)
    tagged = {"ImageLaterality": "L", "ViewPosition": "CC"}
    assert place(**tagged, SeriesDescription="R MLO") == Place("LEFT", "CC")
    assert place(ImageLaterality="L", SeriesDescription="R MLO") == Place("LEFT", "MLO", False, True)
    assert place(ImageLaterality="", ViewPosition="CC", ProtocolName="R MLO") == Place(
        "RIGHT", "CC", True, False
    )


def test_a_tag_of_another_meaning_is_not_overridden() -> None:
    assert place(ImageLaterality="B", ViewPosition="AP", SeriesDescription="R MLO") == Place(None, None)
    code = Dataset()
    code.CodeValue = "G-8310"  # a specimen
    assert place(ViewCodeSequence=[code], SeriesDescription="R MLO") == Place("RIGHT", None, True, False)
