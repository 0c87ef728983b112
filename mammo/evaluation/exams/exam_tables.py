"""Tables of new exams: the scores by breast and exam, and the files without a score."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mammo.atomic_files import draft_of, report_unwritable
from mammo.data.tasks import Task
from mammo.evaluation.exams.exam_scores import Exam, ExamPart


def write_exams(file: Path, exams: Iterable[Exam], task: Task) -> None:
    """Write a line for each exam, followed by one for each of its breasts.

    Columns: `exam`, `unit` (exam or breast), `laterality` of a breast, `files` and `views` (of its images,
    separated by semicolons), `missing` (the usual views that it lacks), `score` (of malignancy, not
    calibrated), `probability` (calibrated) and `called` (at the run's threshold). For a task without a
    positive class, `score_<CLASS>` are in place of `score` and `probability`.

    Raises:
        ConfigError: the file cannot be written.
    """
    scores = ["score", "probability"] if task.positive else [f"score_{name}" for name in task.classes]
    columns = ["exam", "unit", "laterality", "files", "views", "missing", *scores, "called"]
    parts = ((exam.name, part) for exam in exams for part in (exam.whole, *exam.breasts))
    _write(file, columns, (_cells(name, part, task) for name, part in parts))


def write_left_out(file: Path, left_out: Iterable[dict[str, str]]) -> None:
    """Write a line for each file without a score: `path`, `kind` and `reason`.

    Raises:
        ConfigError: the file cannot be written.
    """
    columns = ["path", "kind", "reason"]
    _write(file, columns, ([each[name] for name in columns] for each in left_out))


def _cells(name: str, part: ExamPart, task: Task) -> list[Any]:
    views = ("_".join(filter(None, (image.laterality, image.view))) for image in part.images)
    known = [
        *(name, part.unit, part.laterality),
        *(";".join(image.path for image in part.images), ";".join(views), ";".join(part.missing)),
    ]
    if part.scored is None:
        return [*known, *[None] * (3 if task.positive else len(task.classes) + 1)]
    found = part.scored
    scores = [found.malignancy, found.probability] if task.positive else found.scores
    return [*known, *scores, found.called]


def _write(file: Path, columns: Sequence[str], lines: Iterator[list[Any]]) -> None:
    with (
        report_unwritable("output", file),
        draft_of(file) as draft,
        draft.open("w", newline="", encoding="utf-8", errors="surrogateescape") as opened,
    ):
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(lines)
