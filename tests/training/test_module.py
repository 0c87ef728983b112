from functools import partial
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from mammo.data.datamodule import MammogramDataModule
from mammo.data.splits import Split
from mammo.data.store import Store
from mammo.models.backbones import build_model
from mammo.training.module import MammogramModule
from mammo.training.optim import build_optimizer, learning_rate_factor


class Rows(pl.Callback):
    """The rows of each training epoch, in their order."""

    def __init__(self) -> None:
        self.epochs: list[list[int]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epochs.append([])

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.epochs[-1] += batch["row"].tolist()


@pytest.fixture
def datamodule(grey_store: Store) -> MammogramDataModule:
    ids = grey_store.table["image_id"].tolist()
    return MammogramDataModule(
        store=grey_store,
        split=Split(train=ids[:8], val=ids[2:6], test=[]),
        task="pathology",
        batch_size=4,
        loader_workers=0,
        balance="none",
        augment=None,
        seed=0,
    )


def module(datamodule: MammogramDataModule, *, lr: float = 1e-3, **changes: Any) -> MammogramModule:
    mean, std = datamodule.statistics()
    arguments: dict[str, Any] = {
        "network": build_model(name="custom_cnn", num_classes=2),
        "num_classes": 2,
        "mean": mean,
        "std": std,
        "loss": nn.CrossEntropyLoss(),
        "optimizer": partial(build_optimizer, name="adamw", lr=lr),
        "schedule": partial(learning_rate_factor, name="constant"),
    }
    return MammogramModule(**(arguments | changes))


def train(model: MammogramModule, datamodule: MammogramDataModule, *, epochs: int, **options: Any) -> Rows:
    rows = Rows()
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, callbacks=[rows], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(model, datamodule)
    return rows


def test_each_epoch_has_an_order_of_its_own(datamodule: MammogramDataModule) -> None:
    epochs = train(module(datamodule), datamodule, epochs=3).epochs
    assert [sorted(epoch) for epoch in epochs] == [list(range(8))] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_brighter_images_are_learned_as_benign(datamodule: MammogramDataModule) -> None:
    """Grey value decides the class of the ten images, so a few steps must tell the classes apart."""
    pl.seed_everything(0, verbose=False)
    model = module(datamodule, lr=1e-2)
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
