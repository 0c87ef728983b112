"""Laterality and view of a DICOM image: from the tags for them, else from descriptions in free text."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mammo.data.catalog import VIEWS
from mammo.data.tables.vocabulary import VIEW_NAMES

if TYPE_CHECKING:
    from pydicom import Dataset

_SIDES = {"L": "LEFT", "R": "RIGHT"}
# ViewCodeSequence in SNOMED-RT and SNOMED CT (DICOM PS3.16, context group 4014).
_VIEW_CODES = {
    **{"R-10242": "CC", "399162004": "CC", "R-10226": "MLO", "399368009": "MLO"},
    **{"R-10224": "ML", "399260004": "ML", "R-10228": "LM", "399352003": "LM"},
    **{"R-10230": "LMO", "399099002": "LMO", "R-10244": "FB", "399196006": "FB"},
    **{"R-102D0": "SIO", "399188001": "SIO", "R-40AAA": "ISO", "441555000": "ISO"},
    **{"R-1024A": "XCCL", "399192008": "XCCL", "R-1024B": "XCCM", "399101009": "XCCM"},
    **{"Y-X1770": "XCCL", "Y-X1771": "XCCM"},  # deprecated codes
}
# Descriptions of one image or series; those of a whole study can name both breasts.
_TEXTS = (
    "SeriesDescription",
    "ProtocolName",
    "AcquisitionDeviceProcessingDescription",
    "AcquisitionDeviceProcessingCode",
    "PerformedProcedureStepDescription",
    "ImageComments",
)
_NAMED_SIDES = {"L": "LEFT", "LT": "LEFT", "LEFT": "LEFT", "R": "RIGHT", "RT": "RIGHT", "RIGHT": "RIGHT"}
# Abbreviations of views that are no words of other meaning.
_NAMED_VIEWS = ("CC", "MLO", "ML", "LM", "LMO", "XCC", "XCCL", "XCCM", "SIO", "ISO", "FB")
# The names of these views; a longer name first, because it contains others.
_SPELLED = {name.replace(" ", "").upper(): view for name, view in VIEW_NAMES.items() if view in _NAMED_VIEWS}
_NAME = re.compile(
    "|".join(name.upper().replace(" ", "[^A-Z0-9]*") for name in sorted(VIEW_NAMES, key=len, reverse=True))
)
_WORD = re.compile(rf"(?P<side>{'|'.join(_NAMED_SIDES)})?(?P<view>{'|'.join(_NAMED_VIEWS)})?")


@dataclass(frozen=True)
class Place:
    """Laterality (LEFT, RIGHT) and view of an image, None if not known, and whether free text gave them."""

    laterality: str | None
    view: str | None
    laterality_from_text: bool = False
    view_from_text: bool = False


def place_of(header: "Dataset") -> Place:
    """Return laterality and view of a header; free text is used only for a tag that is empty."""
    side_tag = str(header.get("ImageLaterality") or header.get("Laterality") or "").strip()
    laterality, view = _SIDES.get(side_tag.upper()), _tagged_view(header)
    said = _said(header)
    by_text = (not side_tag and said[0] is not None, not _has_view_tag(header) and said[1] is not None)
    return Place(said[0] if by_text[0] else laterality, said[1] if by_text[1] else view, *by_text)


def read_text(text: str) -> Place:
    """Return the laterality and view that a description names; None where it names none or several.

    A single letter is a side only if the text names a view.

    Example:
        >>> [(place.laterality, place.view) for place in map(read_text, ("R MLO", "LCC", "CC LT", "L2"))]
        [('RIGHT', 'MLO'), ('LEFT', 'CC'), ('LEFT', 'CC'), (None, None)]
        >>> read_text("Right medio-lateral oblique").view
        'MLO'
    """
    text = re.sub(r"\d\s*ML\b", " ", text.upper())  # millilitres
    text = _NAME.sub(lambda name: f" {_SPELLED.get(re.sub('[^A-Z]', '', name[0]), '')} ", text)
    words = re.split(r"[^A-Z0-9]+", text)
    found = [match for word in words if word and (match := _WORD.fullmatch(word))]
    views = {match["view"] for match in found if match["view"]}
    sides = {
        _NAMED_SIDES[match["side"]] for match in found if match["side"] and (views or len(match["side"]) > 1)
    }
    return Place(
        sides.pop() if len(sides) == 1 else None,
        views.pop() if len(views) == 1 else None,
    )


def _said(header: "Dataset") -> tuple[str | None, str | None]:
    """Return laterality and view of the first description that names each."""
    places = [read_text(str(header.get(keyword) or "")) for keyword in _TEXTS]
    return (
        next((place.laterality for place in places if place.laterality), None),
        next((place.view for place in places if place.view), None),
    )


def _tagged_view(header: "Dataset") -> str | None:
    view = str(header.get("ViewPosition") or "").upper()
    if view in VIEWS:
        return view
    view = str(header.get("PatientOrientation") or "").upper()
    if view in ("CC", "MLO"):  # CBIS-DDSM writes the view there; other names could be directions
        return view
    codes = header.get("ViewCodeSequence") or []
    return _VIEW_CODES.get(str(codes[0].get("CodeValue"))) if codes else None


def _has_view_tag(header: "Dataset") -> bool:
    """Return whether a tag gives the view, even one that is no view of a mammogram."""
    return bool(header.get("ViewPosition") or header.get("ViewCodeSequence") or _tagged_view(header))
