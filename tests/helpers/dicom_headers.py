"""DICOM headers of mammograms."""

from typing import Any

import pydicom
from numpy.typing import NDArray
from pydicom import Dataset, uid


def header_of(pixels: NDArray[Any], *, bits: int = 16, **elements: Any) -> Dataset:
    """An image for presentation with these pixels, H W, of `bits` bits, and further elements by keyword."""
    header = Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    header.SOPClassUID = uid.DigitalMammographyXRayImageStorageForPresentation
    header.SOPInstanceUID = "1.2.3"
    header.set_pixel_data(pixels, "MONOCHROME2", bits, generate_instance_uid=False)
    for keyword, value in elements.items():
        setattr(header, keyword, value)
    return header
