"""The list of runs: rows, text, CSV and page."""

import csv
import datetime
import io
import json
import shlex
from pathlib import Path

import pytest
import yaml
from helpers.commands import command
from helpers.pages import SMALLEST_TEXT, Browser, Outline

from mammo.config.checks import plain
from mammo.config.choices import RunOrder
from mammo.config.composition import compose_train
from mammo.sweeping.run_list.run_list_page import render_run_list
from mammo.sweeping.run_list.run_rows import RunRow, read_rows, rows_csv, rows_text

NOW = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)


def make(folder: Path, *overrides: str, status: str = "finished", auc: float | None = 0.7258064516) -> None:
    (folder / "evaluation" / "val").mkdir(parents=True)
    config = plain(compose_train(list(overrides)))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    facts = {"status": status, "overrides": overrides, "started": "2026-01-01T19:00:00.000+00:00"}
    if status == "finished":
        facts |= {"score": {"value": auc, "low": 0.6, "high": 0.8}, "seconds": 9.0, "epochs": 2}
        (folder / "evaluation" / "val" / "report.html").write_text("report")
    (folder / "run.json").write_text(json.dumps(facts))
    (folder / "metrics.csv").write_text("epoch,val/auc,val/loss\n1,0.6,0.7\n2,nan,nan\n3,0.7,0.65\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    runs = tmp_path / "my runs"
    make(runs / "a <b>", "seed=3")
    make(runs / "m" / "1", "seed=3", "model=resnet34", "data.split=kfold", "data.fold=1", auc=0.9)
    make(runs / "killed", "seed=3", status="running")
    (runs / "damaged").mkdir()
    (runs / "damaged" / "run.json").write_text("{")
    return runs


def test_rows(folder: Path) -> None:
    rows = {row.name: row for row in read_rows(folder, order=RunOrder.run)}
    assert list(rows) == sorted(rows)
    assert rows["m/1"].differs == {"seed": 3, "model": "resnet34", "data.split": "kfold", "data.fold": 1}
    assert (rows["m/1"].data, rows["m/1"].split) == ("phantom", "fold 1 of 5")
    assert rows["m/1"].curves == {"auc": [(1, 0.6), (3, 0.7)], "loss": [(1, 0.7), (3, 0.65)]}
    assert rows["m/1"].age(NOW) == "5 h"
    assert rows["killed"].status == "stopped"  # no process writes to it
    assert rows["damaged"].status == "unreadable"
    assert [row.name for row in read_rows(folder, order=RunOrder.score)][:2] == ["m/1", "a <b>"]


def test_text_and_csv(folder: Path) -> None:
    rows = [row for row in read_rows(folder, order=RunOrder.score) if row.status == "finished"]
    text = rows_text(rows, now=NOW)
    assert "0.726  0.600 to 0.800" in text
    assert text.splitlines()[-1] == "all runs   seed=3"
    first, second = csv.DictReader(io.StringIO(rows_csv(rows)))
    assert (first["name"], float(second["auc"])) == ("m/1", 0.7258064516)
    assert set(first["differs"].split()) == {"seed=3", "model=resnet34", "split=kfold", "fold=1"}


def test_ages() -> None:
    def age(**since: float) -> str:
        return RunRow("a", Path(), "finished", started=NOW - datetime.timedelta(**since)).age(NOW)

    assert [age(minutes=3), age(hours=5), age(days=9)] == ["3 min", "5 h", "9 d"]


def test_the_page_has_a_curve_and_a_row_for_each_run_and_links_to_reports(folder: Path) -> None:
    rows = read_rows(folder, order=RunOrder.started)
    page = render_run_list(rows, folder=folder, output=folder, now=NOW)
    outline = Outline(page)
    assert outline.without_text == 0
    assert "m/1/evaluation/val/report.html" in outline.named
    assert page.count("<polyline data-run") == 2 * 3  # AUC and loss of the readable runs
    assert page.count("<tr data-run") == 4
    assert "a &lt;b&gt;" in page
    assert "0.7258" not in page.replace('data-value="0.7258064516"', "")


def test_the_page_sorts_filters_and_fits(folder: Path, browser: Browser) -> None:
    rows = read_rows(folder, order=RunOrder.run)
    file = folder / "runs.html"
    file.write_text(render_run_list(rows, folder=folder, output=folder, now=NOW))
    for width in (1280, 390):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.ask("Emulation.setDeviceMetricsOverride", **size)
        browser.open(file)
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        assert browser.run(SMALLEST_TEXT.format(selector=".curves text")) > 11
    shown = "[...document.querySelectorAll('#runs tbody tr')].filter((row) => !row.hidden)"
    names = f"{shown}.map((row) => row.cells[0].textContent)"
    click = "document.querySelectorAll('#runs thead button')[4].click(), "
    assert browser.run(f"({click}{names})")[:2] == ["a <b>", "m/1"]
    assert browser.run(f"({click}{names})")[:2] == ["m/1", "a <b>"]
    field = "document.getElementById('filter-text')"
    typed = f"({field}.value = 'resnet34', {field}.dispatchEvent(new Event('input')))"
    assert browser.run(f"({typed}, {names})") == ["m/1"]
    assert browser.run("document.querySelectorAll('.curves .off').length") == 4


@pytest.mark.slow
def test_the_command_takes_a_folder_without_its_key(folder: Path, tmp_path: Path) -> None:
    listed = command("runs", "my runs", "sort=score", folder=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.splitlines()[1].startswith("m/1 ")
    for name in ("runs.csv", "runs.html"):
        assert (folder / name).stat().st_size > 100
    # no two of the runs have the same validation images
    assert "mammo.evaluate 'run=my runs/m/1' split=val\n" in listed.stdout
    for name in ("a <b>", "m/1"):
        (folder / name / "split").mkdir()
        (folder / name / "split" / "val.txt").write_text("x")
    again = command("runs", "my runs", folder=tmp_path)
    assert "compare 'runs=my runs' split=val\n" in again.stdout
    make(folder / "other data")
    again = command("runs", "my runs", folder=tmp_path)
    [then] = [line for line in again.stdout.splitlines() if line.startswith("next ")]
    assert shlex.split(then)[-2:] == ["runs=[my runs/m/1,'my runs/a <b>']", "split=val"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my runs"]
    missing = command("runs", "nowhere", folder=tmp_path)
    assert (missing.returncode, missing.stderr) == (
        1, "error: folder=nowhere: no such folder; give the one of your runs\n",
    )  # fmt: skip
