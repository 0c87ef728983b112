from collections.abc import Callable

import numpy as np
import pytest
import torch

from mammo.data.augment import BatchAugment
from mammo.data.datamodule import MammogramDataModule
from mammo.data.order import EpochSampler
from mammo.data.splits import Split
from mammo.data.store import Store

Make = Callable[..., MammogramDataModule]


@pytest.fixture
def make(grey_store: Store) -> Make:
    def make_module(**changes: object) -> MammogramDataModule:
        ids = grey_store.table["image_id"].tolist()
        arguments = {
            "store": grey_store,
            "split": Split(train=ids[:7], val=ids[7:9], test=ids[9:]),
            "task": "pathology",
            "batch_size": 3,
            "loader_workers": 0,
            "balance": "none",
            "augment": None,
            "seed": 0,
        }
        return MammogramDataModule(**(arguments | changes))  # type: ignore[arg-type]

    return make_module


def test_batches_hold_the_split_with_its_labels(make: Make) -> None:
    batches = list(make().train_dataloader())
    rows = torch.cat([batch["row"] for batch in batches]).tolist()
    assert len(set(rows)) == len(rows) == 6  # the seventh would be a batch of one
    for batch in batches:
        assert batch["image"].dtype == torch.uint16
        assert batch["image"].shape[1:] == (1, 40, 32)
        # grey value and label both name the image
        assert (batch["image"][:, 0, 20, 16].int() == 1000 * (batch["row"] + 1)).all()
        assert batch["label"].tolist() == [int(row < 4) for row in batch["row"]]


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochSampler(labels=np.zeros(50, np.int64), seed=seed, balanced=False)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)
    assert sorted(order(0, 3)) == list(range(50))


def test_balanced_sampling_draws_each_class_as_often() -> None:
    labels = np.array([1] * 20 + [0] * 180)
    sampler = EpochSampler(labels=labels, seed=0, balanced=True)
    drawn = []
    for epoch in range(20):
        sampler.set_epoch(epoch)
        drawn += list(sampler)
    assert labels[drawn].mean() == pytest.approx(0.5, abs=0.03)


def test_class_weights_and_statistics_are_of_the_training_images(make: Make, grey_store: Store) -> None:
    module = make(balance="weights")
    weights = module.class_weights()
    assert weights is not None
    assert weights.tolist() == pytest.approx([7 / (2 * 3), 7 / (2 * 4)])
    assert make().class_weights() is None
    pixels = grey_store.images[:7] / 65535
    assert module.statistics() == pytest.approx((pixels.mean(), pixels.std()))


def test_scaled_to_one_and_augmented_in_training_only(make: Make) -> None:
    from types import SimpleNamespace

    module = make(augment=BatchAugment(brightness=0.5))
    batch = next(iter(module.val_dataloader()))
    loop = SimpleNamespace(total_batch_idx=0, batch_idx=-1)
    module.trainer = SimpleNamespace(training=False, global_rank=0, fit_loop=loop)  # type: ignore[assignment]
    plain = module.on_after_batch_transfer(batch, 0)["image"]
    torch.testing.assert_close(plain[:, 0, 20, 16], 1000 * (batch["row"] + 1) / 65535)
    module.trainer.training = True  # type: ignore[union-attr, misc]
    first, again = (module.on_after_batch_transfer(batch, 0)["image"] for _ in range(2))
    loop.total_batch_idx = 1
    later = module.on_after_batch_transfer(batch, 0)["image"]
    assert not torch.equal(first, plain)
    assert torch.equal(first, again)
    assert not torch.equal(first, later)


def test_boxes_stand_with_their_images(make: Make) -> None:
    boxes = {
        int(row): box
        for batch in make().train_dataloader()
        for row, box in zip(batch["row"], batch["boxes"], strict=True)
    }
    assert boxes[0].tolist() == [[4, 8, 12, 20]]
    assert all(box.isnan().all() for row, box in boxes.items() if row != 0)


def test_workers_read_the_same(make: Make) -> None:
    alone = [batch["row"].tolist() for batch in make().train_dataloader()]
    ahead = [batch["row"].tolist() for batch in make(loader_workers=1).train_dataloader()]
    assert alone == ahead


def test_images_are_not_copied_to_workers(grey_store: Store) -> None:
    import pickle

    assert len(pickle.dumps(grey_store)) < 1000
