"""Training with a box head: its loss calculated by hand, what it learns, and the commands."""

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from helpers.commands import command
from helpers.networks import build_model
from helpers.small_runs import module, train

from mammo.data.loading.augment import BatchAugment
from mammo.data.loading.datamodule import MammogramDataModule
from mammo.data.loading.loader import Batch
from mammo.data.sources.csv_dataset import read_csv
from mammo.data.splits import Split
from mammo.data.store.store import Store, prepare
from mammo.data.tasks import Task
from mammo.metrics.epoch_scores import EpochScores
from mammo.models.box_head import pixel_boxes
from mammo.models.classifier import Classifier
from mammo.training.losses import CrossEntropy, box_loss, largest_lesion
from mammo.training.module import MammogramModule

NO_BOX = [math.nan] * 4
# for images of 10 x 20 pixels: one lesion; none; two lesions, the second one larger
BOXES = torch.tensor([[[2.0, 1, 6, 3], NO_BOX], [NO_BOX, NO_BOX], [[0, 0, 2, 2], [10, 5, 20, 10]]])
PREDICTED = torch.tensor([[0.1, 0.3, 0.2, 0.3], [0.9, 0.9, 0.9, 0.9], [0.5, 0.8, 0.5, 0.6]])


def test_box_loss_by_hand() -> None:
    # the targets are (0.1, 0.3, 0.1, 0.3) and (0.5, 1, 0.5, 1)
    by_hand = [0.1**2 / 4, (0.2**2 + 0.4**2) / 4]
    size = (10, 20)
    assert float(box_loss(PREDICTED, BOXES, size=size)) == pytest.approx(np.mean(by_hand))
    assert float(box_loss(PREDICTED[:2], BOXES[:2], size=size)) == pytest.approx(by_hand[0])


def test_images_without_a_lesion_have_no_box_term() -> None:
    predicted = PREDICTED.clone().requires_grad_()
    box_loss(predicted, BOXES, size=(10, 20)).backward()
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()
    assert not predicted.grad[1].any()
    assert predicted.grad[0].any()

    none = predicted[1:2].detach().requires_grad_()
    loss = box_loss(none, BOXES[1:2], size=(10, 20))
    loss.backward()
    assert loss.item() == 0
    assert none.grad is not None
    assert not none.grad.any()


def test_the_largest_lesion_is_that_of_what_lies_in_the_image() -> None:
    boxes = torch.tensor(
        [
            [[-100.0, 0, 2, 10], [5, 5, 10, 10]],  # 20 pixels inside the image, the other has 25
            [[30, 0, 40, 10], NO_BOX],  # outside
            [[0, 0, 2, 2], [4, 4, 6, 6]],  # of equal size: the first
        ]
    )
    target, there = largest_lesion(boxes, size=(10, 20))
    assert there.tolist() == [True, False, True]
    expected = torch.tensor([[0.25, 0.5, 0.5, 1.0], [0.0, 0, 0, 0], [0.0, 0.1, 0, 0.2]])
    torch.testing.assert_close(target[[0, 2]], expected[[0, 2]])


def two_headed(datamodule: MammogramDataModule, **changes: object) -> MammogramModule:
    pl.seed_everything(0, verbose=False)
    return module(datamodule, network=build_model(name="custom_cnn", num_classes=2, box_head=True), **changes)


def batch_of(boxes: torch.Tensor, **more: object) -> Batch:
    images = torch.rand(len(boxes), 1, 1, 10, 20, generator=torch.Generator().manual_seed(0))
    unit = torch.arange(len(boxes))
    present = torch.ones(len(boxes), 1, dtype=torch.bool)
    return Batch(
        image=images,
        present=present,
        label=unit % 2,
        boxes=boxes[:, None],
        row=unit[:, None],
        unit=unit,
        **more,
    )  # type: ignore[typeddict-item]


def test_the_loss_is_that_of_both_heads(datamodule: MammogramDataModule) -> None:
    model = two_headed(datamodule, loss=CrossEntropy(box_weight=3.0)).eval()
    batch = batch_of(BOXES, partner=torch.tensor([1, 1, 0]), share=0.75)
    output = model.output(batch["image"])
    classes = sum(
        share * F.cross_entropy(output.logits, batch[labels])  # type: ignore[literal-required]
        for share, labels in ((0.75, "label"), (0.25, "partner"))
    )
    expected = classes + 3.0 * box_loss(output.boxes, BOXES, size=(10, 20))
    torch.testing.assert_close(model._step(batch, EpochScores(2)), expected)


def test_gradients_reach_both_heads_and_the_trunk(datamodule: MammogramDataModule) -> None:
    model = two_headed(datamodule)
    model._step(batch_of(BOXES), EpochScores(2)).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.network.parameters() if p.ndim > 1)

    # the gradient of the box loss alone reaches the trunk but not the classifier
    model.zero_grad()
    boxes = model.output(batch_of(BOXES)["image"]).boxes
    box_loss(boxes, BOXES, size=(10, 20)).backward()
    assert model.network.classifier.weight.grad is None
    assert model.network.box_head.linear.weight.grad.any()
    assert model.network.features[0].weight.grad.any()


def test_without_a_box_head_the_loss_is_as_it_was(datamodule: MammogramDataModule) -> None:
    model = module(datamodule).eval()
    batch = batch_of(BOXES)
    expected = F.cross_entropy(model(batch["image"]), batch["label"])
    torch.testing.assert_close(model._step(batch, EpochScores(2)), expected)


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """48 images of 64 x 64 with one bright square each; its box is the lesion's box."""
    folder, rng = tmp_path_factory.mktemp("squares"), np.random.default_rng(0)
    lesions = []
    for index in range(48):
        pixels = rng.integers(2000, 8000, (64, 64)).astype(np.uint16)
        (left, top), side = rng.integers(2, 38, 2), int(rng.integers(16, 24))
        pixels[top : top + side, left : left + side] = 60000
        cv2.imwrite(str(folder / f"{index}.png"), pixels)
        box = {"x_min": left, "y_min": top, "x_max": left + side, "y_max": top + side}
        lesions.append({"image_path": f"{index}.png"} | box)
    names = [lesion["image_path"] for lesion in lesions]
    pathology = ["MALIGNANT", "BENIGN"] * 24
    table = pd.DataFrame({"image_path": names, "patient_id": names, "pathology": pathology})
    table.to_csv(folder / "images.csv", index=False)
    pd.DataFrame(lesions).to_csv(folder / "lesions.csv", index=False)
    catalog = read_csv(table=folder / "images.csv", root=folder, lesions=folder / "lesions.csv")
    return prepare(catalog, store=folder / "store", height=64, width=64, crop="none", aspect="stretch")


def mean_iou(model: Classifier, datamodule: MammogramDataModule) -> float:
    """Mean IoU of the validation images."""
    side = datamodule.val
    images = side.batch(range(len(side)))["image"]
    with torch.no_grad():
        found = pixel_boxes(model.eval().output(images).boxes, (64, 64))
    model.train()
    true = torch.from_numpy(side.boxes(range(len(side)))[:, 0, 0])
    sides = torch.minimum(found[:, 2:], true[:, 2:]) - torch.maximum(found[:, :2], true[:, :2])
    shared = sides.clamp(min=0).prod(dim=1)
    areas = sum((box[:, 2:] - box[:, :2]).prod(dim=1) for box in (found, true))
    return float((shared / (areas - shared)).mean())


@pytest.mark.slow
def test_the_box_of_a_bright_square_is_learned(squares: Store) -> None:
    """The validation boxes are found after training with flips, which also move the boxes."""
    ids = squares.table["image_id"].tolist()
    flips = BatchAugment(flip_horizontal=0.5, flip_vertical=0.5)
    datamodule = MammogramDataModule(
        store=squares, split=Split(train=ids[:32], val=ids[32:], test=[]), task=Task.shipped("pathology"),
        batch_size=8, loader_workers=0, balance="none", augment=flips, seed=0,
    )  # fmt: skip
    model = two_headed(datamodule, lr=2e-3, loss=CrossEntropy(box_weight=20.0))
    before = mean_iou(model, datamodule)
    train(model, datamodule, epochs=40)
    after = mean_iou(model, datamodule)
    assert before < 0.2
    assert after > before + 0.3


SMALL = [
    "data.patients=60", "data.height=64", "data.width=48", "data.film_scale=2", "data.batch_size=8",
    "model=custom_cnn", "model.box_head=true", "trainer.max_epochs=1", "trainer.precision=32-true",
    "run_dir=run",
]  # fmt: skip


@pytest.mark.slow
def test_a_two_headed_run_is_trained_and_its_boxes_are_judged(tmp_path: Path) -> None:
    trained = command("train", *SMALL, folder=tmp_path)
    assert trained.returncode == 0, trained.stderr
    judged = command("evaluate", "run=run", "split=val", "resamples=100", folder=tmp_path)
    assert judged.returncode == 0, judged.stderr
    metrics = json.loads((tmp_path / "run" / "evaluation" / "val" / "metrics.json").read_text())
    for group in ("malignant", "all"):
        assert list(metrics["localisation"][group]) == [
            "gradcam",
            "box_head",
            "brightest",
            "centre",
            "random",
        ]
        found = metrics["localisation"][group]["box_head"]
        assert all(0 <= found[name]["value"] <= 1 for name in ("pointing", "iou", "heat_inside"))
        assert 0 <= found["froc"]["1"]["value"] <= 1
    assert "box_head" in judged.stdout
