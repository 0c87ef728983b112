import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mammo.data.catalog import IMAGE_COLUMNS
from mammo.data.images.breast import BOX_COLUMNS
from mammo.data.loading.augment import BatchAugment
from mammo.data.loading.datamodule import MammogramDataModule
from mammo.data.loading.samplers import EpochSampler
from mammo.data.splits import Split
from mammo.data.store.store import Store
from mammo.data.store.store_building import allocate
from mammo.data.tasks import Task

Make = Callable[..., MammogramDataModule]


@pytest.fixture
def make(grey_store: Store) -> Make:
    def make_module(**changes: object) -> MammogramDataModule:
        ids = grey_store.table["image_id"].tolist()
        arguments = {
            "store": grey_store,
            "split": Split(train=ids[:7], val=ids[7:9], test=ids[9:]),
            "task": Task.shipped("pathology"),
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
    rows = torch.cat([batch["row"] for batch in batches]).flatten().tolist()
    assert len(set(rows)) == len(rows) == 6  # the seventh image would be a batch of one
    for batch in batches:
        assert batch["image"].dtype == torch.uint16
        assert batch["image"].shape[1:] == (1, 1, 40, 32)
        # grey value and label both identify the image
        assert (batch["image"][:, :, 0, 20, 16].int() == 1000 * (batch["row"] + 1)).all()
        assert batch["label"].tolist() == [int(row < 4) for row in batch["row"].flatten()]


def test_units_have_the_size_of_their_largest_lesion(make: Make) -> None:
    sizes = make().train.units.set_index("image_id")["lesion_size"]
    assert sizes.dropna().to_dict() == {sizes.index[0]: 12 / 40}
    assert "lesion_size" not in make().test.units  # which has no box


def test_batches_have_the_masks_of_lesions_if_wanted(make: Make, grey_store: Store) -> None:
    assert "mask" not in next(iter(make().train_dataloader()))
    boxed = make(batch_masks=True, loader_workers=1)
    [batch] = [batch for batch in boxed.train_dataloader() if 0 in batch["row"]]
    place = batch["row"].flatten().tolist().index(0)
    x_min, y_min, x_max, y_max = batch["boxes"][place, 0, 0].round().int().tolist()
    expected = torch.zeros(3, 1, 1, 40, 32, dtype=torch.uint8)
    expected[place, 0, 0, y_min:y_max, x_min:x_max] = 255  # the lesion has no pathology of its own
    assert torch.equal(batch["mask"], expected)  # of a lesion without a mask, its box
    masked = Store.open(grey_store.directory)
    masks = np.zeros((10, 40, 32), np.uint8)
    masks[0, 10:13, 5] = 7
    masked.__dict__["masks"] = masks
    masked.lesions = masked.lesions.assign(mask_value=7, pathology="MALIGNANT")
    mask = make(store=masked, batch_masks=True).train.class_masks([0])
    assert np.array_equal(mask[0, 0, 0], np.where(masks[0] == 7, 2, 0))


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
    torch.testing.assert_close(plain[:, :, 0, 20, 16], 1000 * (batch["row"] + 1) / 65535)
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
        for row, box in zip(batch["row"].flatten(), batch["boxes"].flatten(0, 1), strict=True)
    }
    assert boxes[0].tolist() == [[4, 8, 12, 20]]
    assert all(box.isnan().all() for row, box in boxes.items() if row != 0)


def test_workers_read_the_same(make: Make) -> None:
    alone = [batch["row"].tolist() for batch in make().train_dataloader()]
    ahead = [batch["row"].tolist() for batch in make(loader_workers=1).train_dataloader()]
    assert alone == ahead


def test_memory_is_used_again_once_nothing_refers_to_it(make: Make) -> None:
    loader = make(loader_workers=1).train_dataloader()
    batches = iter(loader)
    kept = next(batches)["image"][1:]  # a view
    before, place = kept.clone(), kept.data_ptr()
    taken = [batch["image"].data_ptr() for _ in range(4) for batch in loader]
    assert (kept == before).all()
    assert all(abs(other - place) >= kept.nbytes for other in taken)
    assert len(set(taken)) < len(taken)


def test_a_reader_s_error_is_that_of_the_training(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = make(loader_workers=2).train_dataloader()
    monkeypatch.setattr(loader.dataset.store, "read", lambda *_, **__: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        list(loader)


MANY = 100_000
READ = """
import resource, sys
from pathlib import Path
from mammo.data.loading.samplers import EpochSampler, PartSampler
from mammo.data.loading.loader import StoreDataset, StoreLoader
from mammo.data.store.store import Store
from mammo.data.tasks import Task
store = Store(Path(sys.argv[1]))
dataset = StoreDataset(store=store, table=store.table, task=Task.shipped("pathology"))
order = EpochSampler(labels=dataset.labels, seed=0, balanced=False)
parts = PartSampler(order, size=16, least=2, rank=0, processes=1)
loader = StoreLoader(dataset=dataset, batch_sampler=parts, threads=2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
images = 0
for batch in loader:
    images += len(batch["label"])
    if images >= 3000:
        break
assert batch["image"].shape == (16, 1, 1, 1152, 896)
print(len(loader), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_a_hundred_thousand_images_need_the_memory_of_a_few_batches(tmp_path: Path) -> None:
    """The sparse store has 206 GB, of which 6 GB are read; six batches of 33 MB are in memory."""
    allocate(tmp_path / "images.npy", shape=(MANY, 1152, 896), dtype="uint16")
    ids = pd.Series([f"i{i}" for i in range(MANY)], dtype="string")
    pathology = pd.Series(["BENIGN", "MALIGNANT"] * (MANY // 2), dtype="string")
    table = pd.DataFrame({"image_id": ids, "patient_id": ids, "pathology": pathology, "row": range(MANY)})
    table = table.assign(**dict.fromkeys(set(IMAGE_COLUMNS) - set(table), pd.NA))
    table.to_parquet(tmp_path / "images.parquet")
    numbers = {name: pd.Series(dtype="Float64") for name in (*BOX_COLUMNS, "mask_value")}
    lesions = pd.DataFrame({"image_id": ids[:0], **numbers})
    lesions.to_parquet(tmp_path / "lesions.parquet")
    (tmp_path / "manifest.json").write_text("{}")
    result = subprocess.run([sys.executable, "-c", READ, str(tmp_path)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    batches, megabytes = map(int, result.stdout.split())
    assert batches == MANY // 16
    assert megabytes < 500


def test_images_are_read_as_the_memory_map_shows_them(grey_store: Store) -> None:
    rows = [3, 0, 9, 3]
    np.testing.assert_array_equal(grey_store.read(rows), grey_store.images[rows])


def test_images_are_not_copied_to_other_processes(grey_store: Store) -> None:
    import pickle

    grey_store.read([0])
    assert len(pickle.dumps(grey_store)) < 1000
