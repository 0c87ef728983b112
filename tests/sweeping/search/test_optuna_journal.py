"""The journal copes with what kills and network file systems leave behind."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo.sweeping.search.optuna_journal import JournalFile

RECORDS = [{"op_code": 1, "text": "ä\n" * number} for number in range(6)]


def journal(folder: Path, records: list[dict[str, object]]) -> JournalFile:
    made = JournalFile(folder / "journal.log")
    made.append_logs(records)
    return made


@settings(max_examples=50, deadline=None)
@given(kept=st.integers(0, 400), garbage=st.binary(max_size=20))
def test_whatever_stands_after_the_last_whole_line_is_dropped(kept: int, garbage: bytes) -> None:
    with TemporaryDirectory() as folder:
        made = journal(Path(folder), RECORDS)
        content = made.file.read_bytes()[:kept]
        made.file.write_bytes(content + garbage)
        whole = [json.loads(line) for line in content.splitlines(keepends=True) if line.endswith(b"\n")]
        reader = JournalFile(made.file)
        reader.append_logs([{"op_code": 2}])
        read = list(JournalFile(made.file).read_logs(0))
        assert read[: len(whole)] == whole
        assert read[-1] == {"op_code": 2}


@pytest.mark.parametrize("end", [b'{"op_code": 5, "wor', b"\0\0\0\0\0\n", b'{"op_code": 5\n'])
def test_a_corrupt_last_line_stops_neither_reader_nor_writer(end: bytes, tmp_path: Path) -> None:
    made = journal(tmp_path, RECORDS)
    with made.file.open("ab") as file:
        file.write(end)
    assert list(JournalFile(made.file).read_logs(0)) == RECORDS
    made.append_logs([{"op_code": 2}])
    assert list(JournalFile(made.file).read_logs(0)) == [*RECORDS, {"op_code": 2}]


def test_a_line_longer_than_the_window_that_is_looked_at_is_kept(tmp_path: Path) -> None:
    made = journal(tmp_path, [{"text": "x" * 200_000}])
    made.append_logs([{"op_code": 2}])
    assert [len(str(record)) for record in JournalFile(made.file).read_logs(0)] == [200_012, 14]


def _write(file: Path, writer: int, count: int) -> None:
    made = JournalFile(file)
    for number in range(count):
        made.append_logs([{"writer": writer, "number": number}])


@pytest.mark.slow
def test_many_writers_of_which_one_is_killed_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "journal.log"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write, args=(file, writer, 40)) for writer in range(3)]
    doomed = context.Process(target=_write, args=(file, 3, 10_000))
    for process in [*processes, doomed]:
        process.start()
    while not file.exists() or b'"writer":3,"number":5' not in file.read_bytes():
        time.sleep(0.01)
    assert doomed.pid
    os.kill(doomed.pid, signal.SIGKILL)
    for process in processes:
        process.join(120)  # the lock of the killed process expires after 30 s
    records = list(JournalFile(file).read_logs(0))
    for writer in range(3):
        assert [record["number"] for record in records if record["writer"] == writer] == list(range(40))
    numbers = [record["number"] for record in records if record["writer"] == 3]
    assert numbers == list(range(len(numbers)))
