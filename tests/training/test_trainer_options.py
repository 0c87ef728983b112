"""Lightning's own options in a training: what they do to steps, orders, validations and checkpoints."""

import csv
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from helpers.small_runs import module, train
from torch import Tensor, nn

from mammo.data.loading.datamodule import MammogramDataModule
from mammo.runs.run_lock import RunLock
from mammo.training.callbacks import LastStep
from mammo.training.checkpoints import Checkpoints
from mammo.training.loggers.epoch_record import EpochRecord
from mammo.training.optim import build_optimizer
from mammo.training.schedules import build_schedule

SGD = partial(build_optimizer, node={"_target_": "torch.optim.SGD", "lr": 0.1})


def recorded(folder: Path, **options: Any) -> tuple[pl.Callback, ...]:
    lock = RunLock(folder)
    saved = {"monitor": "val/auc", "mode": "max", "minutes": None, "steps": None} | options
    return (
        LastStep(),
        EpochRecord(metrics=folder / "metrics.csv", lock=lock),
        Checkpoints(folder=folder / "checkpoints", lock=lock, **saved),
    )


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def without_norm(datamodule: MammogramDataModule) -> pl.LightningModule:
    """A network without batch normalisation, whose statistics depend on the size of a batch."""
    torch.manual_seed(0)
    model = module(datamodule, optimizer=SGD)
    for layer in model.network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
    return model


@pytest.mark.parametrize("images", [8, 6])
def test_accumulated_batches_make_the_step_of_one_batch_of_their_images(
    datamodule: MammogramDataModule, images: int
) -> None:
    """With six images the last step of an epoch has fewer batches."""
    datamodule.train.rows = datamodule.train.rows[:images]
    datamodule.train.labels = datamodule.train.labels[:images]

    def weights(batch: int, batches: int, micro: int) -> dict[str, Tensor]:
        model = without_norm(datamodule)
        datamodule.batch_size, datamodule.accumulate_grad_batches = batch, batches
        datamodule.micro_batches = micro
        assert datamodule.steps_per_epoch == 2
        train(model, datamodule, epochs=2, accumulate_grad_batches=batches * micro)
        return model.network.state_dict()

    whole = weights(4, 1, 1)
    for choice in ((2, 2, 1), (2, 2, 2)):
        for name, value in weights(*choice).items():
            torch.testing.assert_close(value, whole[name], rtol=1e-3, atol=1e-5)


def test_limited_batches_are_the_first_of_each_epochs_order(datamodule: MammogramDataModule) -> None:
    datamodule.batch_size = 2
    whole = train(module(datamodule), datamodule, epochs=2).epochs
    datamodule.limit_train_batches = 3
    assert (datamodule.samples_per_epoch, datamodule.steps_per_epoch) == (6, 3)
    part = train(module(datamodule), datamodule, epochs=2, limit_train_batches=3).epochs
    assert part == [epoch[:6] for epoch in whole]
    datamodule.limit_train_batches = 0.5
    assert datamodule.samples_per_epoch == 4
    datamodule.limit_val_batches = 1
    assert datamodule.validated_samples == 2


def test_overfitting_trains_on_the_same_batches_in_each_epoch(datamodule: MammogramDataModule) -> None:
    datamodule.same_order, datamodule.limit_train_batches = True, 1
    epochs = train(module(datamodule), datamodule, epochs=3, limit_train_batches=1).epochs
    assert epochs[0] == epochs[1] == epochs[2]
    assert len(epochs[0]) == 4


def test_the_schedule_ends_at_the_last_step_and_the_last_weights_are_validated(
    datamodule: MammogramDataModule, tmp_path: Path
) -> None:
    datamodule.batch_size = 2  # four steps in an epoch
    node = {"_target_": "mammo.training.schedules.cosine", "warmup_epochs": 0, "final_lr_fraction": 0.5}
    model = module(datamodule, lr=1.0, schedule=partial(build_schedule, node=node, mode="max"))
    train(model, datamodule, epochs=5, callbacks=recorded(tmp_path), max_steps=6)
    epochs = rows_of(tmp_path)
    assert [row["epoch"] for row in epochs] == ["1", "2"]
    assert float(epochs[1]["train/lr"]) == pytest.approx(0.5)
    assert epochs[1]["val/auc"] != "nan"
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 6
    states = [state for state in last["callbacks"].values() if "stopped" in state]
    assert [state["stopped"] for state in states] == [False]  # a resumed run may have more steps


def test_epochs_without_a_validation_have_no_scores_and_no_best_checkpoint(
    datamodule: MammogramDataModule, tmp_path: Path
) -> None:
    node = {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "patience": 0, "factor": 0.5}
    model = module(datamodule, lr=1.0, schedule=partial(build_schedule, node=node, mode="max"))
    own = recorded(tmp_path)
    train(
        model, datamodule, epochs=5, callbacks=own, check_val_every_n_epoch=2, num_sanity_val_steps=1
    )  # fmt: skip
    epochs = rows_of(tmp_path)
    assert [row["val/loss"] == "nan" for row in epochs] == [True, False, True, False, True]
    assert own[-1].best_epoch in (2, 4)
    assert model.plateau is not None
    assert model.plateau.last_epoch == 2  # it is advanced at each validation


def test_validations_within_an_epoch_have_rows_and_compete_for_the_best_checkpoint(
    datamodule: MammogramDataModule, tmp_path: Path
) -> None:
    """Four batches in an epoch, a validation after each second; the second validation is the best."""

    scores = iter([0.2, 0.3, 0.9, 0.4, 0.5, 0.6])
    model = module(datamodule)
    model.on_validation_epoch_end = lambda: model.log("val/auc", next(scores))
    datamodule.batch_size = 2
    own = recorded(tmp_path)
    train(model, datamodule, epochs=3, callbacks=own, val_check_interval=0.5, num_sanity_val_steps=0)
    assert [float(row["epoch"]) for row in rows_of(tmp_path)] == [0.5, 1, 1.5, 2, 2.5, 3]
    best = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    assert (best["epoch"], best["global_step"], own[-1].best_epoch) == (1, 6, 2)


class Stop(BaseException):
    """Simulates a kill."""


@pytest.mark.parametrize("kill_after", [1, 2, 3, 4, 5])
def test_a_run_with_validations_within_its_epochs_resumes_exactly(
    datamodule: MammogramDataModule, tmp_path: Path, kill_after: int
) -> None:
    class Killer(Checkpoints):
        saved = 0

        def _save(self, trainer: pl.Trainer, *, best: bool = False) -> None:
            super()._save(trainer, best=best)
            self.saved += 1
            if self.saved == kill_after:
                raise Stop

    def run(folder: Path, kind: type[Checkpoints], resume: Path | None = None) -> None:
        folder.mkdir(exist_ok=True)
        datamodule.batch_size = 2
        torch.manual_seed(0)
        model, lock = module(datamodule), RunLock(folder)
        saved = kind(
            folder=folder / "c", lock=lock, monitor="val/auc", mode="max", minutes=None, steps=1
        )  # fmt: skip
        trainer = pl.Trainer(
            max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False,
            enable_model_summary=False, val_check_interval=2,
            callbacks=[EpochRecord(metrics=folder / "metrics.csv", lock=lock), saved],
        )  # fmt: skip
        trainer.fit(model, datamodule, ckpt_path=resume, weights_only=True)

    run(tmp_path / "whole", Checkpoints)
    with pytest.raises(Stop):
        run(tmp_path / "killed", Killer)
    run(tmp_path / "killed", Checkpoints, resume=tmp_path / "killed" / "c" / "last.ckpt")
    whole, killed = (
        torch.load(tmp_path / name / "c" / "last.ckpt", weights_only=True) for name in ("whole", "killed")
    )
    assert whole["global_step"] == killed["global_step"]
    for name, tensor in whole["state_dict"].items():
        assert torch.equal(tensor, killed["state_dict"][name]), name
    drop = {"train/images_per_second", "train/waiting_for_data"}
    tables = [
        [{key: value for key, value in row.items() if key not in drop} for row in rows_of(tmp_path / name)]
        for name in ("whole", "killed")
    ]
    assert [row["epoch"] for row in tables[0]] == ["0.5", "1", "1.5", "2"]
    assert tables[0] == tables[1]
