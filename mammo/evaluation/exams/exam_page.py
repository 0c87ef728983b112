"""The HTML page of new exams: scores by exam, breast and image, with pictures of the heat."""

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mammo.atomic_files import report_unwritable, write_atomically
from mammo.data.samples import SIDES
from mammo.data.tasks import Task
from mammo.evaluation.exams.exam_scores import Exam, ExamImage
from mammo.evaluation.report.html_page import render_page
from mammo.evaluation.report.report_content import data_pictures

_TEMPLATES = Path(__file__).parent / "templates"
_MOST_EXAMS = 50  # with pictures, so that a browser opens the page
# What a file without a score is, by the word for it in the table of these files.
_KINDS = {
    "dicomdir": "lists of the files of a medium (DICOMDIR)",
    "report": "reports and other documents",
    "presentation_state": "presentation states",
    "no_image": "DICOM objects without an image",
    "tomosynthesis": "tomosynthesis volumes, slices and projections",
    "synthetic": "synthetic images, computed from a tomosynthesis",
    "spot": "spot compression and magnified views",
    "biopsy": "images of biopsies and localisations",
    "specimen": "images of specimens",
    "secondary_capture": "secondary captures that are no scanned films",
    "other_modality": "images of other modalities",
    "for_processing": "raw images, FOR PROCESSING",
    "crop_or_mask": "cropped images and lesion masks of CBIS-DDSM",
    "other_view": "views that are not among those of the run",
    "no_place": "images without a known exam, side or view",
    "not_in_table": "files that the given table does not list",
    "unreadable": "files that are no image or cannot be read",
}


def write_page(
    file: Path,
    exams: Sequence[Exam],
    alone: Sequence[ExamImage],
    *,
    picture_of: Callable[[str], Path] | None,
    size: tuple[int, int],
    task: Task,
    without: dict[str, int],
    facts: dict[str, Any],
    tables: Sequence[Path],
) -> None:
    """Write the page, one file that needs no other. It has no path and no identifier of a header.

    Args:
        file: file of the page.
        exams: exams with scores.
        alone: images of no known exam.
        picture_of: function that returns the picture of a path; None for a page without pictures.
        size: H and W of the prepared images; the caption in a picture, below the image, is not shown.
        task: task of the run.
        without: numbers of files without a score, by the word for why.
        facts: `run`, the name of the run, `commit`, `method` of the heat, `calibrated`, whether there are
            probabilities, and `hanging`, see `Pictures`.
        tables: tables that the page refers to: of the scores, of the exams and of the files without a score.

    Raises:
        ConfigError: the file cannot be written.
    """
    by_score = sorted(exams, key=_height, reverse=True)
    drawn = exams if len(exams) <= _MOST_EXAMS else by_score[:_MOST_EXAMS]
    pictures = {} if picture_of is None else _pictures(drawn, alone[:_MOST_EXAMS], picture_of, size)
    now = datetime.datetime.now().astimezone()
    page = render_page(
        _TEMPLATES / "exams.html.j2",
        {
            "exams": [(number, exam, exam in drawn) for number, exam in enumerate(exams, start=1)],
            "drawn": len(drawn),
            "alone": alone,
            "pictures": pictures,
            "sides": SIDES[::-1],  # as mammograms hang
            "task": task,
            "without": [(_KINDS[kind], kind, count) for kind, count in without.items()],
            "tables": [table.name for table in tables],
            "written": f"{now:%-d %B %Y at %H:%M}",
            **facts,
        },
        script=_TEMPLATES / "exams.js",
        style=_TEMPLATES / "exams.css",
        hung=_hung,
    )
    with report_unwritable("output", file):
        write_atomically(file, page)


def _height(exam: Exam) -> float:
    """Return the score of an exam, of its likeliest class without a positive one."""
    if exam.whole.scored is None:
        return 0.0
    malignancy = exam.whole.scored.malignancy
    return max(exam.whole.scored.scores) if malignancy is None else malignancy


def _hung(exam: Exam) -> list[tuple[str, list[ExamImage]]]:
    """Return the views of an exam as mammograms hang, each with its images, none for a missing one.

    The right breast is before the left one of the same view; images without side or view come last.
    """
    images, missing = exam.whole.images, set(exam.whole.missing)
    views = {name.partition("_")[2] for name in missing} | {image.view for image in images if image.view}
    found: list[tuple[str, list[ExamImage]]] = []
    for view in sorted(views):
        for side in SIDES[::-1]:
            of_place = [image for image in images if (image.laterality, image.view) == (side, view)]
            if of_place or f"{side}_{view}" in missing:
                found.append((f"{side} {view}", of_place))
    shown = {image.path for _, of_place in found for image in of_place}
    return found + [("", [image]) for image in images if image.path not in shown]


def _pictures(
    exams: Sequence[Exam],
    alone: Sequence[ExamImage],
    picture_of: Callable[[str], Path],
    size: tuple[int, int],
) -> dict[str, Any]:
    """Return the pictures of images as data URIs, by path."""
    paths = [image.path for exam in exams for image in exam.whole.images] + [image.path for image in alone]
    files = [picture_of(path) for path in paths]
    found = zip(paths, data_pictures(files, aspect=size[0] / size[1]), strict=True)
    return {path: picture for path, picture in found if picture is not None}
