"""The scores of exams as DICOM structured reports."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mammo.atomic_files import draft_of, report_unwritable
from mammo.data.tasks import Task
from mammo.evaluation.exams.dicom_sources import (
    MANUFACTURER,
    NOT_CLINICAL,
    Maker,
    plain,
    say_failed,
    source_of,
)
from mammo.evaluation.exams.exam_scores import Exam, ExamImage, ExamPart, Scored

if TYPE_CHECKING:
    from pydicom import Dataset

_SERIES = 9102  # number of a series, above those of acquisitions
_SCHEME = "99MAMMO"  # a private coding scheme: DICOM has no code for the score of a network


def write_score_reports(
    exams: Iterable[Exam], *, folder: Path, root: Path, maker: Maker, task: Task
) -> tuple[int, int]:
    """Write a Comprehensive SR by the template TID 1500, Measurement Report, for each exam.

    It has one group of measurements (TID 1501) for the exam, each breast and each image: the score and, where
    the run has a calibration, the probability, and references to the images. It is a preliminary, unverified
    document of the study of the exam's first image. Reports of earlier calls are replaced.

    Args:
        exams: exams with scores.
        folder: folder of the reports, created where it does not exist.
        root: folder that the paths of the images are relative to.
        maker: the run.
        task: task of the run.

    Returns:
        Number of reports, and number of exams without one, because none of their images is a DICOM image with
        the UIDs of study, series and instance.

    Raises:
        ConfigError: a report cannot be written.
    """
    written = without = 0
    with report_unwritable("output", folder):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("exam*.dcm"):
            old.unlink()
        for number, exam in enumerate(exams, start=1):
            found = ((image.path, source_of(root / image.path)) for image in exam.whole.images)
            sources = {path: source for path, source in found if source is not None}
            if not sources:
                without += 1
                continue
            try:
                report = score_report(exam, sources, maker=maker, task=task)
                with draft_of(folder / f"exam{number}.dcm") as draft:
                    report.save_as(draft, enforce_file_format=True)
            except OSError:
                raise
            except Exception as error:  # a header that breaks the standard makes highdicom raise many types
                say_failed(exam.name, error)
                continue
            written += 1
    return written, without


def score_report(exam: Exam, sources: dict[str, "Dataset"], *, maker: Maker, task: Task) -> "Dataset":
    """Return the structured report of an exam.

    Args:
        exam: the exam.
        sources: header of each of its DICOM images, by path; at least one.
        maker: the run.
        task: task of the run.
    """
    from highdicom.sr import (
        ComprehensiveSR,
        DeviceObserverIdentifyingAttributes,
        MeasurementReport,
        ObservationContext,
        ObserverContext,
        TextContentItem,
    )
    from pydicom.sr.codedict import codes

    observer = ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=maker.uid("observer"),
            name=MANUFACTURER,
            manufacturer_name=MANUFACTURER,
            model_name=maker.run,
            serial_number=maker.version,
        ),
    )
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=codes.SCT.Mammography,
        title=codes.DCM.ImagingMeasurementReport,
        imaging_measurements=list(_groups(exam, sources, maker, task)),
    )
    comment = f"Scores of the network {maker.run} of {MANUFACTURER}, {maker.version}; {NOT_CLINICAL}."
    content[0].ContentSequence.append(
        TextContentItem(name=codes.DCM.Comment, value=comment, relationship_type="CONTAINS")
    )
    evidence = list(sources.values())
    said = [(image.path, image.scored) for image in exam.whole.images]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names without a family name
        report: Dataset = ComprehensiveSR(
            evidence=evidence,
            content=content[0],
            series_instance_uid=maker.uid("scores", evidence[0].StudyInstanceUID),
            series_number=_SERIES,
            sop_instance_uid=maker.uid("scores", *(item.SOPInstanceUID for item in evidence), said, exam),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=maker.run,
            software_versions=maker.version,
            series_description=f"Scores of a network, {NOT_CLINICAL}",
            is_complete=True,
            is_final=False,
            is_verified=False,
        )
    return report


def _groups(exam: Exam, sources: dict[str, "Dataset"], maker: Maker, task: Task) -> Iterator[Any]:
    """Yield the group of measurements of the exam, each breast and each image that has a score."""
    parts: list[tuple[str, str | None, Scored | None, Sequence[ExamImage]]] = [
        (_said(part), part.laterality, part.scored, part.images) for part in (exam.whole, *exam.breasts)
    ]
    for number, image in enumerate(exam.whole.images, start=1):
        place = " ".join(filter(None, (image.laterality, image.view)))
        parts.append((f"image {number} {place}".strip(), image.laterality, image.scored, [image]))
    for name, laterality, scored, images in parts:
        of_part = [sources[image.path] for image in images if image.path in sources]
        if scored is not None and of_part:
            yield _group(name, laterality, scored, of_part, maker, task)


def _said(part: ExamPart) -> str:
    return "exam" if part.laterality is None else f"{part.laterality} breast"


def _group(
    name: str,
    laterality: str | None,
    scored: Scored,
    sources: Sequence["Dataset"],
    maker: Maker,
    task: Task,
) -> Any:
    from highdicom.sr import (
        AlgorithmIdentification,
        FindingSite,
        Measurement,
        MeasurementsAndQualitativeEvaluations,
        SourceImageForMeasurementGroup,
        TrackingIdentifier,
    )
    from pydicom.sr.codedict import codes

    sides = {"LEFT": codes.SCT.Left, "RIGHT": codes.SCT.Right}
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=maker.uid("part", name, *(source.SOPInstanceUID for source in sources)), identifier=name
        ),
        algorithm_id=AlgorithmIdentification(name=f"{MANUFACTURER} {maker.run}", version=maker.version),
        finding_sites=[FindingSite(codes.SCT.Breast, laterality=sides.get(laterality or ""))],
        measurements=[
            Measurement(name=measured, value=value, unit=codes.UCUM.NoUnits)
            for measured, value in _measured(scored, task)
        ],
        source_images=[
            SourceImageForMeasurementGroup(source.SOPClassUID, source.SOPInstanceUID) for source in sources
        ],
    )


def _measured(scored: Scored, task: Task) -> Iterator[tuple[Any, float]]:
    """Yield name and value of the score and the probability, or of the score of each class."""
    from highdicom.sr import CodedConcept

    if scored.malignancy is None:
        for number, (name, score) in enumerate(zip(task.classes, scored.scores, strict=True)):
            yield CodedConcept(f"score{number}", _SCHEME, plain(f"Score of {name}, 0 to 1")[:64]), score
        return
    yield CodedConcept("score", _SCHEME, f"{task.words['score'].capitalize()}, 0 to 1"), scored.malignancy
    if scored.probability is not None:
        meaning = task.words["score"].replace("score", "Calibrated probability", 1)
        yield CodedConcept("probability", _SCHEME, meaning), scored.probability
