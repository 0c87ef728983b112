from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from helpers.small_runs import module, train

from mammo.data.loading.datamodule import MammogramDataModule
from mammo.training.schedules import build_schedule


def test_each_epoch_has_an_order_of_its_own(datamodule: MammogramDataModule) -> None:
    epochs = train(module(datamodule), datamodule, epochs=3).epochs
    assert [sorted(epoch) for epoch in epochs] == [list(range(8))] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_brighter_images_are_learned_as_benign(datamodule: MammogramDataModule) -> None:
    """Grey value decides the class of the ten images, so a few steps must separate the classes."""
    pl.seed_everything(0, verbose=False)
    falling = partial(
        build_schedule,
        node={"_target_": "mammo.training.schedules.cosine", "warmup_epochs": 0, "final_lr_fraction": 0.1},
        mode="max",
    )
    model = module(datamodule, lr=1e-2, schedule=falling)
    train(model, datamodule, epochs=30)
    scores = model.val_scores.compute()
    assert float(scores["auc"]) == 1.0
    assert float(scores["loss"]) < 0.5


def test_normalisation_is_among_the_weights(datamodule: MammogramDataModule) -> None:
    model = module(datamodule)
    state = model.state_dict()
    assert (float(state["mean"]), float(state["std"])) == pytest.approx(datamodule.statistics())
    assert not any("scores" in name for name in state)


def test_logits_are_those_of_the_normalised_image(datamodule: MammogramDataModule) -> None:
    model = module(datamodule).eval()
    images = torch.rand(2, 1, 40, 32)
    expected = model.network((images - model.mean) / model.std)
    torch.testing.assert_close(model(images), expected)
