"""The table of scores of new mammograms: its columns, and its rows from the scores and the threshold."""

import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mammo.data.samples import PLURALS
from mammo.data.tasks import Task
from mammo.evaluation.evaluation_files import calibration_of
from mammo.evaluation.prediction.input_files import Row
from mammo.evaluation.predictions import Predictions, Reduce
from mammo.evaluation.statistics.calibration import Calibration
from mammo.runs import RunFolder


@dataclass(frozen=True)
class Decision:
    """How the scores of a run become probabilities and classes.

    Attributes:
        task: task of the run.
        calibration: calibration of the run; None for no probabilities.
        threshold: score of malignancy at or above which a sample (an image, breast or exam) is called
            malignant; None for a task without a positive class.
    """

    task: Task
    calibration: Calibration | None
    threshold: float | None

    @classmethod
    def of(cls, run: RunFolder) -> "Decision":
        """Return what the run fixed on its validation images; what is missing is printed on stderr."""
        task = Task.of(run.config()["task"])
        if not task.positive:
            return cls(task, None, None)
        calibration = calibration_of(run, may_score=False)
        if calibration is None:
            _say(
                "the run has no calibration.json of its current weights, so probabilities stay empty and the "
                "threshold is 0.5; "
                f"run python -m mammo.evaluate run={run.path}, then this command again, to add both"
            )
            return cls(task, None, 0.5)
        threshold = calibration.threshold()
        if math.isnan(threshold):
            _say(
                f"calibration.json of the run has no threshold for {PLURALS[calibration.unit]}; the "
                "threshold is 0.5"
            )
            threshold = 0.5
        return cls(task, calibration, threshold)

    @property
    def columns(self) -> list[str]:
        """Names of the columns of the table, see `lines`."""
        scores = [f"score_{name}" for name in self.task.classes]
        known = ["path", "laterality", "view"]
        if not self.task.positive:
            return [*known, *scores, "class", "breast", "exam", "error"]
        return [*known, *scores, "probability", "class", "breast", "breast_score", "exam", "error"]

    def of_scores(self, rows: Sequence[Row]) -> tuple[Sequence[float | None], list[str]]:
        """Return the cells `probability` and `class` of rows; those of a row without scores mean nothing."""
        classes = self.task.classes
        scores = np.array([row["scores"] or [0.0] * len(classes) for row in rows])
        candidates = scores
        if self.threshold is not None:
            malignant = np.isin(np.arange(len(classes)), self.task.positives)
            malignancy = scores[:, malignant].sum(axis=1)
            candidates = np.where((malignancy >= self.threshold)[:, None] == malignant, scores, -1.0)
        called = [classes[index] for index in candidates.argmax(axis=1)]
        if self.calibration is None:
            return [None] * len(rows), called
        columns = {f"score_{name}": scores[:, index] for index, name in enumerate(classes)}
        calibrated = self.calibration.apply(Predictions(pd.DataFrame(columns), self.task, "input"))
        return calibrated.malignancy.tolist(), called

    def lines(self, rows: Sequence[Row], breasts: "BreastScores") -> Iterator[list[Any]]:
        """Yield the cells of each row of the table.

        Columns: `path`, `laterality`, `view`, `score_<CLASS>`, `probability` (of malignancy, calibrated),
        `class` (the most probable malignant class where the sum of the malignant scores reaches the
        threshold, else the most probable other class), `breast` (a number), `breast_score` (score of
        malignancy over its images), `exam` (such as exam1) and `error`. Unknown values are None. For a task
        without a positive class `class` is the most probable one, and there are no columns `probability` and
        `breast_score`.

        Args:
            rows: images with their scores.
            breasts: scores of the breasts of all images.
        """
        classes, positive = self.task.classes, bool(self.task.positive)
        probability, called = self.of_scores(rows)
        for index, row in enumerate(rows):
            known = [row["path"], row["laterality"], row["view"]]
            if row["error"] is not None:
                yield [*known, *[None] * (len(classes) + (5 if positive else 3)), row["error"]]
                continue
            number, score, exam = breasts.of(row)
            if positive:
                yield [*known, *row["scores"], probability[index], called[index], number, score, exam, None]
            else:
                yield [*known, *row["scores"], called[index], number, exam, None]

    def frame(self, rows: Sequence[Row]) -> pd.DataFrame:
        """Return the table of images with their scores, in their order."""
        breasts = BreastScores(self.task)
        for row in rows:
            breasts.add(row)
        table = pd.DataFrame(list(self.lines(rows, breasts)) if rows else [], columns=self.columns)
        text = dict.fromkeys(("path", "laterality", "view", "class", "exam", "error"), "string")
        numbers = [name for name in self.columns if name not in text and name != "breast"]
        return table.astype(text | dict.fromkeys(numbers, "float64") | {"breast": "Int64"})


class BreastScores:
    """The breasts and exams of the images of a table: their numbers, and the score of malignancy of a breast.

    Args:
        task: task of the run.
        reduce: how the scores of the images of a breast become one.
    """

    def __init__(self, task: Task, *, reduce: Reduce = "mean") -> None:
        self._malignant = np.isin(np.arange(len(task.classes)), task.positives)
        self._reduce = reduce
        self._found: dict[str, list[float]] = {}  # number of the breast, count of its images, sum, highest
        self._exams: dict[str, str] = {}

    def add(self, row: Row) -> None:
        """Add an image; one without a known breast is left out."""
        if (exam := row.get("exam")) is not None:
            self._exams.setdefault(exam, f"exam{len(self._exams) + 1}")
        if row["breast"] is not None:
            breast = self._found.setdefault(row["breast"], [len(self._found) + 1, 0, 0.0, 0.0])
            score = float(np.asarray(row["scores"])[self._malignant].sum())
            breast[1:] = breast[1] + 1, breast[2] + score, max(breast[3], score)

    def of(self, row: Row) -> tuple[float | None, float | None, str | None]:
        """Return number and score of the breast of an image, and name of its exam; None where not known."""
        exam = self._exams.get(row.get("exam") or "")
        if row["breast"] is None:
            return None, None, exam
        number, count, total, highest = self._found[row["breast"]]
        return number, total / count if self._reduce == "mean" else highest, exam


def say_notes(rows: Iterable[Row]) -> None:
    """Print on stderr what is to be known of the grey values of images, with the number of images."""
    for note, count in Counter(note for row in rows for note in row.get("notes", ())).most_common():
        _say(f"warning: {count} {'image' if count == 1 else 'images'}: {note}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
