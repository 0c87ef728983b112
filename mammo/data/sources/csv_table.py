"""CSV files with the row numbers of a spreadsheet, which error messages name."""

import csv
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mammo.errors import DataError

_MISSING = {"", "N/A", "NA", "NAN", "<NA>", "NULL"}


def column_name(name: str) -> str:
    """Return the name of a column in lower_snake_case.

    Example:
        >>> column_name("Breast density")
        'breast_density'
    """
    return "_".join(name.lower().replace("-", " ").split())


@dataclass(frozen=True)
class CsvTable:
    """Cells of a CSV file, without surrounding whitespace.

    Attributes:
        path: The file.
        cells: String columns with names in lower_snake_case; missing cells are NA; the index is the row
            number in a spreadsheet (the header is row 1; a quoted newline does not start a new row).
    """

    path: Path
    cells: pd.DataFrame

    @classmethod
    def read(cls, path: Path) -> "CsvTable":
        """Read a CSV file separated by comma, semicolon or tab; raises DataError."""
        records = _records(path)
        header = [column_name(name) for name in records[0]]
        repeated = sorted({name for name in header if name and header.count(name) > 1})
        if repeated:
            raise DataError(f"{path}: column '{repeated[0]}' occurs twice; rename or delete one")
        rows: dict[int, list[str | None]] = {}
        for number, record in enumerate(records[1:], start=2):
            stripped = [cell.strip() for cell in record]
            if any(stripped[len(header) :]):
                raise DataError(
                    f"{path}, row {number}: {len(record)} cells but {len(header)} column names; "
                    "put quotes around a cell that contains the separator"
                )
            if any(stripped):
                filled = (stripped + [""] * len(header))[: len(header)]
                rows[number] = [None if cell.upper() in _MISSING else cell for cell in filled]
        return cls(path, pd.DataFrame.from_dict(rows, orient="index", columns=header, dtype="string"))

    def refuse(self, row: object, problem: str) -> DataError:
        """Return an error that names file, row and problem."""
        return DataError(f"{self.path}, row {row}: {problem}")

    def require(self, *names: str) -> None:
        """Raise DataError if a column is missing; the message suggests the most similar name, if any."""
        for name in names:
            if name not in self.cells:
                near = difflib.get_close_matches(name, list(self.cells.columns), n=1)
                remedy = f"rename '{near[0]}' to '{name}'" if near else f"add a column '{name}'"
                raise DataError(
                    f"{self.path}: no column '{name}' among {', '.join(self.cells.columns)}; {remedy}"
                )

    def text(self, name: str, *, required: bool = False) -> "pd.Series[str]":
        """Return a column as text, all NA if the table has no such column.

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
        """Return a column of words from a small vocabulary, in upper or lower case.

        Args:
            name: Name of the column.
            meanings: Word, in upper case with underscores -> its value in the tables.
            required: Whether an empty cell is an error.
            remedy: Advice of the error message for any other word.

        Raises:
            DataError: A cell holds another word.
        """
        column = self.text(name, required=required)
        keys = column.str.upper().str.replace(r"[\s-]+", "_", regex=True)
        unknown = column[column.notna() & ~keys.isin(list(meanings))]
        if len(unknown):
            known = ", ".join(dict.fromkeys(meanings))
            problem = f"{name} '{unknown.iloc[0]}' is not one of {known}; correct it or {remedy}"
            raise self.refuse(unknown.index[0], problem)
        return keys.map(meanings).astype("string")

    def numbers(self, name: str, *, required: bool = False) -> "pd.Series[float]":
        """Return a column of finite numbers, Float64; raise DataError for any other value."""
        column = self.text(name, required=required)
        numbers = pd.to_numeric(column, errors="coerce").astype("Float64")
        finite = numbers.notna() & (numbers.abs() < float("inf")).fillna(value=False)
        wrong = column[column.notna() & ~finite]
        if len(wrong):
            raise self.refuse(wrong.index[0], f"{name} '{wrong.iloc[0]}' is not a number; correct it")
        return numbers

    def grades(self, name: str, *, highest: int, letters: Sequence[str] = ()) -> "pd.Series[int]":
        """Return a column of grades 1..highest, Int64; 0 becomes NA, any other value raises DataError.

        Args:
            name: Name of the column.
            highest: The highest grade.
            letters: Letters for grades 1, 2, ...
        """
        column = self.text(name)
        grade_of = {letter: str(grade) for grade, letter in enumerate(letters, start=1)}
        grades = pd.to_numeric(column.str.upper().replace(grade_of), errors="coerce").astype("Float64")
        wrong = column[column.notna() & ~grades.isin(range(highest + 1))]
        if len(wrong):
            problem = (
                f"{name} '{wrong.iloc[0]}' is not a grade from 1 to {highest}; correct it or leave it empty"
            )
            raise self.refuse(wrong.index[0], problem)
        return grades.astype("Int64").mask(grades == 0)


def _records(path: Path) -> list[list[str]]:
    """Return all records of a CSV file, the header first."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = file.readline()
            file.seek(0)
            records = list(csv.reader(file, delimiter=max(",;\t", key=header.count)))
    except OSError as error:
        raise DataError(f"{path}: {(error.strerror or 'cannot be read').lower()}; name a CSV file") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is not CSV text ({error}); save it as CSV in UTF-8") from None
    if not records:
        raise DataError(f"{path}: is empty; name a CSV file with a header row")
    return records
