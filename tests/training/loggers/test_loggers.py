"""Loggers: what arrives there, and that they never change or stop a training."""

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.wandb_records import read_offline_runs
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from mammo.config.composition import compose_train
from mammo.config.resume import reopen
from mammo.errors import ConfigError
from mammo.evaluation.evaluation_files import calibration_of, predictions_of
from mammo.evaluation.predictions import Predictions
from mammo.evaluation.report import evaluation_report
from mammo.evaluation.training_run import train
from mammo.runs import RunFolder
from mammo.runs.run_lock import RunLock, RunTakenError
from mammo.training.loggers.epoch_record import EpochRecord
from mammo.training.loggers.tensorboard_runs import TensorBoardRuns

SMALL = [
    "data.patients=20", "data.height=64", "data.width=48", "data.batch_size=8", "model=custom_cnn",
    "trainer=cpu", "trainer.precision=32-true", "trainer.max_epochs=2", "trainer.log_every_n_steps=1",
    "report=false", "trainer.picture_epochs=2",
]  # fmt: skip
BAD = '''
from pytorch_lightning.loggers import Logger


class Bad(Logger):
    """Every method and property raises."""

    def fail(self, *_, **__):
        raise OSError("the server does not answer")

    name = version = save_dir = experiment = run_id = property(fail)
    log_metrics = log_hyperparams = log_graph = save = finalize = after_save_checkpoint = log_image = fail


class Mine(Logger):
    """Keeps what it gets, for the test."""

    name, version, kept = "mine", "", []

    def log_metrics(self, metrics, step=None):
        self.kept.append((step, dict(metrics)))

    def log_hyperparams(self, params, *_, **__):
        self.kept.append(("settings", dict(params)))


class Wrong:
    pass
'''


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_process_that_sleeps_before_it_writes_leaves_the_next_writers_rows(
    tmp_path: Path, epoch: int
) -> None:
    lock, metrics = RunLock(tmp_path), tmp_path / "metrics.csv"
    lock.acquire()
    record = EpochRecord(metrics=metrics, lock=lock)
    for number in (1, 2, 3):
        record._append({"epoch": number})
    next_lock = RunLock(tmp_path, take_over=True)
    check = lock.check

    def check_and_sleep() -> None:
        check()
        if next_lock.number is None:
            next_lock.acquire()
            writer = EpochRecord(metrics=metrics, lock=next_lock)
            writer._forget_after(epoch)
            writer._append({"epoch": 3})

    lock.check = check_and_sleep  # type: ignore[method-assign]
    record._append({"epoch": 4})
    assert pd.read_csv(metrics)["epoch"].tolist() == [*range(1, epoch + 1), 3]
    with pytest.raises(RunTakenError, match="another process has taken it over"):
        record._append({"epoch": 5})
    next_lock.release()
    lock.release()


@pytest.mark.parametrize("ahead", [0, 2, 60])
def test_a_resumed_run_whose_files_begin_in_one_second_has_each_epoch_once(
    ahead: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed = TensorBoardRuns(save_dir=tmp_path)
    for epoch in (1, 2):
        killed.log_metrics({"val/auc": 0.5, "train/auc": 0.5}, step=epoch)
    killed.finalize("")
    [file] = (tmp_path / "tensorboard").iterdir()
    # of a process with a greater id, or of a node whose clock is ahead
    file.rename(file.with_name(f"events.out.tfevents.{int(time.time()) + ahead}.~.99999999.0"))
    resumed = TensorBoardRuns(save_dir=tmp_path)
    assert resumed.experiment is not None  # Lightning asks for it before the checkpoint is loaded
    resumed.forget_from(2)
    resumed.log_metrics({"val/auc": 0.6, "train/auc": 0.6}, step=2)
    resumed.finalize("")
    assert resumed.experiment is not None  # for the pictures of the best epoch: it forgets nothing
    resumed.finalize("")
    told = capsys.readouterr().err
    if ahead < 60:
        for side in ("train", "val"):
            events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars(f"{side}/auc")
            assert [event.step for event in events] == [1, 2]
        assert told == ""
    else:
        assert "TensorBoard may show epochs twice; metrics.csv has each once" in told


@pytest.fixture(scope="module")
def start(place: Path) -> Callable[..., RunFolder]:
    """Trains in a folder of the given name with further overrides."""
    (place / "my_loggers.py").write_text(BAD)

    def start(name: str, *overrides: str) -> RunFolder:
        paths = [f"data.root={place}/phantom", f"data.store={place}/store"]
        run = train(compose_train([*SMALL, *paths, *overrides]), run_dir=place / name, overrides=[])
        assert run is not None
        return run

    return start


@pytest.fixture(scope="module")
def silent(start: Callable[..., RunFolder]) -> RunFolder:
    """A run without a logger."""
    return start("silent", "logger=none")


def assert_same_result(run: RunFolder, other: RunFolder) -> None:
    weights = [
        torch.load(each.checkpoints / "best.ckpt", weights_only=True)["state_dict"] for each in (run, other)
    ]
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name
    drop = ["train/images_per_second", "train/waiting_for_data"]
    curves = [pd.read_csv(each.metrics).drop(columns=drop) for each in (run, other)]
    pd.testing.assert_frame_equal(*curves)
    assert run.facts()["score"] == other.facts()["score"]
    assert sorted(file.name for file in other.figures.iterdir()) == [
        "accuracy.png", "auc.png", "loss.png",
    ]  # fmt: skip


@pytest.mark.slow
def test_several_loggers_get_the_curves_and_change_nothing(
    start: Callable[..., RunFolder], silent: RunFolder, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(place))
    drawn, figures_of = [], evaluation_report.figures_of

    def draw(predictions: Predictions, metrics: dict[str, float], *, split: str) -> Any:
        drawn.append((predictions.malignancy, metrics["threshold"]))
        return figures_of(predictions, metrics, split=split)

    monkeypatch.setattr(evaluation_report, "figures_of", draw)
    run = start("several", "logger=[tensorboard,csv]", "+logger.mine._target_=my_loggers.Mine")
    assert_same_result(silent, run)
    # the pictures are those of the best epoch, with the threshold of the report
    calibration = calibration_of(run)
    assert calibration is not None
    [(scores, threshold)] = drawn
    assert threshold == calibration.threshold()
    assert sorted(scores) == sorted(predictions_of(run, "val").malignancy)
    auc = pd.read_csv(run.metrics)["val/auc"].tolist()
    assert [path.name for path in run.tensorboard.iterdir() if path.is_dir()] == []  # one entry a run
    events = EventAccumulator(str(run.tensorboard)).Reload()
    assert [event.step for event in events.Scalars("val/auc")] == [1, 2]
    assert [event.value for event in events.Scalars("val/auc")] == pytest.approx(auc)
    content = events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    [category] = Layout.FromString(content).category
    charts = {chart.title: list(chart.multiline.tag) for chart in category.chart}
    assert charts["auc"] == ["train/auc$", "val/auc$"]
    assert {"loss", "accuracy"} < set(charts)
    [confusion] = events.Images("figures/confusion")  # of the best epoch only
    assert confusion.width > 700
    assert any(tag.startswith("heat/") for tag in events.Tags()["images"])
    with (run.path / "csv" / "version_0" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val/auc"]) for row in rows if row["val/auc"]] == pytest.approx(auc)
    from my_loggers import Mine

    settings = dict(Mine.kept)["settings"]
    assert settings["trainer.max_epochs"] == 2
    assert settings["checkpoint"] == str(run.checkpoints / "best.ckpt")
    steps = [step for step, values in Mine.kept if "train/loss_step" in values]
    assert steps == list(range(1, 1 + max(steps)))
    assert Mine.kept[-1][1]["score/auc"] == run.score
    assert not silent.tensorboard.exists()


@pytest.mark.slow
def test_a_logger_whose_every_method_raises_is_reported_once_and_changes_nothing(
    start: Callable[..., RunFolder],
    silent: RunFolder,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(str(place))
    run = start("bad", "logger=none", "+logger.bad._target_=my_loggers.Bad")
    assert_same_result(silent, run)
    reports = [line for line in capsys.readouterr().err.splitlines() if "does not answer" in line]
    assert reports == [
        "logger bad: not written (OSError: the server does not answer); the run continues without"
    ]


@pytest.mark.slow
def test_wandb_gets_everything_and_a_resumed_run_is_the_same_one(
    start: Callable[..., RunFolder], silent: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = start("wandb", "logger=wandb")
    assert_same_result(silent, run)
    cfg = compose_train([*SMALL, f"resume={run.path}", "trainer.max_epochs=3"])
    _, cfg = reopen(cfg, overrides=["trainer.max_epochs=3"])
    train(cfg, run_dir=run.path, overrides=[])
    kept = read_offline_runs(run.path / "wandb")
    assert kept["ids"] == {run.facts()["loggers"]["version"]}
    assert kept["config"]["model._target_"] == "mammo.models.custom_cnn.CustomCNN"
    assert kept["config"]["checkpoint"] == str(run.checkpoints / "best.ckpt")
    auc = pd.read_csv(run.metrics)["val/auc"].tolist()
    assert kept["history"]["val/auc"] == pytest.approx(auc)
    assert len(auc) == 3
    assert kept["history"]["score/auc"][-1] == run.score
    assert any(name.startswith("figures/") for name in kept["history"])
    assert list((run.path / "wandb").rglob("media/images/heat/*.png"))


@pytest.mark.slow
def test_mlflow_gets_everything_and_a_resumed_run_is_the_same_one(
    start: Callable[..., RunFolder], silent: RunFolder, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")
    run = start("mlflow", "logger=mlflow", f"+logger.mlflow.artifact_location={place}/artifacts")
    assert_same_result(silent, run)
    cfg = compose_train([*SMALL, f"resume={run.path}", "trainer.max_epochs=3"])
    _, cfg = reopen(cfg, overrides=["trainer.max_epochs=3"])
    train(cfg, run_dir=run.path, overrides=[])
    client = mlflow.MlflowClient(f"sqlite:///{place}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("mammo").experiment_id])
    assert [each.info.run_id for each in found] == [run.facts()["loggers"]["run_ids"]["mlflow"]]
    assert (found[0].info.run_name, found[0].info.status) == ("mlflow", "FINISHED")
    assert found[0].data.params["optim.lr"] == "0.001"
    assert found[0].data.params["checkpoint"] == str(run.checkpoints / "best.ckpt")
    history = client.get_metric_history(found[0].info.run_id, "val/auc")
    assert [point.value for point in history] == pytest.approx(pd.read_csv(run.metrics)["val/auc"].tolist())
    assert found[0].data.metrics["score/auc"] == run.score
    for folder in ("figures", "heat"):
        assert client.list_artifacts(found[0].info.run_id, folder)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["+logger.x._target_=my_loggers.Wrong"], "logger.x._target_=my_loggers.Wrong: is no logger"),
        (["+logger.x._target_=os.system"], "logger.x._target_=os.system: is no logger; give a subclass of"),
        (["+logger.tensorboard.save=1"], "has no such argument; did you mean save_dir?"),
        (["+logger.x=3"], "logger.x=3: is no node; give {_target_: package.module.Class}"),
        (["+callbacks.x={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: auc}"],
         "callbacks.x.monitor=auc: lightning.pytorch.callbacks.EarlyStopping needs a score of the"),
        (["trainer.max_time=soon"], "trainer: Lightning refuses its arguments: `Timer(duration='soon')`"),
    ],
)  # fmt: skip
def test_a_wrong_logger_or_callback_is_refused_before_data_are_read(
    overrides: list[str], sentence: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "my_loggers.py").write_text(BAD)
    monkeypatch.syspath_prepend(str(place))
    fresh = [f"data.root={tmp_path}/fresh", f"data.store={tmp_path}/fresh"]
    with pytest.raises(ConfigError) as refused:
        train(compose_train([*SMALL, *fresh, *overrides]), run_dir=tmp_path / "run", overrides=[])
    assert sentence in str(refused.value)
    assert not (tmp_path / "fresh").exists()


@pytest.mark.parametrize(("name", "package"), [("wandb", "wandb"), ("mlflow", "mlflow")])
def test_a_logger_without_its_package_names_the_extra(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else found(name))
    with pytest.raises(ConfigError) as refused:
        compose_train([f"logger={name}"])
    sentence = f"logger.{name}: the package {package} is not installed; pip install 'mammo[{name}]'"
    assert str(refused.value) == sentence


@pytest.mark.slow
def test_lightnings_own_callbacks_work_as_nodes(start: Callable[..., RunFolder]) -> None:
    own = "pytorch_lightning.callbacks"
    run = start(
        "callbacks",
        "logger=csv",
        f"+callbacks.rate._target_={own}.LearningRateMonitor",
        f"+callbacks.bar._target_={own}.RichProgressBar",
        "+callbacks.top._target_=lightning.pytorch.callbacks.ModelCheckpoint",
        "+callbacks.top.monitor=val/auc",
        "+callbacks.top.mode=max",
        f"+callbacks.early._target_={own}.EarlyStopping",
        "+callbacks.early.monitor=val/loss",
        "trainer.overfit_batches=1",
        "trainer.profiler=simple",
        "trainer.enable_progress_bar=false",
    )
    assert len(list((run.checkpoints / "top").glob("*.ckpt"))) == 1
    with (run.path / "csv" / "version_0" / "metrics.csv").open() as file:
        assert any(name.startswith("lr-") for name in csv.DictReader(file).fieldnames or [])
    assert (run.path / "fit-profile.txt").read_text().startswith("FIT Profiler Report")
    # the score is that of the limited images
    table: Any = pd.read_csv(run.evaluation / "val" / "predictions.csv")
    assert len(table) <= 8
    assert np.isfinite(pd.read_csv(run.metrics)["train/loss"]).all()
