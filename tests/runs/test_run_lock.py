"""The lock of a run folder: one writer at a time, and a successor for a dead one."""

import json
import os
import platform
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from mammo.errors import ConfigError
from mammo.runs.run_lock import RunLock, RunTakenError

COMPETE = """
import sys
from pathlib import Path
from mammo.errors import ConfigError
from mammo.runs.run_lock import RunLock
sys.stdin.readline()
lock = RunLock(Path(sys.argv[1]))
try:
    lock.acquire()
except ConfigError:
    print("refused", flush=True)
else:
    print("writer", flush=True)
sys.stdin.readline()
"""


def dead_writer(folder: Path, **facts: Any) -> Path:
    """Writes the lock file of a process of another machine."""
    (folder / ".writer").mkdir()
    writer = {"host": "node7", "pid": 1, "started": "5", "job": None, "restarts": 0} | facts
    file = folder / ".writer" / "3"
    file.write_text(json.dumps(writer))
    return file


@pytest.mark.parametrize("before", [None, "dead"])
def test_one_of_many_processes_becomes_the_writer(tmp_path: Path, before: str | None) -> None:
    if before == "dead":
        dead_writer(tmp_path, host=platform.node(), pid=os.getpid(), started="1")  # an earlier process's id
    start: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", COMPETE, tmp_path], **start) for _ in range(6)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.stdout.readline().strip() for process in processes]
    for process in processes:
        process.communicate("end\n")
    assert sorted(answers) == ["refused"] * 5 + ["writer"]
    RunLock(tmp_path).acquire()  # its process has ended


def test_a_live_writer_is_named(tmp_path: Path) -> None:
    with RunLock(tmp_path) as first:
        first.acquire()
        with pytest.raises(ConfigError, match=f"still running on {platform.node()}, process {os.getpid()}"):
            RunLock(tmp_path).acquire()
    second = RunLock(tmp_path)
    second.acquire()
    assert [file.name for file in (tmp_path / ".writer").iterdir()] == ["1"]
    second.release()


def test_a_writer_on_another_machine_lives_while_its_file_is_touched(tmp_path: Path) -> None:
    file = dead_writer(tmp_path)
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(0.05):
            os.utime(file)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(ConfigError, match="still running on node7, process 1"):
            RunLock(tmp_path, stale_seconds=2).acquire()
    finally:
        ended.set()
        thread.join()
    with RunLock(tmp_path, stale_seconds=0.5) as lock:
        lock.acquire()
        assert lock.number == 4


def test_a_requeued_slurm_job_succeeds_its_earlier_start_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead_writer(tmp_path, job="17")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with RunLock(tmp_path, stale_seconds=3600) as lock:
        lock.acquire()


def test_a_suspended_writer_notices_that_it_was_replaced(tmp_path: Path) -> None:
    suspended, successor = RunLock(tmp_path), RunLock(tmp_path, take_over=True)
    suspended.acquire()
    suspended.check()
    successor.acquire()
    with pytest.raises(RunTakenError, match="another process has taken it over"):
        suspended.check()
    suspended.release()
    successor.check()
    with pytest.raises(ConfigError, match="still running"):
        RunLock(tmp_path).acquire()
    successor.release()
