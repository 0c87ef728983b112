"""Transforms of single images: they move boxes and masks too, and each image has its own random numbers."""

import math
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mammo.data.loading.augment import BatchAugment
from mammo.data.loading.image_transforms import build_augmentation
from mammo.errors import ConfigError

V2 = "torchvision.transforms.v2"
SIZE = (96, 64)
FLIP = {"_target_": f"{V2}.RandomHorizontalFlip", "p": 1.0}
AFFINE = {"_target_": f"{V2}.RandomAffine", "degrees": 20, "translate": [0.1, 0.1], "scale": [0.8, 1.2]}
ELASTIC = {"_target_": f"{V2}.RandomApply", "transforms": [{"_target_": f"{V2}.ElasticTransform"}]}


class Noise(nn.Module):
    """A transform of the user's own, with random numbers of three libraries."""

    def forward(self, sample: dict[str, Tensor]) -> dict[str, Tensor]:
        scale = torch.rand(1) * np.random.random() * random.random()  # noqa: NPY002
        return sample | {"image": sample["image"] * scale}


class Forgets(nn.Module):
    def forward(self, sample: dict[str, Tensor]) -> Tensor:
        return sample["image"]


class Drops(nn.Module):
    """Removes the first box."""

    def forward(self, sample: dict[str, Any]) -> dict[str, Any]:
        return sample | {"boxes": sample["boxes"][1:]}


def built(*transforms: Mapping[str, Any]) -> Any:
    node = {"_target_": f"{V2}.Compose", "transforms": list(transforms), "mixup": 0.0}
    return build_augmentation(node, image_size=SIZE)


def scene(count: int = 4) -> dict[str, Tensor]:
    """A white box in each image and its mask; of its two places for boxes the first is empty."""
    image = torch.zeros(count, 1, *SIZE)
    image[:, :, 40:60, 20:36] = 1
    boxes = torch.full((count, 2, 4), math.nan)
    boxes[:, 1] = torch.tensor([20.0, 40.0, 36.0, 60.0])
    return {"image": image, "boxes": boxes, "mask": image.clone(), "row": torch.arange(count)}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_box_and_mask_follow_the_image(seed: int) -> None:
    batch = scene()
    moved = built(AFFINE, FLIP)(batch, generator=seeded(seed))
    assert moved["row"] is batch["row"]
    assert torch.equal(moved["mask"], (moved["image"] > 0.5).float())
    for image, boxes in zip(moved["image"][:, 0], moved["boxes"], strict=True):
        y, x = torch.where(image > 0.5)
        seen = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]).float()
        # torchvision rounds the corners of a turned box and may enlarge it by its own angle
        assert (boxes[1, :2] - seen[:2]).max() < 2.5
        assert (seen[2:] - boxes[1, 2:]).max() < 2.5
        assert boxes[0].isnan().all()


def test_a_flip_is_exact_and_a_lost_box_is_missing() -> None:
    batch = scene(1)
    flipped = built(FLIP)(batch, generator=seeded(0))
    assert torch.equal(flipped["image"], batch["image"].flip(3))
    assert flipped["boxes"][0, 1].tolist() == [28, 40, 44, 60]
    batch["boxes"][0, 0] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    fewer = built({"_target_": f"{__name__}.Drops"})(batch, generator=seeded(0))["boxes"][0]
    assert fewer[0].tolist() == [20, 40, 36, 60]
    assert fewer[1].isnan().all()


@pytest.mark.parametrize("transforms", [[AFFINE, ELASTIC], [{"_target_": f"{__name__}.Noise"}]])
def test_an_image_has_the_same_numbers_in_any_process(transforms: list[Any]) -> None:
    """Also after other random numbers, as in a resumed training; those of the network stay as they were."""
    batch = {"image": torch.rand(6, 1, *SIZE), "boxes": scene(6)["boxes"]}
    augment = built(*transforms)
    torch.manual_seed(3)
    following = torch.rand(1)
    torch.manual_seed(3)
    whole = augment(batch, generator=seeded(1), among=6)["image"]
    assert torch.equal(torch.rand(1), following)
    assert len({float(image.sum()) for image in whole}) == 6
    for first in (0, 2, 4):
        part = {key: value[first : first + 2] for key, value in batch.items()}
        alone = augment(part, generator=seeded(1), first=first, among=6)["image"]
        assert torch.equal(alone, whole[first : first + 2])
    assert not torch.equal(augment(batch, generator=seeded(2))["image"], whole)


def test_a_subclass_of_the_batch_augmentation_gets_whole_batches() -> None:
    node = {"_target_": "mammo.data.loading.augment.BatchAugment", "flip_vertical": 0.5, "mixup": 0.4}
    assert isinstance(build_augmentation(node, image_size=SIZE), BatchAugment)


@pytest.mark.parametrize(
    ("transform", "sentence"),
    [
        (
            {"_target_": "os.system", "command": "x"},
            "augment.transforms[0]._target_=os.system: is no augmentation",
        ),
        (
            {**AFFINE, "degres": 3},
            f"augment.transforms[0].degres: {V2}.RandomAffine has no such argument; did",
        ),
        (
            {"_target_": f"{V2}.RandomAffine", "degrees": -3},
            f"augment.transforms[0]: {V2}.RandomAffine refuses",
        ),
        ({**AFFINE, "interpolation": "x"}, f"augment: {V2}.Compose fails on an image: ValueError: Invalid"),
        (
            {"_target_": f"{V2}.RandomCrop", "size": 16},
            f"augment: {V2}.Compose gives torch.float32 images of 1 x 16",
        ),
        (
            {"_target_": f"{V2}.Normalize", "mean": [0.5], "std": [0.1]},
            f"augment: {V2}.Compose gives values from -5 to 5, outside [0, 1]; leave out what normalises",
        ),
        (
            {"_target_": f"{__name__}.Forgets"},
            f"augment: {V2}.Compose is called with a dictionary of image and",
        ),
        (
            {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 2},
            f"augment: {V2}.Compose fails on an image: TypeError",
        ),
        (
            {"_target_": f"{V2}.RandomApply", "transforms": [{"_target_": "builtins.eval"}]},
            "augment.transforms[0].transforms[0]._target_=builtins.eval: is no augmentation",
        ),
    ],
)
def test_a_mistake_is_one_sentence(transform: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        built(transform)
    assert str(refused.value).startswith(sentence)
    assert "\n" not in str(refused.value)
