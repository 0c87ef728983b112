"""The table of scores of new mammograms, and its rows while they come in.

Until the end the rows stand in `OUTPUT.partial`, a line of JSON for each image in the order they come. The
table is written from it, for a breast has its score only once all its images have. Of an image nothing but
its name and the place of its row is held in memory.
"""

import csv
import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo.data.tasks import malignant_classes
from mammo.errors import ConfigError
from mammo.evaluation.prediction.input_files import Row, breast_of, in_order
from mammo.evaluation.predictions import Predictions
from mammo.evaluation.statistics.calibration import Calibration

_ROWS_AT_ONCE = 4096  # that go into the table


class Journal:
    """The rows on disk, whole at any moment: a kill costs the batches in hand.

    Args:
        output: the table to be; beside it stand `OUTPUT.partial` while it is made and `OUTPUT.json`, which
            tells what made it.
        identity: of weights and input; rows of another are refused.
        root: that paths are relative to.

    Raises:
        ConfigError: the output cannot be written, is of other weights or input, or is being written.
    """

    def __init__(self, output: Path, *, identity: dict[str, str], root: Path) -> None:
        self.output = output
        self.partial, self.facts = self.beside(output)
        self.identity = identity
        self._places: dict[str, int] = {}  # where in the file a path's row begins
        self._end = 0  # of the last whole row
        if output.is_dir() or not output.absolute().parent.is_dir():
            reason = "is a folder" if output.is_dir() else "its folder does not exist"
            raise ConfigError(f"output={output}: {reason}; name a file, such as scores.csv")
        try:
            kept = self._finished(root) if output.exists() and not self.partial.exists() else []
            self._file = self.partial.open("a+b")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read()
        except BlockingIOError as error:
            raise ConfigError(f"output={output}: another process writes it; wait, or name another") from error
        except OSError as error:
            raise ConfigError(f"output={output}: cannot be written: {error.strerror}") from error
        self.append(kept)

    @staticmethod
    def beside(output: Path) -> tuple[Path, Path]:
        """`OUTPUT.partial` and `OUTPUT.json`."""
        return output.with_name(f"{output.name}.partial"), output.with_name(f"{output.name}.json")

    def __contains__(self, path: str) -> bool:
        return path in self._places

    def row(self, path: str) -> Row:
        """The row of a path."""
        self._file.seek(self._places[path])
        row: Row = json.loads(self._file.readline())
        return row

    def append(self, rows: Sequence[Row]) -> None:
        """Add rows, at once on the disk; the row of a path that has one takes its place.

        Raises:
            ConfigError: they cannot be written.
        """
        place = self._end
        lines = [f"{json.dumps(row)}\n".encode() for row in rows]
        try:
            self._file.write(b"".join(lines))
            self._file.flush()
        except OSError as error:
            raise ConfigError(
                f"output={self.output}: cannot be written: {error.strerror}; what is scored is kept, "
                "the same command goes on from there"
            ) from error
        for row, line in zip(rows, lines, strict=True):
            self._places[row["path"]] = place
            place += len(line)
        self._end = place

    def rows(self) -> Iterator[Row]:
        """All rows, by path."""
        return (self.row(path) for path in sorted(self._places, key=in_order))

    def close(self) -> None:
        """The table is written: what made it is no longer needed."""
        self.partial.unlink()
        self._file.close()

    def _read(self) -> None:
        """Finds the rows of an unfinished file; what a kill cut short is cut off."""
        self._file.seek(0)
        first, second = self._file.readline(), self._file.readline()
        if not second.endswith(b"\n"):  # no row yet
            self._file.truncate(0)
            first = f"{json.dumps(self.identity)}\n".encode()
            self._file.write(first)
            self._end = len(first)
            return
        self._refuse_other(first, self.partial)
        self._end = len(first)
        self._file.seek(self._end)
        for line in self._file:
            try:
                path = json.loads(line)["path"] if line.endswith(b"\n") else None
            except (ValueError, KeyError, TypeError):
                path = None
            if path is None:
                break
            self._places[path] = self._end
            self._end += len(line)
        self._file.truncate(self._end)

    def _finished(self, root: Path) -> list[Row]:
        """The rows of a table that is there, but for unreadable files, which are tried again."""
        self._refuse_other(self.facts.read_bytes() if self.facts.is_file() else b"", self.output)
        with self.output.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            table = [line for line in csv.DictReader(file) if not line["error"]]
        rows, digests = [], {}
        for line in table:
            digest = breast_of(root / line["path"], line["laterality"] or None) if line["breast"] else None
            if digest is not None:
                digests[line["breast"]] = digest
        for line in table:
            # a file that has gone since keeps its breast
            breast = digests.get(line["breast"], line["breast"] or None)
            scores = [float(cell) for name, cell in line.items() if name.startswith("score_")]
            row = {key: line[key] or None for key in ("path", "laterality", "view")}
            rows.append(row | {"breast": breast, "scores": scores, "error": None})
        return rows

    def _refuse_other(self, told: bytes, file: Path) -> None:
        try:
            facts = json.loads(told)
        except ValueError:
            facts = None
        if not isinstance(facts, dict) or any(facts.get(key) != self.identity[key] for key in self.identity):
            raise ConfigError(
                f"output={self.output}: {file} holds something else than scores of this run for this input; "
                "remove it or name another output"
            )


def write_table(
    journal: Journal,
    *,
    classes: Sequence[str],
    calibration: Calibration | None,
    threshold: float,
    **facts: Any,
) -> tuple[int, int]:
    """Write the table and what made it, each whole or not at all.

    Columns: `path`, `laterality`, `view`, `score_<CLASS>`, `probability` (of malignancy, calibrated), `class`
    (the likeliest of the malignant ones where their scores together reach the threshold, else of the
    others), `breast` (a number), `breast_score` (mean score of malignancy over its images) and `error`.
    What is not known is empty.

    Returns:
        How many images have scores and how many are unreadable.

    Raises:
        ConfigError: they cannot be written.
    """
    malignant = np.isin(np.arange(len(classes)), malignant_classes(classes))
    breasts: dict[str, list[float]] = {}  # number, images, sum of their scores
    scored = failed = 0
    for row in journal.rows():
        scored, failed = scored + (row["error"] is None), failed + (row["error"] is not None)
        if row["breast"] is not None:
            breast = breasts.setdefault(row["breast"], [len(breasts) + 1, 0, 0.0])
            breast[1] += 1
            breast[2] += float(np.asarray(row["scores"])[malignant].sum())
    facts |= {"classes": classes, "threshold": threshold}
    facts |= {"calibration": None if calibration is None else calibration.to_dict()}
    told = json.dumps(journal.identity | facts | {"images": scored, "unreadable": failed}, indent=2)
    table, described = (_draft(file) for file in (journal.output, journal.facts))
    try:
        with table.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file, lineterminator="\n")
            names = [f"score_{name}" for name in classes]
            writer.writerow(
                [
                    "path",
                    "laterality",
                    "view",
                    *names,
                    "probability",
                    "class",
                    "breast",
                    "breast_score",
                    "error",
                ]
            )
            rows = journal.rows()
            while part := [row for _, row in zip(range(_ROWS_AT_ONCE), rows, strict=False)]:
                writer.writerows(_lines(part, classes, malignant, calibration, threshold, breasts))
        described.write_text(f"{told}\n")
        described.replace(journal.facts)
        table.replace(journal.output)
    except OSError as error:
        raise ConfigError(
            f"output={journal.output}: cannot be written: {error.strerror}; what is scored is kept, "
            "the same command goes on from there"
        ) from error
    journal.close()
    return scored, failed


def _draft(file: Path) -> Path:
    return file.with_name(f"{file.name}.tmp")


def _lines(
    rows: Sequence[Row],
    classes: Sequence[str],
    malignant: NDArray[np.bool_],
    calibration: Calibration | None,
    threshold: float,
    breasts: Mapping[str, Sequence[float]],
) -> Iterator[list[Any]]:
    """Cells of the table."""
    unknown = [0.0] * len(classes)
    scores = np.array([row["scores"] or unknown for row in rows])
    malignancy = scores[:, malignant].sum(axis=1)
    side = np.where((malignancy >= threshold)[:, None] == malignant, scores, -1.0)
    called = [classes[index] for index in side.argmax(axis=1)]
    probability: Sequence[float | None] = [None] * len(rows)
    if calibration is not None:
        columns = {f"score_{name}": scores[:, index] for index, name in enumerate(classes)}
        calibrated = calibration.apply(Predictions(pd.DataFrame(columns), tuple(classes), "input"))
        probability = calibrated.malignancy.tolist()
    for index, row in enumerate(rows):
        known = [row["path"], row["laterality"], row["view"]]
        if row["error"] is not None:
            yield [*known, *[None] * (len(classes) + 4), row["error"]]
            continue
        number, count, total = breasts.get(row["breast"], (None, 1, None))
        mean = None if total is None else total / count
        yield [*known, *row["scores"], probability[index], called[index], number, mean, None]
