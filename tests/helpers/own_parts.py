"""The files of the page on own parts, and the images that its data set reads."""

import re
from pathlib import Path

import cv2
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import uid

from helpers.commands import REPOSITORY

PAGE = REPOSITORY / "docs" / "howto" / "own_parts.md"


def write_page_files(place: Path) -> list[str]:
    """Writes the files as they are printed, pieces of one file one after another, and returns their names."""
    pieces = re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names = sorted({name for name, _ in pieces})
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("\n\n".join(piece for where, piece in pieces if where == name))
    return names


def page_commands() -> list[tuple[str, str]]:
    """The commands of the page, as (name of the command, its arguments)."""
    return re.findall(r"^    python -m mammo\.(\w+) (.*)$", PAGE.read_text(), re.MULTILINE)


def write_images(folder: Path, *, patients: int = 24) -> None:
    """Writes two films of each patient, `PATHOLOGY/PATIENT_SIDE_VIEW`, in PNG and DICOM by turns."""
    rng = np.random.default_rng(0)
    for number in range(patients):
        side, pathology = ("LEFT", "RIGHT")[number % 2], ("benign", "malignant")[number // 2 % 2]
        (folder / pathology).mkdir(parents=True, exist_ok=True)
        for view in ("CC", "MLO"):
            pixels = rng.integers(0, 3000, (96, 72)).astype(np.uint16)
            pixels[20:76, 10:50] += 20000
            if pathology == "malignant":
                pixels[40:56, 20:36] += 30000
            file = folder / pathology / f"P{number:02}_{side}_{view}"
            if view == "CC":
                cv2.imwrite(f"{file}.png", pixels)
            else:
                _write_dicom(Path(f"{file}.dcm"), pixels)


def _write_dicom(path: Path, pixels: NDArray[np.uint16]) -> None:
    header = pydicom.Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    header.SOPClassUID = uid.DigitalMammographyXRayImageStorageForPresentation
    header.SOPInstanceUID = uid.generate_uid(entropy_srcs=[path.name])
    header.set_pixel_data(pixels, "MONOCHROME2", 16, generate_instance_uid=False)
    header.save_as(path, enforce_file_format=True)
