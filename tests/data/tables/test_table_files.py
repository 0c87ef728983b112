"""Table files of every kind have the same rows; what is no table is refused in one readable sentence."""

import datetime
import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from mammo.data.tables.table_files import read_rows
from mammo.errors import DataError

ROWS = [(1, ["Name", "größe", "n"]), (2, ["Müller; A", "1.5", "7"]), (4, ["x,y", "", "8"])]
TEXT = 'Name;größe;n\r\n"Müller; A"; 1.5 ;7\r\n;;\r\n"x,y";;8\r\n'


def excel(*sheets: list[list[object]]) -> bytes:
    book = openpyxl.Workbook()
    for index, rows in enumerate(sheets):
        sheet = book.active if index == 0 else book.create_sheet()
        for row in rows:
            sheet.append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def parquet(table: pd.DataFrame) -> bytes:
    return table.to_parquet(index=True)


WRITERS: dict[str, Callable[[], bytes]] = {
    "utf-8": lambda: TEXT.encode(),
    "utf-8 with mark": lambda: TEXT.encode("utf-8-sig"),
    "utf-16": lambda: TEXT.encode("utf-16"),
    "utf-16 without mark": lambda: TEXT.encode("utf-16-le"),
    "utf-16 big endian": lambda: TEXT.encode("utf-16-be"),
    "utf-32": lambda: TEXT.encode("utf-32"),
    "latin-1": lambda: TEXT.encode("latin-1"),
    "tabs": lambda: TEXT.replace(";", "\t").replace("r\t A", "r; A").encode(),
    "bars": lambda: TEXT.replace(";", "|").replace("r| A", "r; A").encode(),
    "gzip": lambda: gzip.compress(TEXT.encode("utf-16")),
    "excel": lambda: excel([["Name", "größe", "n"], ["Müller; A", 1.5, 7], [None], ["x,y", None, 8.0]], []),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_file_has_the_same_rows(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"  # whatever its name: the content says what it is
    path.write_bytes(WRITERS[kind]())
    found = [(number, (cells + [""] * 3)[:3]) for number, cells in read_rows(path)]
    assert found == ROWS


def test_cells_of_typed_files_are_as_in_csv(tmp_path: Path) -> None:
    cells = [datetime.datetime(2020, 1, 31), datetime.date(2020, 1, 31), True, 12345678901.0, 0.1, None]
    cells.append(datetime.datetime(2020, 1, 31, 8, 30))
    expected = ["2020-01-31", "2020-01-31", "True", "12345678901", "0.1", "", "2020-01-31 08:30:00"]
    names = list("abcdefg")
    (tmp_path / "t").write_bytes(excel([names, cells]))
    assert read_rows(tmp_path / "t")[1] == (2, expected)
    table = pd.DataFrame([cells, [None] * 7], columns=names, index=["p", "q"])
    (tmp_path / "t").write_bytes(parquet(table.astype({"d": "float64", "e": "float64"})))
    assert read_rows(tmp_path / "t") == [(1, names), (2, expected)]
    whole = pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": ["x", "y"]})
    (tmp_path / "t").write_bytes(whole.to_parquet())
    assert read_rows(tmp_path / "t")[1:] == [(2, ["1", "x"]), (3, ["", "y"])]


def test_a_line_in_which_excel_names_the_separator(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("sep=;\na,b;c\n1,5;2\n")
    assert read_rows(tmp_path / "t") == [(2, ["a,b", "c"]), (3, ["1,5", "2"])]


def test_numbers_that_excel_rounds_are_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "t.xlsx"
    path.write_bytes(
        excel([["id", "n"], [123456789012345, 1.5e3], [1234567890123456, 2], [9876543210987654, 3]])
    )
    assert [cells[0] for _, cells in read_rows(path)][2] == "1234567890123456"
    (record,) = caplog.records
    assert "t.xlsx, row 3: Excel keeps 15 digits of a number such as 1234567890123456" in record.getMessage()


def test_one_of_several_sheets(tmp_path: Path) -> None:
    path = tmp_path / "t.xlsx"
    path.write_bytes(excel([["a"], [1]], [["b"], [2]]))
    assert read_rows(path, sheet="Sheet1") == [(1, ["b"]), (2, ["2"])]
    with pytest.raises(DataError, match=r"has several sheets; give data.sheet=NAME with one of 'Sheet', 'Sh"):
        read_rows(path, key="data.sheet")
    with pytest.raises(DataError, match=r"has several sheets; delete all but one of 'Sheet', 'Sheet1'"):
        read_rows(path)
    with pytest.raises(DataError, match=r"t.xlsx: has no sheet 'B'; give one of 'Sheet', 'Sheet1'"):
        read_rows(path, sheet="B")


def a_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.csv", "a,b")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty; name a table with the names of the columns in its first row"),
        (b"\n\n", r"is empty"),
        (bytes(range(256)) * 9, r"is a binary file, not a table; save it as CSV, Excel \(.xlsx\) or parquet"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), r"is a PNG image, not a table; name a table"),
        (bytes(128) + b"DICM" + bytes(99), r"is a DICOM file, not a table"),
        (b"\xd0\xcf\x11\xe0" + bytes(99), r"format before 2007, not a table; save it as .xlsx or CSV"),
        (a_zip(), r"is a zip archive, not a table; unpack it"),
        (b"PK\x03\x04" + bytes(99), r"is a damaged Excel file .*; save it again"),
        (b"PAR1" + bytes(99), r"is a parquet file that cannot be read .*; write it anew"),
        (gzip.compress(b"a,b\n" * 999)[:-20], r"is a gzip file that is damaged or cut short; make it anew"),
        ("é,\x81".encode("latin-1"), r"is text in an unknown encoding, or no text; save it as CSV in UTF-8"),
        (b'a,b\n1,"2\n3,4\n', r"row 2: is not valid CSV \(unexpected end of data\); correct the quotation"),
        (b"# from PACS\na,b\n1,2\n", r"row 1: '# from PACS' is a comment or title, not the names of the col"),
        (b"# of 2020; by X\na,b,c\n1,2,3\n", r"row 1: '# of 2020' is a comment or title"),
        (b"\nReport\n\nfile;b\n1;2\n", r"row 2: 'Report' is a comment or title.*; delete what is above them"),
        (b"<!DOCTYPE html>\n<p>a, b</p>\n", r"is an HTML or XML document, not a table; save it as CSV"),
        (b'[{"a": 1, "b": 2}]', r"is JSON, not a table; save it as CSV"),
        (b"{\\rtf1 a, b}", r"is an RTF document, not a table; save it as CSV"),
        (excel([["Report"], ["a", "b"], [1, 2]]), r"row 1: 'Report' is a comment or title"),
        (excel([["a", "b"], [1, "=A2"]]), r"row 2: the formula =A2 has no value; open the file in Excel and"),
    ],
    # files of the same content have other bytes at another time
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_table_is_refused_in_one_sentence(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as refused:
        read_rows(path)
    text = str(refused.value)
    assert text.startswith(str(path))
    assert text.isprintable()
    assert len(text) < 300 + len(str(path))


def test_a_cell_that_is_not_closed_loses_no_row(tmp_path: Path) -> None:
    (tmp_path / "t").write_text('a,b\n1,12" plate\n2,"two\nlines"\n3,x\n')
    assert [cells for _, cells in read_rows(tmp_path / "t")] == [
        ["a", "b"], ["1", '12" plate'], ["2", "two\nlines"], ["3", "x"],
    ]  # fmt: skip
