"""What a DICOM object of a study holds: a mammogram, or another image or a report."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mammo.config.choices import OtherImage
from mammo.data.images.display import is_raw
from mammo.data.images.header_places import Place

if TYPE_CHECKING:
    from pydicom import Dataset

# Beginnings of SOP class UIDs (DICOM PS3.4, annex B.5) of objects that are never one grey image of a breast.
_SOP_CLASSES = {
    "1.2.840.10008.1.3.10": ("dicomdir", "is a DICOMDIR, the list of the files of a medium"),
    "1.2.840.10008.5.1.4.1.1.88.": ("report", "is a structured report or key object selection"),
    "1.2.840.10008.5.1.4.1.1.104.": ("report", "is an encapsulated document"),
    "1.2.840.10008.5.1.4.1.1.11.": ("presentation_state", "is a presentation state of other images"),
    "1.2.840.10008.5.1.4.1.1.13.1.": ("tomosynthesis", "is a tomosynthesis volume or projection"),
    "1.2.840.10008.5.1.4.1.1.66.": ("no_image", "is a segmentation, registration or raw data"),
}
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_CT = "1.2.840.10008.5.1.4.1.1.2"
_MODALITIES = {
    "SR": ("report", "is a structured report"),
    "KO": ("report", "is a key object selection"),
    "DOC": ("report", "is a document"),
    "PR": ("presentation_state", "is a presentation state of other images"),
}
# Modalities of scanned films and of detectors for other parts of the body; theirs can be a mammogram.
_PERHAPS_BREAST = ("CR", "DX", "OT", "RG", "SC")
_CONTACT = 1.3  # magnification factor; contact views have at most 1.1, magnified ones at least 1.4
# Codes of a view or its modifier in SNOMED-RT and SNOMED CT (DICOM PS3.16, context groups 4014 and 4015).
_CODES = {
    **dict.fromkeys(("R-102D7", "399055006", "R-102D6", "399163009"), OtherImage.spot),
    **dict.fromkeys(("G-8310", "127457009"), OtherImage.specimen),
}
# Descriptions of one series, image or paddle; that of a study can name what only a part of it is.
_TEXTS = ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription", "PaddleDescription")
_WORDS = {
    OtherImage.spot: r"SPOT\w*|MAG|MAGN\w*",
    OtherImage.specimen: r"SPECIMEN\w*",
    OtherImage.biopsy: r"STEREO\w*|BIOPSY|BX|PREFIRE|POSTFIRE|LOCALI[SZ]ATION",
    OtherImage.synthetic: r"C-?VIEW|S-?VIEW|V-PREVIEW|SYNTH\w*|INTELLIGENT 2D|GENERATED_2D",
}
_MEANING = {
    OtherImage.spot: "is a spot compression or magnified view",
    OtherImage.specimen: "is an image of a specimen",
    OtherImage.biopsy: "is an image of a biopsy or localisation",
    OtherImage.synthetic: "is a synthetic image, computed from a tomosynthesis",
}


@dataclass(frozen=True)
class OtherObject:
    """A DICOM object that is no view of a breast for screening or diagnosis.

    Attributes:
        kind: `dicomdir`, `report`, `presentation_state`, `no_image`, `tomosynthesis` or `for_processing`, or
            one of `OtherImage`, which can be scored if wanted.
        reason: what it is, and by which part of the header.
    """

    kind: str
    reason: str


def other_object(header: "Dataset", place: Place) -> OtherObject | None:
    """Return what a DICOM object is if it is not a mammogram; None for a mammogram.

    A secondary capture is a mammogram if its modality is MG, it names side and view, is grey, and is not made
    from another DICOM image: scanned films are stored so, those of CBIS-DDSM too. An object of another
    modality for radiographs is one if it names side and view. An object without these tags is taken for a
    mammogram.

    Args:
        header: header of the object.
        place: side and view of the image, by its header or its name.
    """
    return next((found for rule in _RULES if (found := rule(header, place)) is not None), None)


def _by_class(header: "Dataset", _: Place) -> OtherObject | None:
    uid = _sop_class(header)
    if "DirectoryRecordSequence" in header:
        return OtherObject(*_SOP_CLASSES["1.2.840.10008.1.3.10"])
    for beginning, found in _SOP_CLASSES.items():
        if uid.startswith(beginning):
            return OtherObject(*found)
    modality = _text(header, "Modality")
    return OtherObject(*_MODALITIES[modality]) if modality in _MODALITIES else None


def _by_frames(header: "Dataset", _: Place) -> OtherObject | None:
    try:
        frames = int(header.get("NumberOfFrames") or 1)
    except (TypeError, ValueError):
        return None
    if frames > 1:
        return OtherObject("tomosynthesis", f"holds {frames} frames, as a tomosynthesis does")
    if _text(header, "Modality") == "MG" and _sop_class(header) == _CT:
        return OtherObject("tomosynthesis", "is a slice of a tomosynthesis, stored as of a CT")
    return None


def _without_pixels(header: "Dataset", _: Place) -> OtherObject | None:
    # a file that is cut short has neither, but no class either
    if _sop_class(header) and not any(name in header for name in ("Rows", "Columns", "PixelData")):
        from pydicom.uid import UID

        name = UID(_sop_class(header)).name
        return OtherObject("no_image", f"is a DICOM object without an image ({name})")
    return None


def _by_modality(header: "Dataset", place: Place) -> OtherObject | None:
    modality, known = _text(header, "Modality"), place.laterality is not None and place.view is not None
    if _is_secondary_capture(header):
        lacking = [
            *([] if modality == "MG" else [f"its modality is {modality or 'missing'}"]),
            *([] if known else ["it does not name side and view"]),
            *(["it is made from another image"] if header.get("SourceImageSequence") else []),
            *(["it is in colour"] if header.get("SamplesPerPixel", 1) != 1 else []),
        ]
        if lacking:
            reason = f"is a secondary capture and no mammogram: {' and '.join(lacking)}"
            return OtherObject(OtherImage.secondary_capture, reason)
        return None
    if modality in ("", "MG") or (modality in _PERHAPS_BREAST and known):
        return None
    without = " and names no side and view" if modality in _PERHAPS_BREAST else ""
    return OtherObject(OtherImage.other_modality, f"has the modality {modality}{without}")


def _by_view(header: "Dataset", _: Place) -> OtherObject | None:
    for code in _view_codes(header):
        if code in _CODES:
            return _other(_CODES[code], f"view code {code}")
    if header.get("SpecimenDescriptionSequence") or _text(header, "BodyPartExamined") == "SPECIMEN":
        return _other(OtherImage.specimen, "by its header")
    try:
        factor = float(header.get("EstimatedRadiographicMagnificationFactor") or 1)
    except (TypeError, ValueError):
        factor = 1.0
    if factor >= _CONTACT:
        return _other(OtherImage.spot, f"magnification factor {factor:g}")
    kinds = [str(part).upper() for part in _values(header.get("ImageType"))]
    if "DERIVED" in kinds and any("TOMO" in part or "GENERATED_2D" in part for part in kinds):
        return _other(OtherImage.synthetic, "image type " + "/".join(kinds))
    if any("STEREO" in part for part in kinds):
        return _other(OtherImage.biopsy, "image type " + "/".join(kinds))
    for keyword in _TEXTS:
        text = _text(header, keyword)
        for kind, words in _WORDS.items():
            if match := re.search(rf"(?<![A-Z0-9])({words})(?![A-Z0-9])", text):
                # only the word, because a description may name the patient
                return _other(kind, f"'{match[1]}' in {keyword}")
    return None


def _raw(header: "Dataset", _: Place) -> OtherObject | None:
    if not is_raw(header):
        return None
    reason = (
        "is a raw image, FOR PROCESSING, which is not meant to be shown; use the image FOR PRESENTATION, or "
        "a run that was trained with data.for_processing=convert"
    )
    return OtherObject("for_processing", reason)


# In this order: a report has no modality of an image, a capture of a magnified view is a capture.
_RULES: tuple[Callable[["Dataset", Place], OtherObject | None], ...] = (
    _by_class,
    _by_frames,
    _without_pixels,
    _by_modality,
    _by_view,
    _raw,
)


def _other(kind: OtherImage, by: str) -> OtherObject:
    return OtherObject(kind, f"{_MEANING[kind]} ({by})")


def _is_secondary_capture(header: "Dataset") -> bool:
    uid = _sop_class(header)
    return uid == _SECONDARY_CAPTURE or uid.startswith(f"{_SECONDARY_CAPTURE}.")


def _sop_class(header: "Dataset") -> str:
    meta = getattr(header, "file_meta", None)
    found = header.get("SOPClassUID") or (meta.get("MediaStorageSOPClassUID") if meta else "")
    return str(found or "")


def _view_codes(header: "Dataset") -> Iterator[str]:
    """Yield the codes of the view and of its modifiers."""
    for view in _values(header.get("ViewCodeSequence")):
        for code in (view, *_values(view.get("ViewModifierCodeSequence"))):
            yield str(code.get("CodeValue"))


def _values(value: Any) -> list[Any]:
    """Return the values of an element: those of several, the one, or none."""
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str) else list(value)


def _text(header: "Dataset", keyword: str) -> str:
    return str(header.get(keyword) or "").strip().upper()
