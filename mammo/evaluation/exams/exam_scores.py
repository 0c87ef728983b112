"""The scores of new images by exam: of each image, each breast and the exam."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mammo.data.samples import SIDES, part_names, place_name, place_names
from mammo.evaluation.prediction.input_files import Row, kind_in
from mammo.evaluation.prediction.prediction_log import PredictionLog
from mammo.evaluation.prediction.prediction_table import Decision
from mammo.evaluation.prediction.sample_inputs import InputSample, InputSamples
from mammo.evaluation.predictions import Reduce


@dataclass(frozen=True)
class Scored:
    """The score of an image, breast or exam.

    Attributes:
        scores: by class.
        malignancy: score of the positive classes, not calibrated; None for a task without one.
        probability: calibrated score; None if the run has no calibration for it.
        called: what it is called at the run's threshold; None if there is none.
    """

    scores: tuple[float, ...]
    malignancy: float | None = None
    probability: float | None = None
    called: str | None = None


@dataclass(frozen=True)
class ExamImage:
    """An image of an exam: its path, side, view and, where the network gives one, its own score."""

    path: str
    laterality: str | None
    view: str | None
    scored: Scored | None


@dataclass(frozen=True)
class ExamPart:
    """A breast of an exam, or the whole exam.

    Attributes:
        unit: what it is.
        laterality: side of a breast.
        images: its images.
        missing: names of the usual views that it lacks.
        scored: its score; None where the network gives none.
    """

    unit: Literal["breast", "exam"]
    laterality: str | None
    images: tuple[ExamImage, ...]
    missing: tuple[str, ...]
    scored: Scored | None


@dataclass(frozen=True)
class Exam:
    """An exam, without identifiers of its headers.

    Attributes:
        name: `exam1`, with the number of the exam in the input, or the name in a table of the input.
        whole: the exam.
        breasts: its breasts of known side, left before right.
    """

    name: str
    whole: ExamPart
    breasts: tuple[ExamPart, ...]


class ExamScores:
    """From the scores of a run's samples to those of images, breasts and exams.

    The score of a breast or exam is that of the network if the run scores breasts or exams, else the mean or
    maximum of the scores of its samples, with the calibration and threshold of `breast` and `patient` that
    the run fixed on its validation images.

    Args:
        decision: how the scores become probabilities and classes.
        reduce: `mean` or `max`.
        views: views of a breast, for what is missing.
    """

    def __init__(self, decision: Decision, *, reduce: Reduce, views: Sequence[str]) -> None:
        self.decision = decision
        self.reduce = reduce
        self.views = tuple(views)
        self._positives = decision.task.positives

    def of_images(self, log: PredictionLog) -> tuple[list[Exam], list[ExamImage]]:
        """Return the exams of a run that scores images, and the scored images of no known exam.

        Args:
            log: log with the rows of all files.
        """
        exams: dict[str, list[Row]] = {}
        alone: list[Row] = []
        for row in log.rows():
            if kind_in(row) is None:
                known = row.get("exam")
                (alone if known is None else exams.setdefault(known, [])).append(row)
        return (
            [self._exam_of_images(f"exam{place}", rows) for place, rows in enumerate(exams.values(), 1)],
            self._images(alone),
        )

    def of_samples(self, found: InputSamples, row_of: Callable[[str], Row]) -> list[Exam]:
        """Return the exams of a run that scores breasts or exams.

        Args:
            found: samples of the input.
            row_of: function that returns the row of a sample's key.
        """
        exams: dict[str, list[tuple[InputSample, Row]]] = {}
        for sample in found.samples:
            row = row_of(found.key(sample))
            if row["scores"] is not None:
                exams.setdefault(sample.exam, []).append((sample, row))
        return [self._exam_of_samples(name, samples, found) for name, samples in exams.items()]

    def _exam_of_images(self, name: str, rows: Sequence[Row]) -> Exam:
        images = self._images(rows)
        breasts = []
        for side in SIDES:
            of_side = [image for image in images if image.laterality == side]
            if of_side:
                breasts.append(self._part("breast", side, of_side, self._reduced(of_side, "breast")))
        whole = self._part("exam", None, images, self._reduced(images, "patient"))
        return Exam(name, whole, tuple(breasts))

    def _exam_of_samples(
        self, name: str, samples: Sequence[tuple[InputSample, Row]], found: InputSamples
    ) -> Exam:
        images: list[ExamImage] = []
        own = [self.sample(row["scores"]) for _, row in samples]
        for sample, row in samples:
            for path, laterality, view in sample.images:
                if path not in row["unreadable"]:
                    scored = self._of_part(row, place_name(found.unit, laterality, view), found)
                    images.append(ExamImage(path, laterality, view, scored))

        def of(side: str) -> list[ExamImage]:
            return [image for image in images if image.laterality == side]

        if found.unit == "exam":
            of_side: Mapping[str, Scored | None] = {
                side: self._of_part(samples[0][1], side, found, unit="breast") for side in SIDES if of(side)
            }
            whole: Scored | None = own[0]
        else:
            of_side = {
                sample.laterality: scored
                for (sample, _), scored in zip(samples, own, strict=True)
                if sample.laterality is not None
            }
            whole = self._unit([scored.scores for scored in own], "patient")
        breasts = [self._part("breast", side, of(side), of_side[side]) for side in SIDES if side in of_side]
        return Exam(name, self._part("exam", None, images, whole), tuple(breasts))

    def sample(self, scores: Sequence[float]) -> Scored:
        """Return the score of a sample of the run."""
        probability, called = self.decision.of_scores([{"scores": scores}])
        malignancy = self._malignancy(scores)
        if malignancy is not None:
            called = [self._word(malignancy, self.decision.threshold)]
        return Scored(tuple(scores), malignancy, probability[0], called[0])

    def _images(self, rows: Iterable[Row]) -> list[ExamImage]:
        return [
            ExamImage(row["path"], row["laterality"], row["view"], self.sample(row["scores"])) for row in rows
        ]

    def _part(
        self,
        unit: Literal["breast", "exam"],
        side: str | None,
        images: Sequence[ExamImage],
        scored: Scored | None,
    ) -> ExamPart:
        present = {place_name(unit, image.laterality or "", image.view or "") for image in images}
        missing = (name for name in place_names(unit, self.views) if name not in present)
        return ExamPart(unit, side, tuple(images), tuple(missing), scored)

    def _reduced(self, images: Sequence[ExamImage], unit: Literal["breast", "patient"]) -> Scored:
        return self._unit([image.scored.scores for image in images if image.scored is not None], unit)

    def _unit(self, members: Sequence[Sequence[float]], unit: Literal["breast", "patient"]) -> Scored:
        """Return the score of a breast or exam from those of its samples, by class."""
        mean = tuple(np.mean(members, axis=0).tolist())
        each = [self._malignancy(scores) for scores in members]
        values = [value for value in each if value is not None]
        if not values:
            return Scored(mean, called=self.decision.task.classes[int(np.argmax(mean))])
        score = max(values) if self.reduce == "max" else math.fsum(values) / len(values)
        return self._calibrated(mean, score, unit)

    def _of_part(
        self, row: Row, part: str, found: InputSamples, *, unit: Literal["breast"] | None = None
    ) -> Scored | None:
        """Return the score that the network gives to a view or side of a sample; None where it gives none."""
        assert part in part_names(found.unit, found.views)
        names = [f"score_{name}_{part}" for name in self.decision.task.classes]
        values = [row["parts"].get(name) for name in names]
        scores = tuple(value for value in values if value is not None)
        if len(scores) < len(names):
            return None
        malignancy = self._malignancy(scores)
        if malignancy is None:
            return Scored(scores, called=self.decision.task.classes[int(np.argmax(scores))])
        return Scored(scores, malignancy) if unit is None else self._calibrated(scores, malignancy, unit)

    def _calibrated(
        self, scores: tuple[float, ...], malignancy: float, unit: Literal["breast", "patient"]
    ) -> Scored:
        calibration = self.decision.calibration
        if calibration is None:
            return Scored(scores, malignancy)
        mapped = calibration.mapped(np.array([malignancy]), unit, self.reduce)
        threshold = calibration.threshold(unit, self.reduce)
        called = None if math.isnan(threshold) else self._word(malignancy, threshold)
        return Scored(scores, malignancy, None if mapped is None else float(mapped[0]), called)

    def _malignancy(self, scores: Sequence[float]) -> float | None:
        return sum(scores[index] for index in self._positives) if self._positives else None

    def _word(self, malignancy: float, threshold: float | None) -> str:
        assert threshold is not None
        return self.decision.task.words["positive" if malignancy >= threshold else "negative"]


def left_out_images(log: PredictionLog) -> Iterator[dict[str, str]]:
    """Yield `path`, `kind` and `reason` of the files of a run of images that have no score."""
    for row in log.rows():
        if (kind := kind_in(row)) is not None:
            yield {"path": row["path"], "kind": kind, "reason": row["error"]}


def left_out_samples(lines: Iterable[dict[str, Any]]) -> Iterator[dict[str, str]]:
    """Yield `path`, `kind` and `reason` of the files of a run of breasts or exams that are in no score.

    Args:
        lines: lines of `SampleTable.cells`.
    """
    for line in lines:
        if line["kind"] is not None:
            yield {"path": line["files"], "kind": line["kind"], "reason": line["error"]}
