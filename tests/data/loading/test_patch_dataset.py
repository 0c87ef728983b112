"""Patches as a dataset: their pixels, boxes and names, and what changes from epoch to epoch."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from mammo.data.loading.datamodule import MammogramDataModule
from mammo.data.loading.patch_dataset import PatchDataset, dataset_of
from mammo.data.patches import PatchSettings
from mammo.data.sources.csv_dataset import read_csv
from mammo.data.splits import Split
from mammo.data.store.store import Store, prepare
from mammo.data.tasks import Task
from mammo.errors import DataError

TASK = Task.shipped("patch_pathology")
SETTINGS = PatchSettings((16, 12), per_lesion=3, per_image=2, overlap=0.9)
NODE = {"size": [16, 12], "per_lesion": 3, "per_image": 2, "overlap": 0.9}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Eight breasts, each pixel of an image with another value; all but the last have a lesion."""
    folder = tmp_path_factory.mktemp("breasts")
    y, x = np.mgrid[:120, :80]
    breast = ((y - 60) / 55) ** 2 + (x / 70) ** 2 < 1
    names = [f"i{i}.png" for i in range(8)]
    for i, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.where(breast, 20000 + 500 * i + 100 * y + x, 0).astype(np.uint16))
    pathology = ["MALIGNANT", "BENIGN"] * 4
    images = pd.DataFrame({"image_path": names, "patient_id": names, "pathology": pathology})
    images.to_csv(folder / "images.csv", index=False)
    lesions = pd.DataFrame(
        {
            "image_path": names[:7],
            "pathology": pathology[:7],
            "x_min": [10 + 2 * i for i in range(7)],
            "y_min": 40,
            "x_max": [20 + 2 * i for i in range(7)],
            "y_max": 54,
        }
    )
    lesions.to_csv(folder / "lesions.csv", index=False)
    catalog = read_csv(table=folder / "images.csv", root=folder, lesions=folder / "lesions.csv")
    return prepare(catalog, store=folder / "store", height=120, width=80, crop="none", aspect="stretch")


def patches(store: Store, *, seed: int | None = None, task: Task = TASK) -> PatchDataset:
    return PatchDataset(store=store, table=store.table, task=task, settings=SETTINGS, seed=seed)


def test_a_patch_is_a_window_of_its_image_with_the_class_of_its_lesion(store: Store) -> None:
    dataset = patches(store)
    assert dataset.shape == (1, 1, 16, 12)
    assert len(dataset) == 7 * 3 + 8 * 2
    assert np.bincount(dataset.labels).tolist() == [16, 9, 12]
    image = torch.zeros(len(dataset), *dataset.shape, dtype=torch.uint16)
    batch = dataset.read(range(len(dataset)), image)
    assert batch["present"].all()
    assert torch.equal(batch["row"][:, 0], torch.from_numpy(dataset.rows[:, 0]))
    for place, (sample_id, label) in enumerate(zip(dataset.units["sample_id"], dataset.labels, strict=True)):
        name, _, x, y = sample_id.rsplit("_", 3)
        left, top = int(x[1:]), int(y[1:])
        row = int(store.table.set_index("image_id").loc[name, "row"])
        pixels = store.images[row, top : top + 16, left : left + 12]
        assert np.array_equal(image[place, 0, 0].numpy(), pixels)
        assert np.array_equal(dataset.pixels(place), pixels[None])
        boxes = batch["boxes"][place, 0]
        assert (label == 0) == bool(boxes.isnan().all())
        if label:
            assert label == 1 + (row % 2 == 0)
            expected = [10 + 2 * row - left, 40 - top, 20 + 2 * row - left, 54 - top]
            assert boxes[0].tolist() == expected


def test_units_have_the_facts_of_their_image(store: Store) -> None:
    units = patches(store).units
    assert units["sample_id"].is_unique
    assert set(units["unit"]) == {"patch"}
    assert set(units["patient_id"]) == {f"i{i}.png" for i in range(8)}
    assert (units["sample_id"].str.partition("_")[0] == units["image_id"]).all()


def test_places_change_from_epoch_to_epoch_and_nothing_else(store: Store) -> None:
    def drawn(epoch: int, seed: int | None = 1) -> torch.Tensor:
        dataset = patches(store, seed=seed)
        dataset.start_epoch(7)
        dataset.start_epoch(epoch)
        batch = dataset.batch(range(len(dataset)))
        assert torch.equal(batch["label"], torch.from_numpy(patches(store).labels))
        assert torch.equal(batch["row"], torch.from_numpy(patches(store).rows))
        return batch["image"]

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))
    assert not torch.equal(drawn(3), drawn(3, seed=2))
    assert torch.equal(drawn(3, seed=None), drawn(4, seed=None))


def test_patches_of_a_split(store: Store) -> None:
    ids = store.table["image_id"].tolist()
    module = MammogramDataModule(
        store=store,
        split=Split(train=ids[:4], val=ids[4:], test=[]),
        task=TASK,
        sample_unit="patch",
        patch=NODE,
        batch_size=5,
        loader_workers=1,
        balance="sampling",
        augment=None,
        seed=0,
    )
    assert (len(module.train), len(module.val), len(module.test)) == (20, 17, 0)
    assert module.statistics() == pytest.approx(
        ((store.images[:4] / 65535).mean(), (store.images[:4] / 65535).std())
    )
    found = torch.cat([batch["row"] for batch in module.val_dataloader()])
    assert np.array_equal(found.numpy(), module.val.rows)


def test_data_without_boxes_are_refused(store: Store) -> None:
    bare = Store.open(store.directory)
    bare.lesions = bare.lesions.assign(x_min=pd.NA)
    with pytest.raises(DataError, match=r"sample_unit=patch: no lesion of the data has a box") as error:
        dataset_of(store=bare, table=bare.table, task=TASK, unit="patch", patch=NODE)
    assert "\n" not in str(error.value)


def test_lesions_of_no_class_have_no_patches(store: Store) -> None:
    partly = Store.open(store.directory)
    partly.lesions = partly.lesions.assign(pathology=[None, *partly.lesions["pathology"][1:]])
    partly.lesions["pathology"] = partly.lesions["pathology"].astype("string")
    with pytest.raises(DataError, match="1 of 7 lesions are in no class"):
        patches(partly)
    left_out = patches(partly, task=replace(TASK, unlabelled="leave_out"))
    assert len(left_out) == len(patches(store)) - 3


def test_an_image_without_patches_is_no_problem(store: Store, tmp_path: Path) -> None:
    table = store.table.iloc[7:]
    one = PatchDataset(store=store, table=table, task=TASK, settings=replace(SETTINGS, per_image=0))
    assert len(one) == 0
    assert one.units.empty
