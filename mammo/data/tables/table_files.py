"""Rows of table files: delimited text, Excel and parquet, each also compressed by gzip."""

import codecs
import csv
import datetime
import gzip
import io
import logging
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

from mammo.errors import DataError

log = logging.getLogger(__name__)

_HEAD = 1 << 16  # bytes that show what a file is
_DELIMITERS = ",;\t|"
_GZIP, _ZIP, _PARQUET = b"\x1f\x8b", b"PK\x03\x04", b"PAR1"
# What a file is that begins with these bytes, and what to do.
_OTHERS = {
    b"\xd0\xcf\x11\xe0": ("an Excel file of the format before 2007", "save it as .xlsx or CSV"),
    b"%PDF": ("a PDF document", "name a table"),
    b"\x89PNG": ("a PNG image", "name a table"),
    b"\xff\xd8\xff": ("a JPEG image", "name a table"),
    b"II*\0": ("a TIFF image", "name a table"),
    b"MM\0*": ("a TIFF image", "name a table"),
    b"BZh": ("a bzip2 archive", "unpack it"),
    b"\xfd7zXZ": ("an xz archive", "unpack it"),
    b"7z\xbc\xaf": ("a 7z archive", "unpack it"),
    b"<": ("an HTML or XML document", "save it as CSV"),
    b"[{": ("JSON", "save it as CSV"),
    b'{"': ("JSON", "save it as CSV"),
    b"{\\rtf": ("an RTF document", "save it as CSV"),
}
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # begins as UTF-16 does
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_EXACT = 10**15  # whole numbers from which Excel rounds
_INDEX = re.compile(r"__index_level_\d+__")  # an index of pandas in a parquet file
_DIRECTIVE = re.compile(r"sep=(.)\s*", re.I)  # a first line in which Excel names the delimiter

Row = tuple[int, list[str]]


def shown(text: str, *, most: int = 60) -> str:
    """Return a text of somebody else as part of a message: printable, in one line, at most `most` letters.

    Example:
        >>> shown("a\\nb" + 100 * "c", most=8)
        'a bcc...'
    """
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return line if len(line) <= most else f"{line[: most - 3]}..."


def read_rows(
    path: Path,
    *,
    sheet: str | None = None,
    key: str | None = None,
    wanted: Callable[[str], bool] = lambda name: True,
) -> list[Row]:
    """Return the rows of a table with their numbers in a spreadsheet, the names of the columns first.

    The content says what a file is: text in UTF-8, UTF-16, UTF-32 or Windows-1252 (Latin-1), delimited by
    comma, semicolon, tab or bar; an Excel file (.xlsx); or parquet. It may be compressed by gzip. Cells have
    no surrounding whitespace; rows without content are left out.

    Args:
        path: The file.
        sheet: Name of the sheet of an Excel file, which may be None if only one has content.
        key: Key of the configuration that names the sheet, for messages; None if there is none.
        wanted: Whether a column is read, by its name; the others of a large table need no memory.

    Raises:
        DataError: The file cannot be read, is none of these, has no names of columns or no such sheet.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
        with cast(IO[bytes], gzip.open(path)) if packed else path.open("rb") as content:
            head = content.read(_HEAD)
            content.seek(0)
            if sheet is not None and not head.startswith(_ZIP):
                raise DataError(f"{path}: is not an Excel file, so it has no sheet '{sheet}'; leave it out")
            rows = list(_picked(_rows(path, content, head, sheet, key), wanted))
    except OSError as error:
        reason = "is a damaged gzip file" if isinstance(error, gzip.BadGzipFile) else error.strerror
        raise DataError(f"{path}: {(reason or 'cannot be read').lower()}; name a table file") from None
    except (EOFError, zlib.error):
        raise DataError(f"{path}: is a gzip file that is damaged or cut short; make it anew") from None
    if not rows:
        raise DataError(f"{path}: is empty; name a table with the names of the columns in its first row")
    _refuse_title(path, rows)
    return rows


def _picked(rows: Iterator[Row], wanted: Callable[[str], bool]) -> Iterator[Row]:
    """Yield the rows with the cells of the wanted columns, and those without a column; names come first."""
    places: list[int] | None = None
    for number, cells in rows:
        if places is None:
            places = [place for place, name in enumerate(cells) if wanted(name)]
            width = len(cells)
            every = len(places) == width
        picked = cells if every else [cells[place] if place < len(cells) else "" for place in places]
        yield number, picked if every else picked + cells[width:]


def _rows(path: Path, content: IO[bytes], head: bytes, sheet: str | None, key: str | None) -> Iterator[Row]:
    if head.startswith(_ZIP):
        return _excel_rows(path, io.BytesIO(content.read()), sheet, key)
    if head.startswith(_PARQUET):
        return _parquet_rows(path, io.BytesIO(content.read()))
    if head[128:132] == b"DICM":
        raise DataError(f"{path}: is a DICOM file, not a table; name a table")
    for begin, (kind, remedy) in _OTHERS.items():
        if head.startswith(begin):
            raise DataError(f"{path}: is {kind}, not a table; {remedy}")
    return _text_rows(path, content, head)


def _text_rows(path: Path, content: IO[bytes], head: bytes) -> Iterator[Row]:
    for encoding in _encodings(path, head):
        content.seek(0)
        text = io.TextIOWrapper(content, encoding=encoding, newline="")
        try:
            for _ in text:
                pass
            text.seek(0)
            yield from _delimited(path, text)
        except UnicodeDecodeError:
            continue
        finally:
            text.detach()  # it would close the file
        if encoding == "cp1252":
            log.warning(
                "%s: is not in UTF-8; it is read as Windows-1252 (Latin-1), which can misread its letters",
                path,
            )
        return
    raise DataError(f"{path}: is text in an unknown encoding, or no text; save it as CSV in UTF-8")


def _encodings(path: Path, head: bytes) -> list[str]:
    """Return the encodings that a text may have, the most probable first."""
    for bom, encoding in _BOMS.items():
        if head.startswith(bom):
            return [encoding]
    for encoding, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
        if zeros.count(0) > 0.4 * len(head) / 2 > 0 and head.count(0) < 0.6 * len(head):
            return [encoding]
    if any(control in head for control in (*range(9), *range(14, 32))):
        raise DataError(f"{path}: is a binary file, not a table; save it as CSV, Excel (.xlsx) or parquet")
    return ["utf-8", "cp1252"]


def _delimited(path: Path, text: io.TextIOWrapper) -> Iterator[Row]:
    first = list(islice((line for line in text if line.strip()), 4))
    text.seek(0)
    directive = _DIRECTIVE.fullmatch(first[0]) if first else None
    unquoted = [re.sub(r'"[^"]*"', "", line) for line in first]
    delimited = next((line for line in unquoted if set(line) & set(_DELIMITERS)), "")
    delimiter = directive[1] if directive else max(_DELIMITERS, key=delimited.count)
    number = 0
    try:
        for number, record in enumerate(csv.reader(text, delimiter=delimiter, strict=True), start=1):
            cells = [cell.strip() for cell in record]
            if any(cells) and not (directive and cells[0].lower() == "sep="):
                yield number, cells
    except csv.Error as error:
        problem = f"is not valid CSV ({error}); correct the quotation marks there"
        raise DataError(f"{path}, row {number + 1}: {problem}") from None


def _excel_rows(path: Path, content: IO[bytes], sheet: str | None, key: str | None) -> Iterator[Row]:
    import openpyxl

    try:
        with zipfile.ZipFile(content) as archive:
            names = archive.namelist()
            formulas = any(
                re.search(rb"<f[ >/]", archive.read(name))
                for name in names
                if name.startswith("xl/worksheets/")
            )
        if "xl/workbook.xml" not in names:
            raise DataError(f"{path}: is a zip archive, not a table; unpack it")
        book = openpyxl.load_workbook(content, read_only=True, data_only=True)
        chosen = _sheet(path, {each.title: each for each in book.worksheets}, sheet, key)
        uncomputed = openpyxl.load_workbook(content, read_only=True)[chosen.title] if formulas else None
        warned = False
        for number, cells in enumerate(_values(chosen), start=1):
            texts = [_text(value) for value in cells]
            warned = warned or _warn_of_rounding(path, number, cells)
            if any(texts):
                yield number, texts
        if uncomputed is not None:
            _refuse_uncomputed(path, _values(chosen), _values(uncomputed))
    except (zipfile.BadZipFile, KeyError, ValueError, SyntaxError) as error:  # a ParseError is a SyntaxError
        reason = shown(str(error), most=100)
        raise DataError(f"{path}: is a damaged Excel file ({reason}); save it again") from None


def _warn_of_rounding(path: Path, number: int, cells: tuple[Any, ...]) -> bool:
    """Warn of a whole number of more than 15 digits in a row, and return whether there is one."""
    for cell in cells:
        if isinstance(cell, int | float) and abs(cell) >= _EXACT and cell == cell // 1:
            log.warning(
                "%s, row %d: Excel keeps 15 digits of a number such as %s, so that different ids may have "
                "become equal; format the column of ids as text before they are entered",
                path,
                number,
                shown(_text(cell)),
            )
            return True
    return False


def _values(sheet: Any) -> Iterator[tuple[Any, ...]]:
    sheet.reset_dimensions()  # some programs write wrong ones
    return iter(sheet.iter_rows(values_only=True))


def _sheet(path: Path, sheets: dict[str, Any], wanted: str | None, key: str | None) -> Any:
    """Return the wanted sheet, or the only one with content."""
    listed = ", ".join(f"'{shown(name, most=31)}'" for name in list(sheets)[:8])
    if wanted is not None:
        if wanted not in sheets:
            raise DataError(f"{path}: has no sheet '{wanted}'; give one of {listed}")
        return sheets[wanted]
    filled = [
        each for each in sheets.values() if any(cell is not None for row in _values(each) for cell in row)
    ]
    if len(filled) > 1:
        remedy = f"give {key}=NAME with one of" if key else "delete all but one of"
        raise DataError(f"{path}: has several sheets; {remedy} {listed}")
    return filled[0] if filled else next(iter(sheets.values()))


def _refuse_uncomputed(path: Path, values: Iterator[tuple[Any, ...]], formulas: Iterator[Any]) -> None:
    """Raise DataError if a cell has a formula without its value, which Excel writes when it saves a file."""
    for number, (found, written) in enumerate(zip(values, formulas, strict=False), start=1):
        for value, formula in zip(found, written, strict=False):
            if value is None and formula is not None:
                problem = (
                    f"the formula {shown(str(formula))} has no value; open the file in Excel and save it"
                )
                raise DataError(f"{path}, row {number}: {problem}")


def _parquet_rows(path: Path, content: IO[bytes]) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(content)
        columns = {name: table[name].to_pylist() for name in table.column_names if not _INDEX.fullmatch(name)}
    except (pyarrow.ArrowException, KeyError) as error:
        reason = shown(str(error), most=100)
        raise DataError(f"{path}: is a parquet file that cannot be read ({reason}); write it anew") from None
    yield 1, list(columns)
    for number, record in enumerate(zip(*columns.values(), strict=True), start=2):
        texts = [_text(value) for value in record]
        if any(texts):
            yield number, texts


def _text(value: object) -> str:
    """Return a cell as a CSV file would have it: whole numbers without a point, dates in ISO format."""
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime.datetime):
        date, time = value.date().isoformat(), value.time().isoformat()
        return date if time == "00:00:00" else f"{date} {time}"
    return str(value).strip()


def _refuse_title(path: Path, rows: list[Row]) -> None:
    """Raise DataError if the first row is a comment or title above the names of the columns."""
    number, header = rows[0]
    names = sum(map(bool, header))
    wider = any(sum(map(bool, cells)) > max(names, 1) for _, cells in rows[1:3])
    other = any(len(cells) != len(header) for _, cells in rows[1:2])
    if (names == 1 and wider) or (header[0].startswith("#") and other):
        problem = f"'{shown(next(filter(None, header)))}' is a comment or title, not the names of the columns"
        raise DataError(f"{path}, row {number}: {problem}; delete what is above them")
