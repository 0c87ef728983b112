import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo.data.loading.augment import BatchAugment, mixup
from mammo.data.loading.datamodule import MammogramDataModule
from mammo.data.splits import Split
from mammo.data.store.store import Store
from mammo.data.tasks import Task

HEIGHT, WIDTH = 96, 64


def scene(count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Black images with one white box each; the second box of each is missing."""
    images = torch.zeros(count, 1, HEIGHT, WIDTH)
    images[:, :, 40:60, 20:36] = 1
    boxes = torch.full((count, 2, 4), math.nan)
    boxes[:, 0] = torch.tensor([20.0, 40.0, 36.0, 60.0])
    return images, boxes


def augmented(
    augment: BatchAugment, images: torch.Tensor, boxes: torch.Tensor, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and boxes of an augmented batch, whose other keys are the same."""
    batch = {"image": images, "boxes": boxes, "label": torch.arange(len(images))}
    moved = augment(batch, generator=seeded(seed))
    assert moved.keys() == batch.keys()
    assert moved["label"] is batch["label"]
    return moved["image"], moved["boxes"]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    # with more, the reflection of the white box is inside the image
    rotation_deg=st.floats(0, 25),
    shear_deg=st.floats(0, 20),
    zoom=st.floats(0, 0.2),
)
def test_box_follows_its_image(seed: int, **moves: Any) -> None:
    images, boxes = scene()
    augment = BatchAugment(flip_horizontal=0.5, flip_vertical=0.5, **moves)
    moved, followed = augmented(augment, images, boxes, seed)
    for image, box in zip(moved[:, 0], followed[:, 0], strict=True):
        y, x = torch.where(image > 0.5)
        seen = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]).float()
        # corners of a turned box lose half a pixel to interpolation
        assert (seen - box).abs().max() < 2.5
    assert followed[:, 1].isnan().all()


def test_mask_follows_its_image() -> None:
    images, boxes = scene()
    mask = 2 * images.to(torch.uint8)
    augment = BatchAugment(flip_horizontal=0.5, flip_vertical=0.5, rotation_deg=25, shear_deg=20, zoom=0.2)
    moved = augment({"image": images, "boxes": boxes, "mask": mask}, generator=seeded(3))
    assert set(moved["mask"].unique().tolist()) == {0, 2}
    # where the image is interpolated between black and white, the nearest pixel is one of them
    clear = (moved["image"] < 0.25) | (moved["image"] > 0.75)
    assert torch.equal((moved["mask"] == 2)[clear], (moved["image"] > 0.5)[clear])


def test_flips_are_exact() -> None:
    images = torch.rand(3, 1, HEIGHT, WIDTH)
    augment = BatchAugment(flip_horizontal=1.0, flip_vertical=1.0)
    flipped, _ = augmented(augment, images, torch.zeros(3, 0, 4), 0)
    torch.testing.assert_close(flipped, images.flip(2, 3), atol=1e-4, rtol=0)


def test_nothing_asked_for_changes_nothing() -> None:
    images, boxes = scene()
    same, same_boxes = augmented(BatchAugment(), images, boxes, 0)
    assert torch.equal(same, images)
    assert torch.equal(same_boxes[:, 0], boxes[:, 0])


def test_same_seed_same_batch() -> None:
    images, boxes = torch.rand(4, 1, HEIGHT, WIDTH), scene()[1]
    augment = BatchAugment(flip_horizontal=0.5, rotation_deg=20, zoom=0.2, brightness=0.2, contrast=0.2)
    first, second, other = (augmented(augment, images, boxes, seed)[0] for seed in (7, 7, 8))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert first.min() >= 0
    assert first.max() <= 1


def test_border_is_reflected_not_black() -> None:
    images = torch.full((8, 1, HEIGHT, WIDTH), 0.7)
    turned, _ = augmented(BatchAugment(rotation_deg=40, zoom=0.5), images, torch.zeros(8, 0, 4), 3)
    torch.testing.assert_close(turned, images)


def test_box_pushed_out_of_the_image_is_gone() -> None:
    _, boxes = scene(1)
    boxes[:, 0] = torch.tensor([0.0, 0.0, 2.0, 2.0])
    augment = BatchAugment(zoom=0.9)
    results = [augmented(augment, scene(1)[0], boxes, seed)[1][0, 0] for seed in range(20)]
    assert any(box.isnan().all() for box in results)
    assert any(not box.isnan().any() for box in results)


def test_brightness_scales_each_image_within_its_bound() -> None:
    images = torch.full((64, 1, 8, 8), 0.5)
    changed, _ = augmented(BatchAugment(brightness=0.2), images, torch.zeros(64, 0, 4), 0)
    assert changed.min() >= 0.4 - 1e-6
    assert changed.max() <= 0.6 + 1e-6
    assert changed.amax(dim=(1, 2, 3)).unique().numel() == 64
    assert float(changed.mean()) == pytest.approx(0.5, abs=0.03)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10**6), count=st.integers(2, 9), alpha=st.floats(1e-3, 10))
def test_mixup_mixes_image_and_label_of_one_partner(seed: int, count: int, alpha: float) -> None:
    images = torch.eye(count)[:, None, None]  # B 1 1 B: pixel i of image i is 1
    mixed, partner, share = mixup(images, torch.arange(count), alpha=alpha, generator=seeded(seed))
    assert 0.5 <= share <= 1
    assert sorted(partner.tolist()) == list(range(count))
    torch.testing.assert_close(mixed, share * images + (1 - share) * images[partner])


def test_mixup_draws_its_share_from_beta() -> None:
    """With alpha 1 the share is uniform on its upper half; a small alpha hardly mixes."""
    images, labels = torch.zeros(2, 1, 1, 1), torch.arange(2)

    def shares(alpha: float) -> list[float]:
        return [mixup(images, labels, alpha=alpha, generator=seeded(s))[2] for s in range(2000)]

    quartiles = np.quantile(shares(1.0), [0.25, 0.5, 0.75])
    assert quartiles == pytest.approx([0.625, 0.75, 0.875], abs=0.02)
    assert np.median(shares(1e-3)) > 0.99
    assert np.mean(shares(0.2)) == pytest.approx(0.8988, abs=0.01)  # mean of max(l, 1 - l), integrated


@pytest.mark.parametrize(("count", "alpha"), [(1, 1.0), (3, 0.0)])
def test_unmixed(count: int, alpha: float) -> None:
    images, labels = torch.rand(count, 1, 4, 4), torch.arange(count)
    same, partner, share = mixup(images, labels, alpha=alpha, generator=seeded(0))
    assert torch.equal(same, images)
    assert torch.equal(partner, labels)
    assert share == 1


def test_training_batches_alone_are_mixed(grey_store: Store) -> None:
    ids = grey_store.table["image_id"].tolist()
    module = MammogramDataModule(
        store=grey_store,
        split=Split(train=ids[:6], val=ids[6:], test=[]),
        task=Task.shipped("pathology"),
        batch_size=4,
        loader_workers=0,
        balance="none",
        augment=None,
        seed=0,
        mixup=1.0,
    )
    batch = next(iter(module.train_dataloader()))
    loop = SimpleNamespace(total_batch_idx=0, batch_idx=-1)
    module.trainer = SimpleNamespace(training=False, global_rank=0, fit_loop=loop)  # type: ignore[assignment]
    plain = module.on_after_batch_transfer(batch, 0)
    assert "partner" not in plain
    module.trainer.training = True  # type: ignore[union-attr, misc]
    mixed, again = (module.on_after_batch_transfer(batch, 0) for _ in range(2))
    assert torch.equal(mixed["image"], again["image"])
    assert not torch.equal(mixed["image"], plain["image"])
    assert torch.equal(mixed["label"], plain["label"])
    assert mixed["partner"].shape == (4,)
    assert 0.5 <= mixed["share"] <= 1
