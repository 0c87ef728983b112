"""A training goes on when what only shows it cannot be written."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mammo.config.composition import compose_train
from mammo.evaluation import training_run, validation_pictures
from mammo.evaluation.report import evaluation_report
from mammo.evaluation.training_run import train
from mammo.runs import RunFolder
from mammo.runs.run_lock import RunTakenError
from mammo.training.loggers import logger_output, tensorboard_runs
from mammo.training.optional_output import OptionalOutput

SMALL = [
    "data.patients=20", "data.height=64", "data.width=48", "model=custom_cnn", "trainer=cpu",
    "trainer.precision=32-true", "trainer.max_epochs=2", "trainer.picture_epochs=1",
]  # fmt: skip


def refuse(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.slow
def test_a_failing_picture_or_table_is_reported_once_and_changes_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = compose_train([*SMALL, f"data.root={tmp_path}/phantom", f"data.store={tmp_path}/store"])
    train(cfg, run_dir=tmp_path / "whole", overrides=[])
    assert "not written" not in capsys.readouterr().err
    monkeypatch.setattr(tensorboard_runs.SummaryWriter, "add_scalar", refuse)
    monkeypatch.setattr(validation_pictures, "draw_views", refuse)
    monkeypatch.setattr(logger_output, "write_hparams", refuse)
    monkeypatch.setattr(evaluation_report, "figures_of", refuse)
    run = train(cfg, run_dir=tmp_path / "failing", overrides=[])
    assert run is not None
    reports = [line for line in capsys.readouterr().err.splitlines() if "not written" in line]
    assert [line.partition(":")[0] for line in reports] == [
        "pictures", "logger tensorboard", "curves and report",
    ]  # fmt: skip
    for line in reports:
        assert line.endswith("(OSError: [Errno 28] No space left on device); the run continues without")
    facts = [RunFolder(tmp_path / name).facts() for name in ("whole", "failing")]
    assert [fact["status"] for fact in facts] == ["finished"] * 2
    assert facts[0]["score"] == facts[1]["score"]
    best = [torch.load(tmp_path / name / "checkpoints" / "best.ckpt") for name in ("whole", "failing")]
    for name, tensor in best[0]["state_dict"].items():
        assert torch.equal(tensor, best[1]["state_dict"][name]), name
    with (tmp_path / "failing" / "metrics.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    assert json.loads((tmp_path / "failing" / "evaluation" / "val" / "metrics.json").read_text())["image"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RunTakenError("taken")])
def test_the_end_of_a_run_is_not_suppressed(error: BaseException) -> None:
    with pytest.raises(type(error)), OptionalOutput("pictures"):
        raise error


@pytest.mark.parametrize(("report", "every", "drawn"), [(True, "null", 1), (False, "null", 0), (False, 2, 1)])
def test_pictures_are_drawn_with_a_report_or_where_their_epochs_are_given(
    report: bool, every: object, drawn: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(training_run, "fit", lambda *_, callbacks, **__: given.extend(callbacks))
    cfg = compose_train([f"report={report}", f"trainer.picture_epochs={every}"])
    train(cfg, run_dir=tmp_path / "run", overrides=[])
    assert [type(callback).__name__ for callback in given] == ["ValidationPictures"] * drawn
