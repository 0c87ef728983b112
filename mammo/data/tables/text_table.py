"""Tables as columns of text, with the row numbers of a spreadsheet, which error messages name."""

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mammo.data.tables.table_files import read_rows, shown
from mammo.errors import DataError

_MISSING = {"", "N/A", "#N/A", "NA", "NAN", "<NA>", "NULL"}
_MOST_NAMES = 10  # in a message
_MOST_WORDS = 5


def column_name(name: str) -> str:
    """Return the name of a column in lower_snake_case.

    Example:
        >>> column_name("Breast density")
        'breast_density'
    """
    visible = re.sub("[\ufeff\u200b]", "", name)  # byte order marks and other signs of no width
    return "_".join(visible.lower().replace("-", " ").split())


def word_key(word: str) -> str:
    """Return the form in which words are compared: upper case, `_` for all but letters and digits.

    Example:
        >>> word_key(" Medio-lateral oblique"), word_key("1.0"), word_key("TRUE")
        ('MEDIO_LATERAL_OBLIQUE', '1', 'TRUE')
    """
    return re.sub(r"[\W_]+", "_", re.sub(r"^(\d+)\.0+$", r"\1", word.strip().upper())).strip("_")


@dataclass(frozen=True)
class TextTable:
    """Cells of a table, without surrounding whitespace.

    Attributes:
        path: The file.
        cells: String columns with names in lower_snake_case; missing cells are NA; the index is the row
            number in a spreadsheet (the header is row 1; a quoted newline does not start a new row).
    """

    path: Path
    cells: pd.DataFrame

    @classmethod
    def read(
        cls,
        path: Path,
        *,
        sheet: str | None = None,
        key: str | None = None,
        columns: Collection[str] | None = None,
    ) -> "TextTable":
        """Read a table file of any kind that `read_rows` reads; raises DataError as it does.

        Args:
            path: The file.
            sheet: Sheet of an Excel file.
            key: Key of the configuration that names the sheet, for messages.
            columns: Names of the columns to read, in lower_snake_case; None for all.
        """
        (_, names), *rows = read_rows(
            path, sheet=sheet, key=key, wanted=lambda name: columns is None or column_name(name) in columns
        )
        header = [column_name(name) for name in names]
        repeated = sorted({name for name in header if name and header.count(name) > 1})
        if repeated:
            raise DataError(f"{path}: column '{shown(repeated[0])}' occurs twice; rename or delete one")
        width, numbers = len(header), [number for number, _ in rows]
        records = []
        for number, cells in rows:
            if len(cells) > width and any(cells[width:]):
                raise DataError(
                    f"{path}, row {number}: has more cells than there are names of columns; "
                    "name every column, or put quotes around a cell that contains the separator"
                )
            records.append(cells if len(cells) == width else (cells + [""] * width)[:width])
        by_column: list[tuple[str, ...]] = list(zip(*records, strict=True)) or [()] * width
        made = pd.concat(
            [
                pd.Series([None if cell.upper() in _MISSING else cell for cell in column], numbers, "string")
                for column in by_column
            ],
            axis=1,
        ).set_axis(header, axis=1)
        return cls(path, made[list(filter(None, header))])

    def refuse(self, row: object, problem: str) -> DataError:
        """Return an error that names file, row and problem."""
        return DataError(f"{self.path}, row {row}: {problem}")

    def require(self, *names: str, key: str | None = None) -> None:
        """Raise DataError if a column is missing; the message suggests the most similar name, if any.

        Args:
            names: Names of columns.
            key: Key of the configuration that gives a column another name.
        """
        for name in names:
            if name not in self.cells:
                near = difflib.get_close_matches(name, list(self.cells.columns), n=1)
                remedy = f"rename '{near[0]}' to '{name}'" if near else f"add a column '{name}'"
                mapped = f", or give {key}.{name}={near[0] if near else 'NAME'}" if key else ""
                raise DataError(f"{self.path}: no column '{name}' among {self.names}; {remedy}{mapped}")

    @property
    def names(self) -> str:
        """The names of the columns for a message, at most ten of them."""
        names = [shown(name, most=24) for name in self.cells.columns]
        rest = f", ... ({len(names)} columns)" if len(names) > _MOST_NAMES else ""
        return ", ".join(names[:_MOST_NAMES]) + rest

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
        meanings: Mapping[str, str | None],
        *,
        key: Callable[[str], str] = word_key,
        known: str | None = None,
        required: bool = False,
        remedy: str = "leave it empty",
    ) -> "pd.Series[str]":
        """Return a column of words from a small vocabulary.

        Args:
            name: Name of the column.
            meanings: Word, in the form of `key` -> its value in the tables, None for a missing one.
            key: Form in which words are compared.
            known: What the words are, for the message; by default the words themselves.
            required: Whether an empty cell is an error.
            remedy: Advice of the error message for any other word.

        Raises:
            DataError: A cell holds another word; the message lists the first of them.
        """
        column = self.text(name, required=required)
        forms = {word: key(word) for word in column.dropna().unique()}
        unknown = [word for word, form in forms.items() if form not in meanings]
        if unknown:
            others = ", ".join(f"'{shown(word, most=24)}'" for word in unknown[1:_MOST_WORDS])
            nor = f" (nor are {others}{', ...' if len(unknown) > _MOST_WORDS else ''})" if others else ""
            known = known or f"one of {', '.join(dict.fromkeys(meanings))}"
            problem = f"{name} '{shown(unknown[0])}' is not {known}{nor}; correct it or {remedy}"
            raise self.refuse(column.index[column == unknown[0]][0], problem)
        return column.map({word: meanings[form] for word, form in forms.items()}).astype("string")

    def numbers(self, name: str, *, required: bool = False) -> "pd.Series[float]":
        """Return a column of finite numbers, Float64; raise DataError for any other value."""
        column = self.text(name, required=required)
        numbers = pd.to_numeric(column, errors="coerce").astype("Float64")
        finite = numbers.notna() & (numbers.abs() < float("inf")).fillna(value=False)
        wrong = column[column.notna() & ~finite]
        if len(wrong):
            raise self.refuse(wrong.index[0], f"{name} '{shown(wrong.iloc[0])}' is not a number; correct it")
        return numbers

    def grades(
        self,
        name: str,
        *,
        highest: int,
        words: Mapping[str, int | None] | None = None,
        key: Callable[[str], str] = word_key,
    ) -> "pd.Series[int]":
        """Return a column of grades 1..highest, Int64; 0 becomes NA, any other value raises DataError.

        Args:
            name: Name of the column.
            highest: The highest grade.
            words: Other words, in the form of `key` -> grade, None for a missing one.
            key: Form in which words are compared.
        """
        grades: dict[str, str | None] = {str(grade): str(grade) for grade in range(1, highest + 1)}
        grades |= {word: None if grade is None else str(grade) for word, grade in (words or {}).items()}
        column = self.words(name, {"0": None, **grades}, key=key, known=f"a grade from 1 to {highest}")
        return column.astype("Int64")

    def renamed(self, names: Mapping[str, str]) -> "TextTable":
        """Return the table with other names of columns.

        Args:
            names: New name -> name in the file. A column may have several new names; what had one of them
                before is dropped, as are columns under their old names.
        """
        sources = {new: column_name(old) for new, old in names.items()}
        kept = [name for name in self.cells if name not in {*sources, *sources.values()}]
        new = {name: self.cells[source] for name, source in sources.items()}
        return TextTable(self.path, self.cells[kept].assign(**new))
