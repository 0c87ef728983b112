"""DICOM objects of results lie on the pixels of their image, refer to it, and are read by other software."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from helpers.pacs import ACCESSION, BIRTH, NAME, PATIENT, dicom_object, film, mammogram, save
from pydicom import Dataset

from mammo.data.images.breast import Transform, bounding_box
from mammo.data.images.display import Display
from mammo.data.phantom.film import Laterality
from mammo.data.store.store_building import Settings
from mammo.data.tasks import Task
from mammo.evaluation.exams.dicom_sources import NOT_CLINICAL, Maker, source_of
from mammo.evaluation.exams.exam_scores import Exam, ExamImage, ExamPart, Scored
from mammo.evaluation.exams.heat_captures import HeatCaptures
from mammo.evaluation.exams.score_reports import write_score_reports
from mammo.evaluation.prediction.input_files import prepare_files

hd = pytest.importorskip("highdicom", reason="the extra `dicom` brings highdicom")

MAKER = Maker(run="2029-a", version="c0ffee", weights="0" * 64)
PATHOLOGY = Task.shipped("pathology")
SETTINGS = Settings(128, 96, "breast", "keep", "uint16", False)


def captures(root: Path) -> HeatCaptures:
    found = HeatCaptures(root / "out", root=root, maker=MAKER, display=Display(), task=PATHOLOGY)
    found.method = "gradcam"
    return found


def capture_of(root: Path, path: str, heat_of: Any = None) -> pydicom.Dataset:
    """The capture of an image whose heat is a function of its prepared pixels, by default in one corner."""
    ((row, pixels),) = prepare_files(root, [path], settings=SETTINGS)
    assert pixels is not None, row["error"]
    heat = np.zeros(pixels.shape, np.float32)
    heat[:8, :8] = 1
    if heat_of is not None:
        heat = heat_of(row, pixels)
    writer = captures(root)
    writer.draw(heat[None], [pixels], [row | {"scores": [0.25, 0.75]}])
    assert writer.is_written(path)
    return pydicom.dcmread(writer.file_of(path))


@pytest.mark.parametrize("laterality", ["LEFT", "RIGHT"])
def test_the_heat_is_on_the_lesion_in_the_pixels_of_the_image(laterality: Laterality, tmp_path: Path) -> None:
    """The heat of a prepared image is where its lesion is; in the capture it is on that of the file."""
    (mask,) = film(laterality).masks
    box = bounding_box(mask)
    assert box is not None
    save(mammogram(laterality, "CC", number=1), tmp_path / "IM1")

    def on_lesion(row: Any, pixels: Any) -> Any:
        transform = Transform(**row["transform"])
        assert transform.flip == (laterality == "RIGHT")
        return transform.apply_mask(mask).astype(np.float32)

    capture = capture_of(tmp_path, "IM1", on_lesion)
    assert (capture.Rows, capture.Columns) == mask.shape
    pixels = capture.pixel_array.astype(int)  # yellow where the heat is strongest, else grey
    hot = pixels[..., 0] - pixels[..., 2] > 60
    assert hot.any()
    x, y = (np.flatnonzero(hot.any(axis)).mean() for axis in (0, 1))
    assert x == pytest.approx((box[0] + box[2]) / 2, abs=3)
    assert y == pytest.approx((box[1] + box[3]) / 2, abs=3)
    assert (hot & mask).sum() > 0.6 * max(hot.sum(), mask.sum())
    # what is not hot is the image itself
    grey = film(laterality).pixels / 65535
    away = np.abs(pixels[..., 0] - pixels[..., 2]) < 8
    assert np.corrcoef(grey[away], pixels[away][:, 1])[0, 1] > 0.9


def test_a_capture_refers_to_its_image_and_has_its_patient(tmp_path: Path) -> None:
    source = mammogram("LEFT", "CC", number=3, SpecificCharacterSet="ISO_IR 100")
    save(source, tmp_path / "IM1")
    capture = capture_of(tmp_path, "IM1")
    (image,) = capture.SourceImageSequence
    (series,) = capture.ReferencedSeriesSequence
    assert (image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID) == (
        source.SOPClassUID,
        source.SOPInstanceUID,
    )
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    assert capture.StudyInstanceUID == source.StudyInstanceUID
    assert capture.SeriesInstanceUID != source.SeriesInstanceUID
    assert capture.SOPInstanceUID not in (source.SOPInstanceUID, capture.SeriesInstanceUID)
    assert pydicom.uid.UID(capture.SOPInstanceUID).is_valid
    assert (capture.PatientID, str(capture.PatientName)) == (PATIENT, NAME)
    assert (capture.PatientBirthDate, capture.AccessionNumber) == (BIRTH, ACCESSION)
    assert capture.SOPClassUID == pydicom.uid.SecondaryCaptureImageStorage
    assert list(capture.PatientOrientation) == ["A", "R"]
    assert capture.Laterality == "L"
    assert NOT_CLINICAL in capture.SeriesDescription
    assert "0.750" in capture.ImageComments
    assert capture.LossyImageCompression == "01"
    assert capture.LossyImageCompressionRatio > 1
    again = capture_of(tmp_path, "IM1")
    assert again.SOPInstanceUID == capture.SOPInstanceUID


@pytest.mark.parametrize(
    "elements",
    [
        {"PatientSex": "U", "PatientOrientation": "CC", "InstanceNumber": None, "StudyTime": None},
        {"PatientName": None, "PatientBirthDate": None, "AccessionNumber": None, "PatientOrientation": None},
        {"StudyDate": "2024-01-02", "StudyTime": "noon", "PatientBirthDate": "1961"},
        {"PatientName": "Müller^Ä", "SpecificCharacterSet": "ISO_IR 192", "PixelSpacing": ["0.07", "0.07"]},
    ],
)
def test_headers_with_gaps_have_captures_too(elements: dict[str, Any], tmp_path: Path) -> None:
    header = mammogram("RIGHT", "MLO", number=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that break the standard
        for keyword, value in elements.items():
            if value is None:
                delattr(header, keyword)
            else:
                setattr(header, keyword, value)
        save(header, tmp_path / "IM1")
    capture = capture_of(tmp_path, "IM1")
    assert str(capture.PatientName or "") == (elements.get("PatientName", NAME) or "")
    assert capture.PatientSex in ("F", "")
    assert capture.StudyDate in ("20240101", "")
    paths = ["IM1", "none.png"]
    given: dict[str, Any] = {"folder": tmp_path / "sr", "root": tmp_path, "maker": MAKER, "task": PATHOLOGY}
    assert write_score_reports([exam_of(paths)], **given) == (1, 0)
    assert hd.sr.srread(tmp_path / "sr" / "exam1.dcm").StudyInstanceUID == header.StudyInstanceUID


def test_a_header_without_remedy_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(mammogram("LEFT", "CC", number=1), tmp_path / "IM1")
    writer = captures(tmp_path)
    monkeypatch.setattr(HeatCaptures, "_capture", lambda *_: {}["a value"])
    ((row, pixels),) = prepare_files(tmp_path, ["IM1"], settings=SETTINGS)
    assert pixels is not None
    writer.draw(np.zeros((1, *pixels.shape), np.float32), [pixels], [row | {"scores": [0.5, 0.5]}])
    said = capsys.readouterr().err
    assert said == "warning: IM1: no DICOM object, because of its header ('a value')\n"
    assert not writer.is_written("IM1")


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_an_image_without_uids_has_no_capture(keyword: str, tmp_path: Path) -> None:
    header = mammogram("LEFT", "CC", number=1)
    header.save_as(tmp_path / "IM1", enforce_file_format=True)
    file = pydicom.dcmread(tmp_path / "IM1")
    delattr(file, keyword)
    pydicom.dcmwrite(tmp_path / "IM1", file, enforce_file_format=False)
    assert source_of(tmp_path / "IM1") is None
    (tmp_path / "a.txt").write_text("no image")
    assert source_of(tmp_path / "a.txt") is None
    writer = captures(tmp_path)
    assert writer.is_written("IM1")  # there is nothing to wait for
    ((row, pixels),) = prepare_files(tmp_path, ["IM1"], settings=SETTINGS)
    assert pixels is not None
    writer.draw(np.zeros((1, *pixels.shape), np.float32), [pixels], [row | {"scores": [0.5, 0.5]}])
    assert not writer.file_of("IM1").exists()


def exam_of(paths: list[str]) -> Exam:
    """An exam of a left CC and a right CC with the scores 0.25 and 0.75."""
    images = tuple(
        ExamImage(path, side, "CC", Scored((1 - score, score), score, score / 2, "benign"))
        for path, side, score in zip(paths, ("LEFT", "RIGHT"), (0.25, 0.75), strict=True)
    )
    breasts = tuple(
        ExamPart("breast", image.laterality, (image,), ("MLO",), image.scored) for image in images
    )
    return Exam("exam1", ExamPart("exam", None, images, (), Scored((0.5, 0.5), 0.5)), breasts)


def test_a_report_has_the_scores_and_refers_to_the_images(tmp_path: Path) -> None:
    sources: list[Dataset] = []
    for number, side in enumerate(("LEFT", "RIGHT"), start=1):
        sources.append(mammogram(side, "CC", number=number))  # type: ignore[arg-type]
        save(sources[-1], tmp_path / f"IM{number}")
    (tmp_path / "sr").mkdir()
    (tmp_path / "sr" / "exam7.dcm").write_bytes(b"of an earlier call")
    exams = [exam_of(["IM1", "IM2"]), exam_of(["no.png", "other.png"])]
    given: dict[str, Any] = {"folder": tmp_path / "sr", "root": tmp_path, "maker": MAKER, "task": PATHOLOGY}
    assert write_score_reports(exams, **given) == (1, 1)
    assert [file.name for file in (tmp_path / "sr").iterdir()] == ["exam1.dcm"]
    report = hd.sr.srread(tmp_path / "sr" / "exam1.dcm")
    assert isinstance(report, hd.sr.ComprehensiveSR)
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert (report.CompletionFlag, report.PreliminaryFlag, report.VerificationFlag) == (
        "COMPLETE",
        "PRELIMINARY",
        "UNVERIFIED",
    )
    found = {
        group.tracking_identifier: (
            [measurement.value for measurement in group.get_measurements()],
            [item.referenced_sop_instance_uid for item in group.source_images],
            group.finding_sites[0].laterality and group.finding_sites[0].laterality.meaning,
        )
        for group in report.content.get_image_measurement_groups()
    }
    left, right = (source.SOPInstanceUID for source in sources)
    assert found == {
        "exam": ([0.5], [left, right], None),
        "LEFT breast": ([0.25, 0.125], [left], "Left"),
        "RIGHT breast": ([0.75, 0.375], [right], "Right"),
        "image 1 LEFT CC": ([0.25, 0.125], [left], "Left"),
        "image 2 RIGHT CC": ([0.75, 0.375], [right], "Right"),
    }
    (evidence,) = report.CurrentRequestedProcedureEvidenceSequence
    assert evidence.StudyInstanceUID == report.StudyInstanceUID == sources[0].StudyInstanceUID
    series = {
        item.SeriesInstanceUID: item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in evidence.ReferencedSeriesSequence
    }
    assert series == {source.SeriesInstanceUID: source.SOPInstanceUID for source in sources}
    assert (report.PatientID, report.AccessionNumber) == (PATIENT, ACCESSION)
    texts = [str(item.get("TextValue")) for item in report.ContentSequence]
    assert MAKER.run in texts
    assert MAKER.version in texts
    assert any(NOT_CLINICAL in text for text in texts)
    first = report.SOPInstanceUID
    write_score_reports(exams[:1], **given)
    assert pydicom.dcmread(tmp_path / "sr" / "exam1.dcm").SOPInstanceUID == first
    write_score_reports([exam_of(["IM2", "IM1"])], **given)  # other scores of the same images
    assert pydicom.dcmread(tmp_path / "sr" / "exam1.dcm").SOPInstanceUID != first


def test_a_report_of_classes_has_a_score_for_each(tmp_path: Path) -> None:
    density = Task.shipped("density")
    save(dicom_object("mammogram", number=1, pixels=np.eye(4, dtype=np.uint16)), tmp_path / "IM1")
    scored = Scored((0.1, 0.2, 0.3, 0.4), called=density.classes[3])
    image = ExamImage("IM1", None, None, scored)
    exam = Exam("exam1", ExamPart("exam", None, (image,), (), scored), ())
    write_score_reports([exam], folder=tmp_path / "sr", root=tmp_path, maker=MAKER, task=density)
    group = hd.sr.srread(tmp_path / "sr" / "exam1.dcm").content.get_image_measurement_groups()[0]
    assert [measurement.value for measurement in group.get_measurements()] == [0.1, 0.2, 0.3, 0.4]
    assert density.classes[3] in group.get_measurements()[3].name.meaning


@pytest.mark.slow
def test_real_films_have_captures_and_a_report(real_dicoms: Path, tmp_path: Path) -> None:
    """Each image of CBIS-DDSM has a study of its own: the report is in that of the first."""
    files = sorted(real_dicoms.rglob("*.dcm"))[:2]
    for number, file in enumerate(files, start=1):
        shutil.copy(file, tmp_path / f"IM{number}")
        source, capture = pydicom.dcmread(file), capture_of(tmp_path, f"IM{number}")
        assert (capture.Rows, capture.Columns) == (source.Rows, source.Columns)
        assert capture.pixel_array.shape == (source.Rows, source.Columns, 3)
        assert capture.PatientID == source.PatientID
    exam = exam_of(["IM1", "IM2"])
    write_score_reports([exam], folder=tmp_path / "sr", root=tmp_path, maker=MAKER, task=PATHOLOGY)
    report = hd.sr.srread(tmp_path / "sr" / "exam1.dcm")
    assert report.StudyInstanceUID == source_of(tmp_path / "IM1").StudyInstanceUID  # type: ignore[union-attr]
    assert len(report.PertinentOtherEvidenceSequence) == 1
