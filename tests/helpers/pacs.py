"""Studies as a PACS sends them: digital mammograms in nested folders, among objects of other kinds."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset, uid

from mammo.data.phantom.anatomy import View, sample_anatomy
from mammo.data.phantom.film import Film, Laterality, expose
from mammo.data.phantom.lesions import sample_lesion

PATIENT, NAME, BIRTH = "PID-4711-X", "Muster^Anna Maria", "19610203"
ACCESSION = "ACC98765"
_CLASSES = {
    "mammogram": uid.DigitalMammographyXRayImageStorageForPresentation,
    "raw": uid.DigitalMammographyXRayImageStorageForProcessing,
    "report": uid.ComprehensiveSRStorage,
    "presentation_state": uid.GrayscaleSoftcopyPresentationStateStorage,
    "capture": uid.SecondaryCaptureImageStorage,
    "tomosynthesis": uid.BreastTomosynthesisImageStorage,
    "ultrasound": uid.UltrasoundImageStorage,
    "segmentation": uid.SegmentationStorage,
}


def film(laterality: Laterality, view: View = "CC", *, height: int = 480, width: int = 360) -> Film:
    """A mammogram of the phantom with one malignant mass."""
    rng = np.random.default_rng(7)
    anatomy = sample_anatomy(density=1, width_mm=240 * width / height, rng=rng)
    mass = sample_lesion(kind="mass", malignant=True, difficulty=0.0, rng=rng)
    given = {"height": height, "width": width, "opposite": False, "rng": rng}
    return expose(anatomy=anatomy, lesions=(mass,), laterality=laterality, view=view, **given)


def code(value: str, meaning: str, scheme: str = "SCT", **elements: Any) -> Dataset:
    """An item of a sequence of codes."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    for keyword, given in elements.items():
        setattr(item, keyword, given)
    return item


def dicom_object(
    kind: str, *, number: int, study: int = 1, pixels: NDArray[Any] | None = None, **elements: Any
) -> Dataset:
    """An object of a study of the woman.

    Args:
        kind: key of `_CLASSES`.
        number: number of the object, part of its UID.
        study: number of the study.
        pixels: H W; None for an object without pixels.
        elements: further elements, or None for elements that it lacks.
    """
    header = Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    header.SOPClassUID = _CLASSES[kind]
    header.Modality, header.Manufacturer = "MG", "MAKER"
    header.StudyInstanceUID = f"1.2.276.0.99.{study}"
    header.SeriesInstanceUID = f"1.2.276.0.99.{study}.{number}"
    header.SOPInstanceUID = f"1.2.276.0.99.{study}.{number}.1"
    header.PatientID, header.PatientName, header.PatientBirthDate = PATIENT, NAME, BIRTH
    header.PatientSex, header.AccessionNumber, header.StudyID = "F", ACCESSION, f"S{study}"
    header.StudyDate, header.StudyTime, header.InstanceNumber = f"2024010{study}", "101500", number
    if pixels is not None:
        header.set_pixel_data(pixels, "MONOCHROME2", 8 * pixels.itemsize, generate_instance_uid=False)
    for keyword, given in elements.items():
        if given is None:
            delattr(header, keyword)
        else:
            setattr(header, keyword, given)
    return header


def mammogram(laterality: Laterality, view: View, *, number: int, study: int = 1, **elements: Any) -> Dataset:
    """A mammogram of the woman for presentation, of the phantom."""
    orientation = ["A", "R"] if laterality == "LEFT" else ["P", "L"]
    place = {"ImageLaterality": laterality[0], "ViewPosition": view, "PatientOrientation": orientation}
    known = {"PresentationIntentType": "FOR PRESENTATION", "BurnedInAnnotation": "NO", **place}
    pixels = film(laterality, view).pixels
    return dicom_object("mammogram", number=number, study=study, pixels=pixels, **(known | elements))


def others() -> dict[str, Dataset]:
    """Objects of the study that are no view for screening, by the word for their kind and a number."""
    small = film("LEFT").pixels[::4, ::4].copy()
    place = {"ImageLaterality": "L", "ViewPosition": "CC"}
    spot = code(
        "399162004", "cranio-caudal", ViewModifierCodeSequence=[code("399055006", "Spot Compression")]
    )
    volume = np.repeat(small[None], 3, axis=0)
    found = {
        "report": dicom_object("report", number=20, Modality="SR"),
        "presentation_state": dicom_object("presentation_state", number=21, Modality="PR"),
        "secondary_capture": dicom_object("capture", number=22, pixels=small, Modality="OT"),
        "tomosynthesis": dicom_object("tomosynthesis", number=23, pixels=volume, **place),
        "spot": dicom_object("mammogram", number=24, pixels=small, ViewCodeSequence=[spot], **place),
        "spot.2": dicom_object(
            "mammogram", number=25, pixels=small, EstimatedRadiographicMagnificationFactor="1.8", **place
        ),
        "specimen": dicom_object(
            "mammogram", number=26, pixels=small, ViewCodeSequence=[code("127457009", "tissue specimen")]
        ),
        "for_processing": dicom_object("raw", number=27, pixels=small, **place),
        "other_modality": dicom_object("ultrasound", number=28, pixels=small, Modality="US"),
        "no_image": dicom_object("segmentation", number=29, pixels=small, Modality="SEG"),
        "synthetic": dicom_object(
            "mammogram", number=30, pixels=small, SeriesDescription="L CC C-View", **place
        ),
        "biopsy": dicom_object("mammogram", number=31, pixels=small, SeriesDescription="STEREO +15", **place),
    }
    directory = dicom_object("report", number=32)
    directory.SOPClassUID = uid.MediaStorageDirectoryStorage
    directory.DirectoryRecordSequence = [Dataset()]
    return {"dicomdir": directory, **found}


def save(header: Dataset, file: Path) -> Path:
    """Write an object to a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(file, enforce_file_format=True)
    return file


def pacs_export(folder: Path) -> dict[str, str]:
    """Write two studies of a woman, of four views and of one, and the others; return the kind by path."""
    kinds: dict[str, str] = {}
    place = "DICOM/PA000001/ST00000{study}/SE00000{number}/IM000001"
    shots: list[tuple[Laterality, View, int]] = [
        ("LEFT", "CC", 1), ("LEFT", "MLO", 1), ("RIGHT", "CC", 1), ("RIGHT", "MLO", 1), ("LEFT", "CC", 2)
    ]  # fmt: skip
    for number, (side, view, study) in enumerate(shots, start=1):
        path = place.format(study=study, number=number)
        save(mammogram(side, view, number=number, study=study), folder / path)
        kinds[path] = "mammogram"
    for kind, header in others().items():
        path = "DICOMDIR" if kind == "dicomdir" else f"DICOM/PA000001/ST000001/OTHER/{kind.upper()}"
        save(header, folder / path)
        kinds[path] = kind.partition(".")[0]
    whole = (folder / place.format(study=1, number=1)).read_bytes()
    for name, content in (("CUT", whole[:3000]), ("README.TXT", b"Viewer for Windows")):
        (folder / name).write_bytes(content)
        kinds[name] = "unreadable"
    return kinds
