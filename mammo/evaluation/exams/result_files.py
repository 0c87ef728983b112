"""The files of the results of new exams: where they are, and those that are written once all is scored."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mammo.evaluation.exams.dicom_sources import Maker
from mammo.evaluation.exams.exam_page import write_page
from mammo.evaluation.exams.exam_scores import Exam, ExamImage, ExamScores
from mammo.evaluation.exams.exam_tables import write_exams, write_left_out
from mammo.evaluation.exams.run_heat import RunHeat
from mammo.evaluation.exams.score_reports import write_score_reports
from mammo.evaluation.prediction.prediction_log import PredictionLog
from mammo.runs import RunFolder


@dataclass(frozen=True)
class ResultFiles:
    """The files of the results, beside the table of scores `NAME.csv`.

    Attributes:
        table: table of the scores.
        page: `NAME.html`, the page; None for none.
        pictures: folder of the pictures of the heat; None for none.
        dicom: `NAME-dicom`, folder of the DICOM objects; None for none.
        captures: folder of those of the heat; None for none.
    """

    table: Path
    page: Path | None
    pictures: Path | None
    dicom: Path | None
    captures: Path | None

    @classmethod
    def beside(
        cls, table: Path, *, html: bool, dicom: bool, heat: bool, pictures: Path | None
    ) -> "ResultFiles":
        """Return the files of the results.

        Args:
            table: table of the scores.
            html: whether there is a page.
            dicom: whether there are DICOM objects.
            heat: whether page and DICOM objects include the heat.
            pictures: folder of the pictures; None for `NAME-heatmaps` where the page needs one.
        """
        page = table.with_name(f"{table.stem}.html") if html else None
        if pictures is None and html and heat:
            pictures = table.with_name(f"{table.stem}-heatmaps")
        folder = table.with_name(f"{table.stem}-dicom") if dicom else None
        captures = folder / "heat" if folder is not None and heat else None
        return cls(table, page, pictures, folder, captures)

    @property
    def exams(self) -> Path:
        """`NAME-exams.csv`, the table of the scores by exam and breast."""
        return self.table.with_name(f"{self.table.stem}-exams.csv")

    @property
    def left_out(self) -> Path:
        """`NAME-left_out.csv`, the table of the files without a score."""
        return self.table.with_name(f"{self.table.stem}-left_out.csv")

    @property
    def written(self) -> dict[str, Path]:
        """The files and folders by what they are."""
        others = {"page": self.page, "pictures": self.pictures, "DICOM objects": self.dicom}
        named = {"written to": self.table, "exams": self.exams, "left out": self.left_out}
        return named | {name: place for name, place in others.items() if place is not None}

    @property
    def ours(self) -> list[Path]:
        """All of them, and those that exist while the images are scored: none of them is input."""
        return [*self.written.values(), *PredictionLog.beside(self.table)]


def write_results(
    files: ResultFiles,
    scores: ExamScores,
    exams: Sequence[Exam],
    alone: Sequence[ExamImage],
    left_out: Sequence[dict[str, str]],
    *,
    run: RunFolder,
    root: Path,
    unit: str,
    heat: RunHeat,
    hanging: bool,
) -> None:
    """Write what needs the scores of all images: the tables of exams, the page and the DICOM reports.

    What is left out is printed.

    Args:
        files: where the results are.
        scores: how the scores of the exams were computed.
        exams: exams with scores.
        alone: images of no known exam.
        left_out: files without a score, see `left_out_images`.
        run: the run.
        root: folder that the paths are relative to.
        unit: what the run scores.
        heat: the heat.
        hanging: see `Pictures`.

    Raises:
        ConfigError: a file cannot be written.
    """
    task = scores.decision.task
    write_exams(files.exams, exams, task)
    write_left_out(files.left_out, left_out)
    without: dict[str, int] = {}
    for each in left_out:
        without[each["kind"]] = without.get(each["kind"], 0) + 1
    others = {kind: count for kind, count in without.items() if kind not in ("unreadable", "crop_or_mask")}
    if others:
        said = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
        total = sum(others.values())
        words = "file is" if total == 1 else "files are"
        print(f"{total} {words} left out: {said}; {files.left_out} has the reasons")
    maker = Maker.of(run)
    if files.page is not None:
        data = run.config()["data"]
        facts = {
            "run": maker.run,
            "commit": run.facts().get("commit"),
            "method": heat.method,
            "calibrated": scores.decision.calibration is not None,
            "hanging": hanging,
            "unit": unit,
            "reduce": scores.reduce,
        }
        write_page(
            files.page,
            exams,
            alone,
            picture_of=None if heat.pictures is None else heat.pictures.file_of,
            size=(data["height"], data["width"]),
            task=task,
            without=without,
            facts=facts,
            tables=[files.table, files.exams, files.left_out],
        )
    if files.dicom is not None:
        folder = files.dicom / "scores"
        _, failed = write_score_reports(exams, folder=folder, root=root, maker=maker, task=task)
        if failed or alone:
            print(
                f"warning: no DICOM report of {failed} exams and {len(alone)} images of no known exam, which "
                "have no header with the UIDs of study, series and instance",
                file=sys.stderr,
            )
