"""The table of scores of new mammograms, and the log of its rows while they are scored.

Until all images are scored the rows are in `OUTPUT.partial`, one line of JSON per image in the order of
scoring. The table is written from this file at the end, because the score of a breast is known only once all
its images are scored. Memory holds only the path of each image and the position of its row in the file.
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

from mammo.atomic_files import draft_of, write_atomically
from mammo.data.tasks import malignant_classes
from mammo.errors import ConfigError
from mammo.evaluation.prediction.input_files import Row, breast_of, path_sort_key
from mammo.evaluation.predictions import Predictions
from mammo.evaluation.statistics.calibration import Calibration

_ROWS_AT_ONCE = 4096  # rows of the table formatted at a time


class PredictionLog:
    """The rows scored so far, in a file that is valid at any moment.

    A killed process loses only the batches that it was scoring.

    Args:
        output: path of the final table; the same folder holds `OUTPUT.partial`, the log, and `OUTPUT.json`,
            the description of how the table was made.
        identity: digest of the weights and path of the input; rows with another identity are refused.
        root: folder that the paths of the images are relative to.

    Raises:
        ConfigError: The output cannot be written, is of other weights or input, or another process writes it.
    """

    def __init__(self, output: Path, *, identity: dict[str, str], root: Path) -> None:
        self.output = output
        self.partial, self.facts = self.beside(output)
        self.identity = identity
        self._offsets: dict[str, int] = {}  # byte offset of each path's row in the file
        self._end = 0  # byte offset behind the last complete row
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

    def _finished(self, root: Path) -> list[Row]:
        """Read the rows of a finished table, except those of unreadable files, which are tried again."""
        self._refuse_other(self.facts.read_bytes() if self.facts.is_file() else b"", self.output)
        with self.output.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            table = [line for line in csv.DictReader(file) if not line["error"]]
        rows, digests = [], {}
        for line in table:
            digest = breast_of(root / line["path"], line["laterality"] or None) if line["breast"] else None
            if digest is not None:
                digests[line["breast"]] = digest
        for line in table:
            # a file that has been removed since keeps its breast
            breast = digests.get(line["breast"], line["breast"] or None)
            scores = [float(cell) for name, cell in line.items() if name.startswith("score_")]
            row = {key: line[key] or None for key in ("path", "laterality", "view")}
            rows.append(row | {"breast": breast, "scores": scores, "error": None})
        return rows

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


def write_table(
    log: PredictionLog,
    *,
    classes: Sequence[str],
    calibration: Calibration | None,
    threshold: float,
    **facts: Any,
) -> tuple[int, int]:
    """Write the table and its description `OUTPUT.json`, each atomically, and remove the log.

    Columns: `path`, `laterality`, `view`, `score_<CLASS>`, `probability` (of malignancy, calibrated), `class`
    (the most probable malignant class where the sum of the malignant scores reaches the threshold, else the
    most probable other class), `breast` (a number), `breast_score` (mean score of malignancy over its
    images) and `error`. Unknown values are empty.

    Args:
        log: log with a row for each image.
        classes: names of the classes of the task.
        calibration: calibration of the run, None for an empty column `probability`.
        threshold: score of malignancy at or above which an image is called malignant.
        facts: further entries of the description.

    Returns:
        The number of images with scores and the number of unreadable images.

    Raises:
        ConfigError: The files cannot be written.
    """
    malignant = np.isin(np.arange(len(classes)), malignant_classes(classes))
    breasts: dict[str, list[float]] = {}  # number of the breast, count of its images, sum of their scores
    scored = failed = 0
    for row in log.rows():
        scored, failed = scored + (row["error"] is None), failed + (row["error"] is not None)
        if row["breast"] is not None:
            breast = breasts.setdefault(row["breast"], [len(breasts) + 1, 0, 0.0])
            breast[1] += 1
            breast[2] += float(np.asarray(row["scores"])[malignant].sum())
    facts |= {"classes": classes, "threshold": threshold}
    facts |= {"calibration": None if calibration is None else calibration.to_dict()}
    description = json.dumps(log.identity | facts | {"images": scored, "unreadable": failed}, indent=2)
    columns = ["path", "laterality", "view", *(f"score_{name}" for name in classes)]
    columns += ["probability", "class", "breast", "breast_score", "error"]
    try:
        with draft_of(log.output) as draft:
            with draft.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(columns)
                rows = log.rows()
                while chunk := [row for _, row in zip(range(_ROWS_AT_ONCE), rows, strict=False)]:
                    writer.writerows(_lines(chunk, classes, malignant, calibration, threshold, breasts))
            write_atomically(log.facts, f"{description}\n")  # before the table, which shows that all is done
    except OSError as error:
        raise ConfigError(
            f"output={log.output}: cannot be written: {error.strerror}; the scores so far are kept, "
            "give the same command again to continue"
        ) from error
    log.close()
    return scored, failed


def _lines(
    rows: Sequence[Row],
    classes: Sequence[str],
    malignant: NDArray[np.bool_],
    calibration: Calibration | None,
    threshold: float,
    breasts: Mapping[str, Sequence[float]],
) -> Iterator[list[Any]]:
    """Yield the cells of each row of the table."""
    unknown = [0.0] * len(classes)
    scores = np.array([row["scores"] or unknown for row in rows])
    malignancy = scores[:, malignant].sum(axis=1)
    candidates = np.where((malignancy >= threshold)[:, None] == malignant, scores, -1.0)
    called = [classes[index] for index in candidates.argmax(axis=1)]
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
