"""A CSV file with the row numbers of a spreadsheet, so that an error can name the row to correct."""

import csv
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mammo.errors import DataError

_MISSING = {"", "N/A", "NA", "NAN", "<NA>", "NULL"}


@dataclass(frozen=True)
class CsvTable:
    """Stripped cells of a CSV file.

    Attributes:
        path: The file.
        cells: String columns with names in lower_snake_case; missing cells are NA; the index is the row
            number a spreadsheet shows (the header is row 1, a quoted newline starts no new row).
    """

    path: Path
    cells: pd.DataFrame

    @classmethod
    def read(cls, path: Path) -> "CsvTable":
        """Read a CSV file separated by comma, semicolon or tab; raises DataError."""
        records = _records(path)
        header = ["_".join(name.lower().replace("-", " ").split()) for name in records[0]]
        repeated = sorted({name for name in header if name and header.count(name) > 1})
        if repeated:
            raise DataError(f"{path}: column '{repeated[0]}' is there twice; rename or delete one")
        rows: dict[int, list[str | None]] = {}
        for number, record in enumerate(records[1:], start=2):
            stripped = [cell.strip() for cell in record]
            if any(stripped[len(header) :]):
                raise DataError(
                    f"{path}, row {number}: {len(record)} cells under {len(header)} column names; "
                    "put quotes around a cell that contains the separator"
                )
            if any(stripped):
                filled = (stripped + [""] * len(header))[: len(header)]
                rows[number] = [None if cell.upper() in _MISSING else cell for cell in filled]
        return cls(path, pd.DataFrame.from_dict(rows, orient="index", columns=header, dtype="string"))

    def refuse(self, row: object, problem: str) -> DataError:
        """The error that names file, row and problem."""
        return DataError(f"{self.path}, row {row}: {problem}")

    def require(self, *names: str) -> None:
        """Raise DataError unless every column is there, with the nearest name where one is near."""
        for name in names:
            if name not in self.cells:
                near = difflib.get_close_matches(name, list(self.cells.columns), n=1)
                remedy = f"rename '{near[0]}' to '{name}'" if near else f"add a column '{name}'"
                raise DataError(
                    f"{self.path}: no column '{name}' among {', '.join(self.cells.columns)}; {remedy}"
                )

    def text(self, name: str, *, required: bool = False) -> "pd.Series[str]":
        """A column as text, all NA if the table has no such column.

        Raises:
            DataError: The column is required and a cell is empty.
        """
        if name not in self.cells:
            return pd.Series(pd.NA, index=self.cells.index, dtype="string", name=name)
        column = self.cells[name]
        if required and column.isna().any():
            raise self.refuse(column.index[column.isna()][0], f"no {name}; fill it in or delete the row")
        return column

    def words(
        self,
        name: str,
        meanings: Mapping[str, str],
        *,
        required: bool = False,
        remedy: str = "leave it empty",
    ) -> "pd.Series[str]":
        """A column of words from a small vocabulary, whatever their case.

        Args:
            name: Column.
            meanings: From the word, in upper case with underscores, to its meaning in the tables.
            required: Whether an empty cell is an error.
            remedy: What to do about any other word.

        Raises:
            DataError: A cell holds another word.
        """
        column = self.text(name, required=required)
        keys = column.str.upper().str.replace(r"[\s-]+", "_", regex=True)
        unknown = column[column.notna() & ~keys.isin(list(meanings))]
        if len(unknown):
            known = ", ".join(dict.fromkeys(meanings))
            problem = f"{name} '{unknown.iloc[0]}' is none of {known}; correct it or {remedy}"
            raise self.refuse(unknown.index[0], problem)
        return keys.map(meanings).astype("string")

    def numbers(self, name: str, *, required: bool = False) -> "pd.Series[float]":
        """A column of finite numbers, Float64; raises DataError for anything else."""
        column = self.text(name, required=required)
        numbers = pd.to_numeric(column, errors="coerce").astype("Float64")
        finite = numbers.notna() & (numbers.abs() < float("inf")).fillna(value=False)
        wrong = column[column.notna() & ~finite]
        if len(wrong):
            raise self.refuse(wrong.index[0], f"{name} '{wrong.iloc[0]}' is no number; correct it")
        return numbers

    def grades(self, name: str, *, highest: int, letters: Sequence[str] = ()) -> "pd.Series[int]":
        """A column of grades 1..highest, Int64, where 0 means missing; raises DataError.

        Args:
            name: Column.
            highest: The highest grade.
            letters: Letters in use for grades 1, 2, ...
        """
        column = self.text(name)
        grade_of = {letter: str(grade) for grade, letter in enumerate(letters, start=1)}
        grades = pd.to_numeric(column.str.upper().replace(grade_of), errors="coerce").astype("Float64")
        wrong = column[column.notna() & ~grades.isin(range(highest + 1))]
        if len(wrong):
            problem = (
                f"{name} '{wrong.iloc[0]}' is no grade from 1 to {highest}; correct it or leave it empty"
            )
            raise self.refuse(wrong.index[0], problem)
        return grades.astype("Int64").mask(grades == 0)


def _records(path: Path) -> list[list[str]]:
    """All records of a CSV file, the header first."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = file.readline()
            file.seek(0)
            records = list(csv.reader(file, delimiter=max(",;\t", key=header.count)))
    except OSError as error:
        raise DataError(f"{path}: {(error.strerror or 'cannot be read').lower()}; name a CSV file") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: no CSV text ({error}); save it as CSV in UTF-8") from None
    if not records:
        raise DataError(f"{path}: an empty file; name a CSV file with a header row")
    return records
