"""Which runs a folder, a pattern or `latest` names."""

import json
import os
import platform
from pathlib import Path

import pytest

from mammo.errors import ConfigError
from mammo.runs import RunFolder, find_runs
from mammo.runs.heartbeat import process_started
from mammo.runs.run_lock import RunLock, has_writer
from mammo.runs.run_selection import comparable_runs, select_runs


def make(
    folder: Path, *, status: str = "finished", started: str = "2026-01-01", **facts: object
) -> RunFolder:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(json.dumps({"trainer": {"fast_dev_run": facts.pop("fast", False)}}))
    run = RunFolder(folder)
    run.record(status=status, started=started, **facts)
    return run


def paths(runs: list[RunFolder]) -> list[str]:
    return [run.path.name for run in runs]


def test_runs_are_found_at_any_depth_but_not_in_the_copy_of_the_code(tmp_path: Path) -> None:
    make(tmp_path / "a")
    make(tmp_path / "a" / "evaluation" / "inner")  # nothing below a run is one
    make(tmp_path / "m" / "0-x")
    (tmp_path / "m" / "multirun.json").write_text("{}")
    make(tmp_path / "m" / "code" / "copy")
    make(tmp_path / "sweeps" / "lr" / "trials" / "0000" / "fold-0")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "circle").symlink_to(tmp_path)
    assert paths(find_runs(tmp_path)) == ["a", "0-x", "fold-0"]


def test_a_folder_or_pattern_names_its_finished_runs(tmp_path: Path) -> None:
    make(tmp_path / "m" / "0")
    make(tmp_path / "m" / "1", status="failed")
    make(tmp_path / "m" / "2")
    runs, left_out = select_runs(str(tmp_path / "m"), key="runs")
    assert (paths(runs), paths(left_out)) == (["0", "2"], ["1"])
    runs, left_out = select_runs(str(tmp_path / "m" / "[02]"), key="runs")
    assert (paths(runs), paths(left_out)) == (["0", "2"], [])
    assert paths(select_runs(str(tmp_path / "m" / "1"), key="run")[0]) == ["1"]  # the user named it
    (tmp_path / "empty").mkdir()
    for name in ("empty", "none*", "none"):
        with pytest.raises(
            ConfigError, match=r"holds no run; give a folder with a run\.json or one of several"
        ):
            select_runs(str(tmp_path / name), key="runs")
    make(tmp_path / "bad" / "0", status="failed")
    with pytest.raises(ConfigError, match="none of its 1 runs is finished"):
        select_runs(str(tmp_path / "bad"), key="runs")


def test_the_latest_is_neither_a_quick_trial_run_nor_a_trial_of_a_search(tmp_path: Path) -> None:
    make(tmp_path / "real", started="2026-01-01")
    make(tmp_path / "quick", started="2026-01-02", fast=True)
    search = tmp_path / "sweeps" / "lr"
    make(search / "trials" / "0000", started="2026-01-03", part_of=str(search))
    (search / "search.json").write_text("{}")
    assert RunFolder.find("latest", parent=tmp_path).path == tmp_path / "real"


def test_a_run_has_a_writer_while_its_process_lives(tmp_path: Path) -> None:
    assert not has_writer(tmp_path)
    with RunLock(tmp_path) as lock:
        lock.acquire()
        assert has_writer(tmp_path)
    assert not has_writer(tmp_path)
    dead = {"host": platform.node(), "pid": os.getpid(), "started": f"{process_started(os.getpid())}0"}
    (tmp_path / ".writer" / "1").write_text(json.dumps(dead))  # an earlier process of the same number
    assert not has_writer(tmp_path)
    (tmp_path / ".writer" / "1").write_text(json.dumps(dead | {"host": "elsewhere"}))
    assert has_writer(tmp_path)
    os.utime(tmp_path / ".writer" / "1", (0, 0))
    assert not has_writer(tmp_path)


def test_runs_with_the_same_validation_images_can_be_compared(tmp_path: Path) -> None:
    runs = [make(tmp_path / name) for name in "abcde"]
    for run, images in zip(runs, ["1 2", "1 3", "1 2", "1 2", None], strict=True):
        if images is not None:
            (run.path / "split").mkdir()
            (run.path / "split" / "val.txt").write_text(images)
    (runs[3].path / "config.yaml").write_text(json.dumps({"data": {"sample_unit": "patch"}}))
    assert paths(comparable_runs(runs)) == ["a", "c"]
    assert paths(comparable_runs(runs[3:])) == ["d"]
    assert comparable_runs([]) == []
