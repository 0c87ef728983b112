"""Batches of breasts and exams: each image at its place, missing ones absent, pairs drawn anew."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from mammo.data.loading.augment import BatchAugment
from mammo.data.loading.datamodule import MammogramDataModule, augmented
from mammo.data.sources.csv_dataset import read_csv
from mammo.data.splits import Split
from mammo.data.store.store import Store, prepare
from mammo.data.tasks import Task

Make = Callable[..., MammogramDataModule]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two images of each view of both breasts of 8 women; but p0 has no MLO, and p1 no right breast.

    The grey value of an image identifies it. The right breast of every second woman is malignant.
    """
    folder, rows, lesions = tmp_path_factory.mktemp("views"), [], []
    for woman, side, view, number in product(range(8), ("LEFT", "RIGHT"), ("CC", "MLO"), range(2)):
        if (woman == 0 and view == "MLO") or (woman == 1 and side == "RIGHT"):
            continue
        name = f"p{woman}_{side}_{view}_{number}.png"
        pixels = np.full((24, 20), 400 * (len(rows) + 1), np.uint16)
        pixels[:2] = 0  # a constant image would be refused
        cv2.imwrite(str(folder / name), pixels)
        malignant = side == "RIGHT" and woman % 2 == 0 and number == 0
        rows.append([name, f"p{woman}", side, view, "MALIGNANT" if malignant else "BENIGN"])
        if malignant:
            lesions.append([name, 2, 4, 8 + woman, 12])
    columns = ["image_path", "patient_id", "laterality", "view", "pathology"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "images.csv", index=False)
    boxes = ["image_path", "x_min", "y_min", "x_max", "y_max"]
    pd.DataFrame(lesions, columns=boxes).to_csv(folder / "lesions.csv", index=False)
    catalog = read_csv(table=folder / "images.csv", root=folder, lesions=folder / "lesions.csv")
    return prepare(catalog, store=folder / "store", height=24, width=20, crop="none", workers=0)


@pytest.fixture
def make(store: Store) -> Make:
    def make_module(**changes: object) -> MammogramDataModule:
        ids = store.table["image_id"].tolist()
        arguments = {
            "store": store,
            "split": Split(train=ids, val=ids, test=[]),
            "task": Task.shipped("pathology"),
            "batch_size": 4,
            "sample_unit": "breast",
            "loader_workers": 0,
            "balance": "none",
            "augment": None,
            "seed": 0,
        }
        return MammogramDataModule(**(arguments | changes))  # type: ignore[arg-type]

    return make_module


@pytest.mark.parametrize(("unit", "places"), [("breast", 2), ("exam", 4)])
@pytest.mark.parametrize("side", ["train", "val"])
def test_each_image_is_at_the_place_of_its_view(make: Make, unit: str, places: int, side: str) -> None:
    module = make(sample_unit=unit)
    dataset, table = getattr(module, side), module.store.table.set_index("row")
    loader = module.train_dataloader() if side == "train" else module.val_dataloader()
    sides = ("LEFT", "RIGHT") if unit == "exam" else (None,)
    order = list(product(sides, ("CC", "MLO")))
    seen = []
    for batch in loader:
        assert batch["image"].shape == (len(batch["label"]), places, 1, 24, 20)
        assert torch.equal(batch["present"], batch["row"] >= 0)
        for sample, place in product(range(len(batch["label"])), range(places)):
            row = int(batch["row"][sample, place])
            pixels, boxes = batch["image"][sample, place], batch["boxes"][sample, place]
            if row < 0:
                assert not pixels.int().any()
                assert boxes.isnan().all()
                continue
            image, of_unit = table.loc[row], dataset.units.iloc[int(batch["unit"][sample])]
            assert (pixels.int() == torch.from_numpy(dataset.store.read([row])[0].astype(np.int32))).all()
            laterality, view = order[place]
            assert image["view"] == view
            assert image["laterality"] == (laterality or of_unit["laterality"])
            assert image["patient_id"] == of_unit["patient_id"]
            assert image["image_id"] in of_unit["image_id"].split(";")
            assert boxes.isnan().all() == (image["pathology"] == "BENIGN")
            seen.append(row)
    assert set(seen) == set(table.index)


@pytest.mark.parametrize("unit", ["breast", "exam"])
def test_a_sample_is_malignant_if_any_image_of_its_unit_is(make: Make, unit: str) -> None:
    dataset = make(sample_unit=unit).val
    women = dataset.units["patient_id"].str[1:].astype(int) % 2 == 0
    right = dataset.units["laterality"] == "RIGHT" if unit == "breast" else True
    assert dataset.unit_labels.tolist() == (women & right).astype(int).tolist()
    assert dataset.labels.tolist() == dataset.unit_labels[dataset.unit].tolist()
    if unit == "exam":
        assert dataset.side_labels is not None
        first = np.unique(dataset.unit, return_index=True)[1]
        assert dataset.side_labels[first, 0].tolist() == [0] * 8
        assert dataset.side_labels[first, 1].tolist() == [1, -1, 1, 0, 1, 0, 1, 0]


def test_pairs_are_drawn_anew_in_each_epoch_and_again_after_a_resume(make: Make) -> None:
    def rows(epoch: int, **changes: object) -> list[list[int]]:
        module = make(**changes)
        progress = SimpleNamespace(processed=epoch, started=epoch)
        batches = SimpleNamespace(processed=0)
        module.trainer = SimpleNamespace(  # type: ignore[assignment]
            fit_loop=SimpleNamespace(
                epoch_progress=SimpleNamespace(current=progress),
                epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(current=batches)),
            ),
            global_rank=0,
            world_size=1,
            strategy=SimpleNamespace(root_device=torch.device("cpu")),
        )
        return sorted(row for batch in module.train_dataloader() for row in batch["row"].tolist())

    epochs = [rows(epoch) for epoch in range(6)]
    assert len({str(pairs) for pairs in epochs}) > 1  # of the same images
    assert len({str(sorted(np.concatenate(pairs))) for pairs in epochs}) == 1
    assert rows(4) == epochs[4]
    assert rows(4, loader_workers=2) == epochs[4]
    assert [rows(epoch, same_order=True) for epoch in (0, 3)] == [rows(0, same_order=True)] * 2
    module = make()
    assert [batch["row"].tolist() for batch in module.val_dataloader()] == [
        batch["row"].tolist() for batch in module.val_dataloader()
    ]


@pytest.mark.parametrize("share", [(0, 4), (1, 2), (3, 1)])
def test_each_image_is_augmented_by_itself(make: Make, share: tuple[int, int]) -> None:
    """Also if the samples are divided among processes, which get the same numbers for the same images."""
    batch = make().train.batch(range(4))
    images = batch["image"] + torch.linspace(0, 0.5, 20)
    whole = {**batch, "image": images}
    augment = BatchAugment(flip_horizontal=0.5, rotation_deg=20, brightness=0.2)
    flat = augment(
        {"image": images.flatten(0, 1), "boxes": batch["boxes"].flatten(0, 1)},
        generator=torch.Generator().manual_seed(0),
    )
    first, count = share
    part = {name: value[first : first + count] for name, value in whole.items()}  # type: ignore[index]
    found = augmented(
        part,  # type: ignore[arg-type]
        augment,
        generator=torch.Generator().manual_seed(0),
        first=first,
        among=4,
    )
    expected = flat["image"].reshape(images.shape)[first : first + count]
    torch.testing.assert_close(found["image"], expected)
    boxes = flat["boxes"].reshape(batch["boxes"].shape)[first : first + count]
    torch.testing.assert_close(found["boxes"], boxes, equal_nan=True)
    assert torch.equal(found["row"], batch["row"][first : first + count])


def test_statistics_do_not_count_missing_images(make: Make, store: Store) -> None:
    pixels = np.concatenate([store.read([row]) for row in range(len(store.images))]) / 65535
    mean, std = make().statistics()
    assert mean == pytest.approx(pixels.mean(), rel=0.02)
    assert std == pytest.approx(pixels.std(), rel=0.02)


def test_a_table_without_sides_is_refused(store: Store, make: Make, tmp_path: Path) -> None:
    blind = Store(store.directory)
    blind.table["laterality"] = pd.NA
    with pytest.raises(Exception, match=r"data.sample_unit=breast: .* images have no laterality"):
        make(store=blind)
