"""Tables as columns of text."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammo.data.tables.text_table import TextTable
from mammo.errors import DataError


def test_columns_get_other_names(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,c\n1,2,3\n")
    cells = TextTable.read(tmp_path / "t.csv").renamed({"x": "A", "y": "a", "b": "c"}).cells
    assert cells.to_dict("list") == {"x": ["1"], "y": ["1"], "b": ["3"]}


def test_marks_of_no_width_are_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("\ufeff\ufeffFirst name,b\u200b\n1,2\n", encoding="utf-8")
    assert list(TextTable.read(tmp_path / "t.csv").cells) == ["first_name", "b"]


def test_a_shifted_row_is_refused_where_some_columns_are_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,c\n1,2,3,\n4,5,6,7\n")
    with pytest.raises(DataError, match="row 3: has more cells than there are names of columns"):
        TextTable.read(tmp_path / "t.csv", columns=["b", "c"])


def test_an_unknown_word_is_listed_with_the_next(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\nyes\n" + "\n".join(f"w{i}" for i in range(9)) + "\n")
    table = TextTable.read(tmp_path / "t.csv")
    with pytest.raises(DataError) as refused:
        table.words("a", {"YES": "1"})
    assert str(refused.value) == (
        f"{tmp_path / 't.csv'}, row 3: a 'w0' is not one of YES (nor are 'w1', 'w2', 'w3', 'w4', ...); "
        "correct it or leave it empty"
    )


_cell = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8).map(str.strip)


@given(rows=st.lists(st.tuples(_cell, _cell), max_size=5), separator=st.sampled_from(",;\t"))
def test_a_sheet_keeps_every_cell_and_row_number(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], separator: str
) -> None:
    path = tmp_path_factory.mktemp("sheet") / "sheet.csv"
    pd.DataFrame(rows, columns=["First Name", "second"], dtype=str).to_csv(path, sep=separator, index=False)
    missing = {"", "N/A", "NA", "NAN", "<NA>", "NULL"}
    expected = {
        number: tuple("" if cell.upper() in missing else cell for cell in row)
        for number, row in enumerate(rows, start=2)
        if any(row)
    }
    cells = TextTable.read(path).cells
    assert list(cells) == ["first_name", "second"]
    assert {
        number: tuple(row) for number, row in zip(cells.index, cells.fillna("").values, strict=True)
    } == expected
