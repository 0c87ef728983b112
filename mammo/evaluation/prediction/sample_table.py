"""The table of scores of breasts and exams: its columns, and its lines from the scores and the threshold."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import pandas as pd

from mammo.evaluation.prediction.input_files import UNREADABLE, Row, path_sort_key
from mammo.evaluation.prediction.prediction_log import Counts
from mammo.evaluation.prediction.prediction_table import Decision
from mammo.evaluation.prediction.sample_inputs import InputSample, InputSamples, sample_key

_ROWS_AT_ONCE = 4096  # rows of the table formatted at a time


class SampleTable:
    """The table of the samples of an input.

    Columns: `sample_id`, `unit`, `laterality` (of a breast), `files` and `views` (of the images that are
    scored, separated by semicolons), `missing` (the views without an image), `score_<CLASS>`, `probability`
    (of malignancy, calibrated) and `class` as of an image, `score_<CLASS>_<VIEW>` (of each view and, of an
    exam, of each side, if the network gives them) and `error`. A file in no sample has a line of its own with
    the reason in `error`. For a task without a positive class there is no `probability`.

    Args:
        found: all samples of the input.
        row_of: function that returns the row of scores of a key, see `score_samples`.
        decision: how the scores become probabilities and classes.
    """

    def __init__(self, found: InputSamples, row_of: Callable[[str], Row], decision: Decision) -> None:
        self.found = found
        self.decision = decision
        self._row_of = row_of
        rows = (self._row_of(found.key(sample)) for sample in found.samples)
        self.parts: list[str] = next((list(row["parts"]) for row in rows if row["scores"]), [])

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        scores = [f"score_{name}" for name in self.decision.task.classes]
        called = ["probability", "class"] if self.decision.task.positive else ["class"]
        known = ["sample_id", "unit", "laterality", "files", "views", "missing"]
        return [*known, *scores, *called, *self.parts, "error"]

    def counts(self) -> tuple[Counts, int]:
        """Return the numbers of lines, and the number of samples that lack a view."""
        lines = list(self.cells())
        lacking = sum(bool(line["missing"]) for line in lines if line["error"] is None)
        return Counts.of(line["kind"] for line in lines), lacking

    def lines(self) -> Iterator[list[Any]]:
        """Yield the cells of each line, in the order of the files."""
        columns, cells = self.columns, self.cells()
        while chunk := list(islice(cells, _ROWS_AT_ONCE)):
            probability, called = self.decision.of_scores(chunk)
            for line, value, name in zip(chunk, probability, called, strict=True):
                if line["error"] is None:
                    scores = {
                        f"score_{each}": score
                        for each, score in zip(self.decision.task.classes, line["scores"], strict=True)
                    }
                    line |= {**scores, "probability": value, "class": name}
                yield [line.get(column) for column in columns]

    def frame(self) -> pd.DataFrame:
        """Return the table."""
        table = pd.DataFrame(list(self.lines()), columns=self.columns)
        text = ("sample_id", "unit", "laterality", "files", "views", "missing", "class", "error")
        return table.astype({name: "string" if name in text else "float64" for name in self.columns})

    def cells(self) -> Iterator[dict[str, Any]]:
        """Yield what is known of each line, without probability and class."""
        entries: list[tuple[str, InputSample | None]] = [
            (sample.first, sample) for sample in self.found.samples
        ]
        entries += [(path, None) for path in self.found.errors]
        for path, sample in sorted(entries, key=lambda entry: path_sort_key(entry[0])):
            if sample is None:
                yield self._failed(path, self.found.errors[path], self.found.kinds[path])
                continue
            row = self._row_of(self.found.key(sample))
            if row["scores"] is not None:
                images = [image for image in sample.images if image[0] not in row["unreadable"]]
                files, views = self.found.cells(images)
                yield {
                    "sample_id": sample.sample_id,
                    "unit": self.found.unit,
                    "laterality": sample.laterality,
                    "files": files,
                    "views": views,
                    "missing": ";".join(self.found.missing(images)) or None,
                    "scores": row["scores"],
                    **row["parts"],
                    "error": None,
                    "kind": None,
                }
            for unreadable, reason in row["unreadable"].items():
                yield self._failed(unreadable, reason, UNREADABLE)

    @staticmethod
    def _failed(path: str, reason: str, kind: str) -> dict[str, Any]:
        return {"files": path, "scores": None, "error": reason, "kind": kind}


def sample_rows(table: Sequence[dict[str, str]], *, classes: Sequence[str]) -> list[Row]:
    """Return the rows of samples from the lines of a finished table.

    Args:
        table: lines of the table.
        classes: names of the classes.
    """
    whole = [f"score_{name}" for name in classes]
    return [
        {
            "path": sample_key(line["files"], line["views"]),
            "scores": [float(line[name]) for name in whole],
            "parts": {
                name: float(cell) if cell else None
                for name, cell in line.items()
                if name.startswith("score_") and name not in whole
            },
            "unreadable": {},
            "error": None,
        }
        for line in table
    ]
