"""Writes synthetic mammograms in the form of CBIS-DDSM: NBIA folders of UIDs, case files, irregularities."""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mammo.data.phantom.film import Film
from mammo.data.phantom.lesions import Kind, Lesion

OfficialSplit = Literal["train", "test"]
Row = dict[str, str]
Pixels = NDArray[np.uint16] | NDArray[np.uint8]

PREFIX = {"mass": "Mass", "calcification": "Calc"}
FOLDER = {"train": "Training", "test": "Test"}
_COMMON = "left or right breast,image view,abnormality id,abnormality type"
_ENDING = "assessment,pathology,subtlety,image file path,cropped image file path,ROI mask file path"
COLUMNS = {
    "mass": f"patient_id,breast_density,{_COMMON},mass shape,mass margins,{_ENDING}".split(","),
    "calcification": f"patient_id,breast density,{_COMMON},calc type,calc distribution,{_ENDING}".split(","),
}
UID_ROOT = "1.3.6.1.4.1.9590.100.1.2"  # root of the UIDs of the real files


@dataclass(frozen=True)
class Shot:
    """The place of an image in the release."""

    kind: Kind
    split: OfficialSplit
    patient_number: int  # determines the irregularities of the patient's files
    density: int
    laterality: str
    view: str

    @property
    def name(self) -> str:
        """Name of the image, such as `P_00001_LEFT_CC`."""
        return f"P_{self.patient_number:05d}_{self.laterality}_{self.view}"

    @property
    def folder(self) -> str:
        """Folder of the image, such as `Mass-Training_P_00001_LEFT_CC`."""
        return f"{PREFIX[self.kind]}-{FOLDER[self.split]}_{self.name}"


class Release:
    """One release folder; each UID is derived from the name of the release and the name of the object."""

    def __init__(self, *, root: Path, name: str) -> None:
        self.root = root
        self.name = name

    def uid(self, *parts: str) -> str:
        """Returns a UID in the form of the real files."""
        digest = hashlib.sha256("/".join((self.name, *parts)).encode()).digest()
        return f"{UID_ROOT}.{10**37 + int.from_bytes(digest) % (9 * 10**37)}"

    def write_image(self, *, film: Film, lesions: Sequence[Lesion], shot: Shot) -> list[Row]:
        """Writes a mammogram with crop and mask of its lesions of the shot's kind, and returns their rows."""
        number = shot.patient_number
        folder, study, series = shot.folder, self.uid(shot.folder, "study"), self.uid(shot.folder, "series")
        # Most full images of the calcification test set have no description and a file name as patient.
        nameless = (shot.kind, shot.split) == ("calcification", "test") and number % 8 != 0
        self._write_dicom(
            path=f"{folder}/{study}/{series}/{'1-01' if number % 9 == 4 else '1-1'}.dcm",
            pixels=film.pixels,
            patient=f"{shot.name}.dcm" if nameless else folder,
            description=None if nameless else "full mammogram images",
            shot=shot,
        )
        rows: list[Row] = []
        for lesion, mask in zip(lesions, film.masks, strict=True):
            if lesion.kind == shot.kind:
                abnormality = len(rows) + 1
                roi = self._write_roi(
                    folder=f"{folder}_{abnormality}", pixels=film.pixels, mask=mask, shot=shot
                )
                paths = (f"{folder}/{study}/{series}/000000.dcm", *roi)
                rows.append(_row(shot=shot, lesion=lesion, abnormality=abnormality, paths=paths))
        return rows

    def _write_roi(
        self, *, folder: str, pixels: NDArray[np.uint16], mask: NDArray[np.bool_], shot: Shot
    ) -> tuple[str, str]:
        """Writes crop and mask of a lesion, and returns their paths in the case file."""
        number = shot.patient_number
        study = self.uid(folder, "study")
        apart = number % 40 == 6  # in a few patients, crop and mask have separate series
        series = [self.uid(folder, "series", "mask" if apart and k else "crop") for k in (0, 1)]
        order = (0, 1) if shot.kind == "mass" else (1, 0)  # file numbers of crop and mask in the case file
        on_disk = order[::-1] if number % 10 == 1 else order
        contents: tuple[Pixels, Pixels] = (
            _crop(pixels=pixels, mask=mask),
            _mask_pixels(mask=mask, number=number),
        )
        for k, content in enumerate(contents):
            self._write_dicom(
                path=f"{folder}/{study}/{series[k]}/1-{1 if apart else on_disk[k] + 1}.dcm",
                pixels=content,
                patient=folder,
                # The description is that of the series, so it does not distinguish crop and mask.
                description=("cropped images", "ROI mask images")[k if apart else number % 2],
                shot=shot,
            )
        crop, roi = (f"{folder}/{study}/{series[k]}/{0 if apart else order[k]:06d}.dcm" for k in (0, 1))
        return crop, roi

    def _write_dicom(
        self, *, path: str, pixels: Pixels, patient: str, description: str | None, shot: Shot
    ) -> None:
        """Writes one file with the header of the real files; its bytes do not depend on time or machine."""
        from pydicom.dataset import Dataset, FileMetaDataset
        from pydicom.uid import UID, ImplicitVRLittleEndian, SecondaryCaptureImageStorage

        target = self.root / "CBIS-DDSM" / path
        _, study, series, name = path.split("/")
        meta = FileMetaDataset()
        meta.FileMetaInformationVersion = b"\x00\x01"
        meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        meta.MediaStorageSOPInstanceUID = UID(self.uid(path))
        meta.TransferSyntaxUID = ImplicitVRLittleEndian
        meta.ImplementationClassUID = UID(f"{UID_ROOT}.1")
        meta.ImplementationVersionName = "MAMMO_PHANTOM"
        dataset = Dataset()
        dataset.file_meta = meta
        dataset.SOPClassUID = SecondaryCaptureImageStorage
        dataset.SOPInstanceUID = self.uid(path)
        dataset.Modality = "MG"
        dataset.ConversionType = "SYN"
        dataset.PatientName = dataset.PatientID = patient
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.StudyID, dataset.SeriesNumber = "DDSM", "1"
        dataset.InstanceNumber = str(int(name.removesuffix(".dcm").split("-")[1]))
        dataset.BodyPartExamined = "BREAST"
        if description:
            dataset.SeriesDescription = description
            dataset.StudyDate = "20160720"
        dataset.PatientOrientation, dataset.Laterality = shot.view, shot.laterality[0]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.Rows, dataset.Columns = pixels.shape
        bits = 8 * pixels.dtype.itemsize
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
        dataset.PixelRepresentation = 0
        stored = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
        dataset.PixelData = stored + b"\x00" * (len(stored) % 2)
        dataset["PixelData"].VR = "OW"  # the only VR of pixel data in Implicit VR
        target.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(target, enforce_file_format=True, implicit_vr=True, little_endian=True)

    def write_case_files(self, *, rows: dict[tuple[Kind, OfficialSplit], list[Row]]) -> None:
        """Writes the four case files."""
        for (kind, split), lines in rows.items():
            name = f"{PREFIX[kind].lower()}_case_description_{split}_set.csv"
            with (self.root / name).open("w", newline="") as file:
                writer = csv.DictWriter(file, fieldnames=COLUMNS[kind], lineterminator="\n")
                writer.writeheader()
                writer.writerows(lines)


def _row(*, shot: Shot, lesion: Lesion, abnormality: int, paths: tuple[str, str, str]) -> Row:
    """Returns the row of a lesion in the case file, where 0 means missing.

    Args:
        shot: place of the image in the release.
        lesion: lesion of the row.
        abnormality: number of the lesion in the image, from 1.
        paths: paths of image, crop and mask.
    """
    number, is_mass = shot.patient_number, shot.kind == "mass"
    benign = "BENIGN_WITHOUT_CALLBACK" if number % 5 == 3 else "BENIGN"
    image, crop, mask = paths
    values = (
        f"P_{number:05d}",
        0 if not is_mass and shot.split == "test" and number % 10 == 8 else shot.density,
        shot.laterality,
        shot.view,
        abnormality,
        lesion.kind,
        lesion.appearance,
        lesion.extent,
        0 if number % 10 == 4 else lesion.assessment,
        "MALIGNANT" if lesion.malignant else benign,
        0 if number % 40 == 9 else lesion.subtlety,
        image,
        crop if is_mass else crop + "\n",  # in the official files, one cell per row ends with a line break
        mask + "\n" if is_mass else mask,
    )
    return dict(zip(COLUMNS[shot.kind], map(str, values), strict=True))


def _crop(*, pixels: NDArray[np.uint16], mask: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """Returns the pixels of the box of a lesion, with a margin of a fifth of its size."""
    slices = []
    for axis in (0, 1):
        where = np.flatnonzero(mask.any(axis=1 - axis))
        margin = max(2, (where[-1] - where[0]) // 5)
        slices.append(slice(max(where[0] - margin, 0), where[-1] + 1 + margin))
    return pixels[slices[0], slices[1]]


def _mask_pixels(*, mask: NDArray[np.bool_], number: int) -> NDArray[np.uint8]:
    """Returns the mask as 0 and 255; some masks have another size, and a few another aspect ratio."""
    import cv2

    values = mask.astype(np.uint8) * np.uint8(255)
    height, width = mask.shape
    if number % 10 == 2:
        scale = 1.25 if number % 20 == 2 else 0.75
        size = (round(width * scale), round(height * scale))
        return cv2.resize(values, size, interpolation=cv2.INTER_NEAREST)  # type: ignore[return-value]
    if number % 40 == 5:
        return np.ascontiguousarray(values[height // 12 :])
    return values
