"""The table of scores of new mammograms, and the log of its rows while they are scored.

Until all images are scored the rows are in `OUTPUT.partial`, one line of JSON per image in the order of
scoring. The table is written from this file at the end, because the score of a breast is known only once all
its images are scored. Memory holds only the path of each image and the position of its row in the file.
"""

import csv
import fcntl
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from mammo.atomic_files import draft_of, write_atomically
from mammo.errors import ConfigError
from mammo.evaluation.prediction.input_files import (
    UNREADABLE,
    Row,
    empty_row,
    exam_and_breast,
    kind_in,
    path_sort_key,
)
from mammo.evaluation.prediction.prediction_table import BreastScores, Decision
from mammo.evaluation.predictions import Reduce

_ROWS_AT_ONCE = 4096  # rows of the table formatted at a time


class PredictionLog:
    """The rows scored so far, in a file that is valid at any moment.

    A killed process loses only the batches that it was scoring.

    Args:
        output: path of the final table; the same folder holds `OUTPUT.partial`, the log, and `OUTPUT.json`,
            the description of how the table was made.
        identity: digest of the weights and path of the input; rows with another identity are refused.
        read: function that returns the rows of a finished table from its lines without error; the others are
            scored again.

    Raises:
        ConfigError: The output cannot be written, is of other weights or input, or another process writes it.
    """

    def __init__(
        self, output: Path, *, identity: dict[str, str], read: Callable[[list[dict[str, str]]], list[Row]]
    ) -> None:
        self.output = output
        self.partial, self.facts = self.beside(output)
        self.identity = identity
        self._offsets: dict[str, int] = {}  # byte offset of each path's row in the file
        self._end = 0  # byte offset behind the last complete row
        if output.is_dir() or not output.absolute().parent.is_dir():
            reason = "is a folder" if output.is_dir() else "its folder does not exist"
            raise ConfigError(f"output={output}: {reason}; name a file, such as scores.csv")
        try:
            kept = read(self._finished()) if output.exists() and not self.partial.exists() else []
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
        """Return the paths `OUTPUT.partial` and `OUTPUT.json`."""
        return output.with_name(f"{output.name}.partial"), output.with_name(f"{output.name}.json")

    def __contains__(self, path: str) -> bool:
        return path in self._offsets

    def row(self, path: str) -> Row:
        """Read the row of a path."""
        self._file.seek(self._offsets[path])
        row: Row = json.loads(self._file.readline())
        return row

    def append(self, rows: Sequence[Row]) -> None:
        """Write rows to the disk at once; a new row of a path replaces its earlier one.

        Raises:
            ConfigError: The rows cannot be written.
        """
        offset = self._end
        lines = [f"{json.dumps(row)}\n".encode() for row in rows]
        try:
            self._file.write(b"".join(lines))
            self._file.flush()
        except OSError as error:
            raise ConfigError(
                f"output={self.output}: cannot be written: {error.strerror}; the scores so far are kept, "
                "give the same command again to continue"
            ) from error
        for row, line in zip(rows, lines, strict=True):
            self._offsets[row["path"]] = offset
            offset += len(line)
        self._end = offset

    def rows(self) -> Iterator[Row]:
        """Iterate over all rows, sorted by path."""
        return (self.row(path) for path in sorted(self._offsets, key=path_sort_key))

    def close(self) -> None:
        """Remove the log, once the table is written."""
        self.partial.unlink()
        self._file.close()

    def _read(self) -> None:
        """Find the rows of an unfinished log, and cut off a last row that is incomplete."""
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
            self._offsets[path] = self._end
            self._end += len(line)
        self._file.truncate(self._end)

    def _finished(self) -> list[dict[str, str]]:
        """Read the lines of a finished table, except those with an error."""
        self._refuse_other(self.facts.read_bytes() if self.facts.is_file() else b"", self.output)
        with self.output.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            return [line for line in csv.DictReader(file) if not line["error"]]

    def _refuse_other(self, content: bytes, file: Path) -> None:
        """Raise ConfigError unless the JSON content of a file has the identity of this log."""
        try:
            facts = json.loads(content)
        except ValueError:
            facts = None
        if not isinstance(facts, dict) or any(facts.get(key) != self.identity[key] for key in self.identity):
            raise ConfigError(
                f"output={self.output}: {file} is not a table of scores of this run for this input; "
                "remove it or name another output"
            )


def image_rows(root: Path, table: Sequence[dict[str, str]]) -> list[Row]:
    """Return the rows of images from the lines of a finished table.

    Args:
        root: folder that the paths are relative to.
        table: lines of the table.
    """
    rows: list[Row] = []
    digests: dict[str, dict[str, str]] = {"exam": {}, "breast": {}}
    for line in table:
        found = exam_and_breast(root / line["path"], line["laterality"] or None)
        for name, digest in zip(digests, found, strict=True):
            if line.get(name) and digest is not None:
                digests[name][line[name]] = digest
    for line in table:
        row = empty_row(line["path"]) | {key: line[key] or None for key in ("laterality", "view")}
        row["scores"] = [float(cell) for name, cell in line.items() if name.startswith("score_")]
        # a file that has been removed since keeps its exam and breast
        row |= {
            name: known.get(line.get(name, ""), line.get(name) or None) for name, known in digests.items()
        }
        rows.append(row)
    return rows


class Counts(NamedTuple):
    """Numbers of rows of a table: with scores, and of files without, by the word for the reason."""

    scored: int
    without: dict[str, int]

    @classmethod
    def of(cls, kinds: Iterable[str | None]) -> "Counts":
        """Count rows by the word for why they have no score, see `kind_in`; None for a row with scores."""
        found = Counter(kinds)
        scored = found.pop(None, 0)
        return cls(scored, {str(kind): count for kind, count in found.most_common()})


def write_table(log: PredictionLog, decision: Decision, *, reduce: Reduce = "mean", **facts: Any) -> Counts:
    """Write the table of images and its description, see `write_lines`.

    Args:
        log: log with a row for each image.
        decision: how the scores become the other columns, see `Decision.lines`.
        reduce: how the scores of the images of a breast become one.
        facts: further entries of the description.
    """
    breasts = BreastScores(decision.task, reduce=reduce)
    for row in log.rows():
        breasts.add(row)
    counts = Counts.of(kind_in(row) for row in log.rows())

    def lines() -> Iterator[list[Any]]:
        rows = log.rows()
        while chunk := list(islice(rows, _ROWS_AT_ONCE)):
            yield from decision.lines(chunk, breasts)

    numbers = {"images": counts.scored, "unreadable": counts.without.get(UNREADABLE, 0)}
    write_lines(log, decision, decision.columns, lines(), numbers, **facts)
    return counts


def write_lines(
    log: PredictionLog,
    decision: Decision,
    columns: Sequence[str],
    lines: Iterable[list[Any]],
    numbers: dict[str, Any],
    **facts: Any,
) -> None:
    """Write a table and its description `OUTPUT.json`, each atomically, and remove the log.

    Args:
        log: log of the scores.
        decision: task, threshold and calibration, for the description.
        columns: names of the columns.
        lines: cells of each line.
        numbers: numbers of lines, the last entries of the description.
        facts: further entries of the description.

    Raises:
        ConfigError: The files cannot be written.
    """
    calibration = decision.calibration
    known: dict[str, Any] = {
        "task": decision.task.name,
        "classes": decision.task.classes,
        "threshold": decision.threshold,
    }
    known |= {"calibration": None if calibration is None else calibration.to_dict()}
    description = json.dumps(log.identity | facts | known | numbers, indent=2)
    try:
        with draft_of(log.output) as draft:
            with draft.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(columns)
                writer.writerows(lines)
            write_atomically(log.facts, f"{description}\n")  # before the table, which shows that all is done
    except OSError as error:
        raise ConfigError(
            f"output={log.output}: cannot be written: {error.strerror}; the scores so far are kept, "
            "give the same command again to continue"
        ) from error
    log.close()
