"""The heat of images as DICOM secondary captures, on the pixels of the images."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mammo.atomic_files import draft_of, report_unwritable
from mammo.data.images.breast import Transform
from mammo.data.images.dicom import Pixels, read_mammogram
from mammo.data.images.display import Display
from mammo.data.tasks import Task
from mammo.errors import ConfigError
from mammo.evaluation.exams.dicom_sources import (
    MANUFACTURER,
    NOT_CLINICAL,
    Maker,
    plain,
    reference_to,
    say_failed,
    source_of,
)
from mammo.evaluation.prediction.heat_writers import shown_class
from mammo.evaluation.prediction.input_files import Row

if TYPE_CHECKING:
    from pydicom import Dataset

    from mammo.evaluation.explain.overlays import RGB

_SERIES = 9101  # number of a series, above those of acquisitions
_SIDES = {"LEFT": "L", "RIGHT": "R"}
_DIRECTIONS = set("APRLHF")


class HeatCaptures:
    """Writer of a DICOM secondary capture of each image: the mammogram in grey with its heat in colour.

    A capture has the rows and columns of its image, so that a place in the one is the same place in the
    other. It refers to the image, has its patient and study, and a series of its own.

    Args:
        folder: folder of the captures, created where it does not exist.
        root: folder that the paths of the images are relative to.
        maker: the run.
        display: how the run shows files.
        task: task of the run.

    Raises:
        ConfigError: The folder cannot be created.
    """

    def __init__(self, folder: Path, *, root: Path, maker: Maker, display: Display, task: Task) -> None:
        self.folder = folder
        self.root = root
        self.maker = maker
        self.method = "heat"  # name of the method, known once the network is open
        self.display = display
        self.task = task
        with report_unwritable("output", folder):
            folder.mkdir(parents=True, exist_ok=True)

    def file_of(self, path: str) -> Path:
        """Return the file of the capture of an image."""
        return self.folder / f"{path}.dcm"

    def is_written(self, path: str) -> bool:
        """Return whether the capture of an image exists, or there can be none."""
        return self.file_of(path).exists() or source_of(self.root / path) is None

    def draw(self, heats: NDArray[np.float32], pixels: Sequence[Pixels], rows: Sequence[Row]) -> None:
        """Write the captures of images, see `HeatWriter.draw`; of files that are no DICOM images, none."""
        from mammo.evaluation.explain.file_pixels import to_file_pixels

        for row, heat in zip(rows, heats, strict=True):
            source = source_of(self.root / row["path"])
            if source is None:
                continue
            image = read_mammogram(self.root / row["path"], self.display).pixels
            of_file = to_file_pixels(heat, Transform(**row["transform"]))
            picture, file = _drawn(image, of_file, row), self.file_of(row["path"])
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                with draft_of(file) as draft:
                    self._capture(source, picture, row).save_as(draft, enforce_file_format=True)
            except OSError as error:
                raise ConfigError(f"output={file}: cannot be written: {error.strerror}") from error
            except Exception as error:  # a header that breaks the standard makes highdicom raise many types
                say_failed(row["path"], error)

    def _capture(self, source: "Dataset", picture: "RGB", row: Row) -> "Dataset":
        """Return the secondary capture of an image.

        Args:
            source: header of the image.
            picture: H W 3, of the image's rows and columns.
            row: row of the image.
        """
        from highdicom.sc import SCImage
        from highdicom.sr import CodedConcept
        from pydicom import Dataset
        from pydicom.sr.codedict import codes
        from pydicom.uid import JPEGBaseline8Bit

        place = " ".join(filter(None, (row["laterality"], row["view"])))
        name, score = shown_class(self.task, row["scores"])
        orientation = [str(part) for part in source.get("PatientOrientation") or []]
        known = len(orientation) == 2 and set(orientation) <= _DIRECTIONS
        row_direction, column_direction = orientation if known else ("A", "F")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names without a family name
            capture: Dataset = SCImage.from_ref_dataset(
                source,
                picture,
                photometric_interpretation="YBR_FULL_422",
                bits_allocated=8,
                coordinate_system="PATIENT",
                series_instance_uid=self.maker.uid("heat", self.method, source.SeriesInstanceUID),
                series_number=_SERIES,
                # with the scores, because the heat of an image can depend on the other views of its exam
                sop_instance_uid=self.maker.uid("heat", self.method, source.SOPInstanceUID, row["scores"]),
                instance_number=_number(source),
                manufacturer=MANUFACTURER,
                manufacturer_model_name=self.maker.run,
                software_versions=self.maker.version,
                series_description=f"{' '.join(filter(None, ('Heat', place)))}, {NOT_CLINICAL}",
                laterality=_SIDES.get(row["laterality"]),
                # replaced below where the image has none, or one that is no pair of directions
                patient_orientation=(row_direction, column_direction),
                pixel_spacing=source.get("PixelSpacing"),
                transfer_syntax_uid=JPEGBaseline8Bit,
            )
        if not known:
            capture.PatientOrientation = None
        capture.LossyImageCompression = "01"
        capture.LossyImageCompressionRatio = round(picture.size / len(capture.PixelData), 2)
        capture.LossyImageCompressionMethod = "ISO_10918_1"
        for keyword in ("BurnedInAnnotation", "PatientIdentityRemoved", "DeidentificationMethod"):
            if source.get(keyword):
                setattr(capture, keyword, source.get(keyword))
        capture.DerivationDescription = plain(
            f"heat of the network {self.maker.run} for {name} by {self.method}, drawn on the image; "
            f"{NOT_CLINICAL}"
        )
        said = self.task.words["score"] if self.task.positive else f"score of {name}"
        capture.ImageComments = plain(f"{said} {score:.3f}; {NOT_CLINICAL}")
        item = reference_to(source)
        purpose = CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)
        item.PurposeOfReferenceCodeSequence = [purpose]
        capture.SourceImageSequence = [item]
        series = Dataset()
        series.SeriesInstanceUID = source.SeriesInstanceUID
        series.ReferencedInstanceSequence = [reference_to(source)]
        capture.ReferencedSeriesSequence = [series]
        return capture


def _number(source: "Dataset") -> int:
    """Return the number of an image in its series, 1 where its header has none."""
    try:
        return max(1, int(source.get("InstanceNumber") or 1))
    except (TypeError, ValueError):
        return 1


def _drawn(image: Pixels, heat: NDArray[np.float32], row: Row) -> "RGB":
    """Return an image, H W, in grey with its heat in colour and what it is not for, H W 3."""
    from mammo.evaluation.explain.overlays import draw_overlay, within_breast, write_marker

    no_boxes = np.empty((0, 4))
    picture = draw_overlay(image, within_breast(heat, image), no_boxes, no_boxes, "")
    # away from the chest wall
    write_marker(picture, NOT_CLINICAL, left=bool(row["transform"]["flip"]))
    return picture
