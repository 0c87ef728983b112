"""Calls survive the death of the process that runs them."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from mammo.data.worker_pool import completed_results, in_own_process, write_in_background
from mammo.errors import DataError


def double(number: int, *, alone: bool = False) -> int:
    """Kills its process at 5, unless it is called alone."""
    if number == 5 and not alone:
        os.kill(os.getpid(), signal.SIGKILL)
    return -number if alone else 2 * number


def test_every_call_returns_though_a_worker_dies() -> None:
    calls = (partial(double, number) for number in range(12))
    returned = list(completed_results(calls, workers=2, retry=lambda call: call(alone=True)))
    assert sorted(abs(value) if value % 2 or value < 0 else value // 2 for value in returned) == list(
        range(12)
    )
    assert -5 in returned


def test_in_this_process() -> None:
    calls = (partial(double, number) for number in range(4))
    assert list(completed_results(calls, workers=0, retry=pytest.fail)) == [0, 2, 4, 6]


def process_of(number: int, *, alone: bool = False) -> int:
    time.sleep(0.02)  # so that no process makes all calls
    return os.getpid()


@pytest.mark.slow
def test_processes_are_kept_for_the_next_calls_if_these_need_no_more() -> None:
    def processes(workers: int, *, keep: bool = False) -> set[int]:
        calls = (partial(process_of, number) for number in range(20))
        return set(completed_results(calls, workers=workers, retry=pytest.fail, keep=keep))

    first = processes(2, keep=True)
    assert processes(1, keep=True) <= first
    assert len(first) == 2
    others = processes(3)  # more than there are
    assert not others & first
    assert not processes(2) & others  # which were not kept
    for process in first | others:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    processes(2, keep=True)
    assert processes(0) == {os.getpid()}


def write_behind(file: Path, *, fail: bool) -> int:
    """Writes a file during the next call; if the write fails, the next call fails."""

    def write() -> None:
        time.sleep(0.2)
        if fail:
            raise DataError("no space left")
        file.write_text("written")

    write_in_background(write)
    return file.exists()


def test_a_worker_writes_beside_its_next_call_and_before_it_ends(tmp_path: Path) -> None:
    calls = [partial(write_behind, tmp_path / str(number), fail=False) for number in range(3)]
    assert list(completed_results(iter(calls), workers=1, retry=pytest.fail)) == [False] * 3
    assert {file.read_text() for file in tmp_path.iterdir()} == {"written"}
    assert len(list(tmp_path.iterdir())) == 3


def test_what_could_not_be_written_is_told_by_the_next_call(tmp_path: Path) -> None:
    calls = [partial(write_behind, tmp_path / str(number), fail=True) for number in range(2)]
    with pytest.raises(DataError, match="no space left"):
        list(completed_results(iter(calls), workers=1, retry=pytest.fail))


def test_a_call_in_its_own_process() -> None:
    assert in_own_process(partial(double, 4)) == 8
    with pytest.raises(DataError, match="decoder died"):
        in_own_process(partial(double, 5))


def test_a_script_is_not_run_again_in_each_process(tmp_path: Path) -> None:
    """A script without `if __name__ == "__main__"` may use several processes."""
    script = tmp_path / "script.py"
    script.write_text(
        "from functools import partial\n"
        "from mammo.data.worker_pool import completed_results\n"
        "print('begins')\n"
        "calls = iter([partial(abs, -number) for number in (1, 2)])\n"
        "print(sorted(completed_results(calls, workers=2, retry=None)))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.splitlines()) == (0, ["begins", "[1, 2]"]), done.stderr
