"""What callbacks check, switch and write during training."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from helpers.commands import command
from helpers.small_runs import module, train
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from mammo.data.loading.datamodule import MammogramDataModule
from mammo.errors import DataError
from mammo.metrics import Estimate
from mammo.models.layer_depth import layer_of_parameters
from mammo.runs import RunFolder
from mammo.runs.run_lock import RunLock, RunTakenError
from mammo.training.callbacks import BatchSeed, FiniteLoss, Unfreezing
from mammo.training.checkpoints import Checkpoints
from mammo.training.loggers.hparams import write_hparams
from mammo.training.module import MammogramModule
from mammo.training.optim import build_optimizer


class Spoiled(nn.Module):
    """Returns NaN after a given number of training batches."""

    def __init__(self, network: nn.Module, *, after: int) -> None:
        super().__init__()
        self.network = network
        self.batches = 0
        self.after = after

    def forward(self, images: Tensor) -> Tensor:
        self.batches += self.training
        logits: Tensor = self.network(images)
        return logits * (float("nan") if self.batches > self.after else 1.0)

    def get_classifier(self) -> nn.Module:
        return self.network.get_classifier()  # type: ignore[operator, no-any-return]

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {"stem": r"^network\.", "blocks": []}


def checkpoints(folder: Path, **options: Any) -> Checkpoints:
    options = {"lock": RunLock(folder), "minutes": None, "steps": None} | options
    return Checkpoints(folder=folder, monitor="val/auc", mode="max", **options)


def test_a_replaced_process_leaves_the_checkpoints_of_its_successor(
    datamodule: MammogramDataModule, tmp_path: Path
) -> None:
    lock = RunLock(tmp_path)
    lock.acquire()

    class TakenOver(pl.Callback):
        """Lets another process take the run over while the second epoch's checkpoint is written."""

        def on_save_checkpoint(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.current_epoch == 1:
                RunLock(tmp_path, take_over=True).acquire()

    folder = tmp_path / "checkpoints"
    with pytest.raises(RunTakenError):
        train(
            module(datamodule),
            datamodule,
            epochs=3,
            callbacks=(checkpoints(folder, lock=lock), TakenOver()),
        )
    assert sorted(file.name for file in folder.iterdir()) == ["best.ckpt", "last.ckpt"]
    assert torch.load(folder / "last.ckpt", weights_only=True)["epoch"] == 0


def test_loss_that_is_no_number_names_its_images_and_keeps_the_last_checkpoint(
    datamodule: MammogramDataModule,
    tmp_path: Path,
) -> None:
    spoiled = module(datamodule)
    spoiled.network = Spoiled(spoiled.network, after=3)
    with pytest.raises(DataError, match=r"the loss is nan in epoch 2, batch 2 \(i\d, i\d, i\d, i\d\)"):
        train(
            spoiled,
            datamodule,
            epochs=3,
            callbacks=(
                FiniteLoss(),
                checkpoints(tmp_path),
            ),
        )
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert kept["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] == 1
    assert all(weights.isfinite().all() for weights in kept["state_dict"].values())


def test_weights_that_are_no_numbers_reach_no_checkpoint(
    datamodule: MammogramDataModule,
    tmp_path: Path,
) -> None:
    """Validation, which would find them too, is switched off here."""

    class Poison(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            pl_module.get_parameter("network.classifier.bias").data.fill_(float("inf"))

    poisoned = module(datamodule)
    with pytest.raises(DataError, match=r"network\.classifier\.bias is not finite in epoch 1"):
        train(
            poisoned,
            datamodule,
            epochs=1,
            callbacks=(
                FiniteLoss(),
                Poison(),
                checkpoints(tmp_path),
            ),
        )
    assert not (tmp_path / "last.ckpt").exists()


@pytest.mark.slow
def test_too_great_a_learning_rate_is_told_by_the_command(tmp_path: Path) -> None:
    settings = ["data.patients=20", "data.height=64", "data.width=48", "model=custom_cnn", "optim=sgd"]
    settings += ["optim.lr=1e30", "trainer.gradient_clip_val=null", "run_dir=r"]
    result = command("train", *settings, folder=tmp_path)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: the loss is ")
    assert " in epoch 1, " in last
    assert "P_0" in last
    assert "lower optim.lr" in last
    assert json.loads((tmp_path / "r" / "run.json").read_text())["status"] == "failed"


def test_layers_thaw_in_turn_with_the_statistics_of_their_norms(
    datamodule: MammogramDataModule,
) -> None:
    class Trained(pl.Callback):
        """Layers whose weights or statistics changed, for each epoch."""

        def __init__(self) -> None:
            self.epochs: list[set[int]] = []

        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.before = {name: value.clone() for name, value in pl_module.network.state_dict().items()}

        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            after = pl_module.network.state_dict()
            layers = layer_of_parameters(pl_module.network, coarse=True)
            owner = {name.rpartition(".")[0]: layer for name, layer in layers.items()}
            self.epochs.append(
                {owner[n.rpartition(".")[0]] for n in after if not torch.equal(after[n], self.before[n])}
            )

    trained = Trained()
    model = module(datamodule)
    head = max(layer_of_parameters(model.network, coarse=True).values())
    train(
        model,
        datamodule,
        epochs=4,
        callbacks=(
            Unfreezing(freeze_epochs=2, unfreeze_every=1),
            trained,
        ),
    )
    assert trained.epochs == [{head}, {head}, {head, head - 1}, {head, head - 1, head - 2}]


def test_batch_normalisation_keeps_its_statistics_and_its_weights_learn(
    datamodule: MammogramDataModule,
) -> None:
    model = module(datamodule)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    train(model, datamodule, epochs=2, callbacks=(Unfreezing(freeze_batch_norm=True),))
    after = model.network.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {name for name, _ in model.network.named_parameters()}
    assert any("running_mean" in name for name in before)


def test_draws_of_a_batch_depend_on_seed_and_number_alone(
    datamodule: MammogramDataModule,
) -> None:
    class Draws(pl.Callback):
        def __init__(self) -> None:
            self.drawn: list[float] = []

        def on_train_batch_start(
            self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
        ) -> None:
            self.drawn.append(float(torch.rand(())))

    drawn = []
    for global_seed, seed in ((0, 5), (1, 5), (0, 6)):
        torch.manual_seed(global_seed)
        draws = Draws()
        train(
            module(datamodule),
            datamodule,
            epochs=2,
            callbacks=(
                BatchSeed(seed),
                draws,
            ),
        )
        drawn.append(draws.drawn)
    assert drawn[0] == drawn[1]
    assert len({*drawn[0], *drawn[2]}) == 8


@pytest.mark.parametrize("micro_batches", [2, 4])
def test_parts_of_a_batch_make_the_same_step_as_the_whole(
    datamodule: MammogramDataModule,
    micro_batches: int,
) -> None:
    """Batch normalisation, whose statistics depend on the part, is removed; the last batch is smaller."""

    datamodule.train.rows = datamodule.train.rows[:6]
    datamodule.train.labels = datamodule.train.labels[:6]

    def weights(parts: int) -> dict[str, Tensor]:
        torch.manual_seed(0)
        # Adam would amplify the rounding errors of gradients that are almost zero
        model = module(
            datamodule, optimizer=partial(build_optimizer, node={"_target_": "torch.optim.SGD", "lr": 0.1})
        )
        for layer in model.network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()
        datamodule.micro_batches = parts
        train(model, datamodule, epochs=2, accumulate_grad_batches=parts)
        return model.network.state_dict()

    whole, parts = weights(1), weights(micro_batches)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-3, atol=1e-5)


def hparams_table(logdir: Path) -> tuple[dict[str, bool], list[str]]:
    """Columns of TensorBoard's HParams in their order, with whether the runs differ, and the metrics."""
    events = EventMultiplexer().AddRunsFromDirectory(str(logdir))
    events.Reload()
    provider = MultiplexerDataProvider(events, str(logdir))
    context = Context(TBContext(data_provider=provider, multiplexer=events))
    request = RequestContext()
    content = context.hparams_metadata(request, "")
    named = context.hparams_from_data_provider(request, "", 0)
    found = context.experiment_from_metadata(request, "", True, content, named)
    differs = {info.name: info.differs for info in found.hparam_infos}
    return differs, [info.name.tag for info in found.metric_infos]


def test_hparams_hold_settings_and_final_score(tmp_path: Path) -> None:
    config = {
        "seed": 3,
        "model": {"name": "resnet18", "dropout": 0.1},
        "data": {"root": "x", "sample": [1, 2]},
    }
    overrides = ["seed=3", "model.dropout=0.1", "data.root=x", "data.sample=[1,2]"]
    run = RunFolder.create(tmp_path / "run", config=config, overrides=overrides)
    with SummaryWriter(run.tensorboard) as writer:
        writer.add_scalar("val/auc", 0.7, 1)

    def columns(searched: list[str] | None) -> dict[str, Any]:
        for value in (0.5, 0.75):  # a run with more epochs writes them again
            write_hparams(run, score=Estimate(value, 0.4, 0.9, 0.05), seconds=9.0, searched=searched)
        events = EventAccumulator(str(run.tensorboard)).Reload()
        assert [event.value for event in events.Scalars("score/auc")] == [0.75]
        assert [event.step for event in events.Scalars("val/auc")] == [1]  # the curves are in the same run
        assert "_hparams_/experiment" not in events.summary_metadata  # it would hide other runs' columns
        content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        found = parse_session_start_info_plugin_data(content).hparams
        return {name: value.string_value or value.number_value for name, value in found.items()}

    differing = {"seed": 3, "model.dropout": 0.1, "data.sample": "[1, 2]"}
    assert columns(None) == pytest.approx(differing | {"model": "resnet18"})
    assert columns(["model"]) == {"model": "resnet18"}
    assert columns(["seed", "name"]) == {"seed": 3, "model": "resnet18"}


def test_the_table_of_a_multirun_has_no_constant_column_but_the_network(tmp_path: Path) -> None:
    every = ["data.patients=30", "trainer.max_epochs=2"]
    nodes = {
        "resnet18": {"name": "resnet18"},
        "custom_cnn": {"_target_": "a.CustomCNN", "activation": "relu"},
    }
    trainings = [("resnet18", 0.1, "flips"), ("custom_cnn", 0.1, "light"), ("custom_cnn", 0.2, "light")]
    for number, (model, lr, augment) in enumerate(trainings):
        settings = {
            "seed": 0,
            "data": {"patients": 30},
            "trainer": {"max_epochs": 2},
            "augment": {"zoom": 0.1 * number},
        }
        config = settings | {"model": nodes[model], "optim": {"lr": lr}}
        overrides = [*every, f"model={model}", f"optim.lr={lr}", f"augment={augment}"]
        run = RunFolder.create(tmp_path / str(number), config=config, overrides=overrides)
        searched = ["model", "optim.lr", "augment"]
        write_hparams(run, score=Estimate(0.7, 0.6, 0.8, 0.05), seconds=9.0, searched=searched)
    columns, metrics = hparams_table(tmp_path)
    assert columns == {"augment": True, "model": True, "optim.lr": True}  # the nodes of the choices are not
    assert metrics == ["score/auc", "score/auc_high", "score/auc_low", "score/seconds"]


def test_best_checkpoint_is_of_the_best_epoch(
    datamodule: MammogramDataModule,
    tmp_path: Path,
) -> None:
    class Scores(pl.Callback):
        def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            trainer.callback_metrics["val/auc"] = torch.tensor([0.3, 0.8, 0.8, 0.1][trainer.current_epoch])

    kept = checkpoints(tmp_path)
    model: MammogramModule = module(datamodule)
    train(
        model,
        datamodule,
        epochs=4,
        callbacks=(
            Scores(),
            kept,
        ),
    )
    assert (kept.best, kept.best_epoch) == (pytest.approx(0.8), 2)
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["epoch"] == 1
    assert {file.name for file in tmp_path.iterdir()} == {"best.ckpt", "last.ckpt", "previous.ckpt"}
