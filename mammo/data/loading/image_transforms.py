"""Augmentation by transforms of single images, such as those of `torchvision.transforms.v2`."""

import math
import random
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import convert_bounding_box_format

from mammo.config.instantiation import TARGET, Role, build
from mammo.data.loading.augment import BatchAugment
from mammo.errors import ConfigError, MammoError

AUGMENTATION = Role("augmentation", base=(nn.Module, BatchAugment), nests=True)
# keys of `augment` that are for every augmentation
OF_EVERY_AUGMENTATION = ("mixup",)

_TRIALS = 8  # number of test images
# what interpolation and noise may leave outside [0, 1], where it is clipped
_TOLERANCE = 0.05
_LEAST_INSIDE = 0.9  # share of the values


class Augmentation(Protocol):
    """Augmentation of a batch: `BatchAugment`, or `ImageTransforms`."""

    def __call__(
        self,
        batch: Mapping[str, Any],
        *,
        generator: torch.Generator,
        first: int = 0,
        among: int | None = None,
    ) -> dict[str, Any]:
        """Returns the batch with other images and boxes; see `BatchAugment`."""


def build_augmentation(node: Mapping[str, Any], *, image_size: tuple[int, int]) -> Augmentation:
    """Builds the augmentation of the node `augment`, and tries it.

    Args:
        node: `_target_`, its keyword arguments, which may be such nodes themselves, and `mixup`.
        image_size: H and W of the images.

    Raises:
        ConfigError: it is no augmentation, or it gives no image of the same size with values in [0, 1].
    """
    options = {key: value for key, value in node.items() if key not in OF_EVERY_AUGMENTATION}
    part = build(options, key="augment", role=AUGMENTATION)
    if isinstance(part, BatchAugment):
        return part
    transforms = ImageTransforms(part, name=str(node[TARGET]))
    transforms.check(image_size)
    return transforms


class ImageTransforms:
    """A random transform that is applied to each image by itself.

    The transform is called with a dictionary of `image` (1 H W), `boxes` (K 4) and, where the batch has
    masks, `mask` (1 H W), as tensors of `torchvision.tv_tensors`, which the transforms of torchvision move
    together. It draws from the global generators of PyTorch, NumPy and Python, which have a seed for each
    image and their own state again afterwards.

    Args:
        transform: module that is called with the dictionary and returns another.
        name: name of the transform, for messages.
    """

    def __init__(self, transform: nn.Module, *, name: str) -> None:
        self.transform = transform
        self.name = name

    def __call__(
        self,
        batch: Mapping[str, Any],
        *,
        generator: torch.Generator,
        first: int = 0,
        among: int | None = None,
    ) -> dict[str, Any]:
        """Augments a batch; arguments and result as of `BatchAugment`."""
        count = len(batch["image"])
        seeds = torch.randint(2**32 - 1, (among or count,), generator=generator)[first : first + count]
        moved = []
        with isolate_rng():
            for place, seed in enumerate(seeds.tolist()):
                torch.manual_seed(seed)
                np.random.seed(seed)  # noqa: NPY002 (the generator that transforms of others use)
                random.seed(seed)
                sample = {key: batch[key][place] for key in ("image", "boxes", "mask") if key in batch}
                moved.append(self._moved(sample))
        result = {key: torch.stack([sample[key] for sample in moved]) for key in moved[0]}
        return {**batch, **result, "image": result["image"].clamp(0, 1)}

    def _moved(self, sample: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns one image with its boxes and mask; boxes without area become NaN."""
        image, boxes = sample["image"], sample["boxes"]
        size = (image.shape[-2], image.shape[-1])
        known = ~boxes.isnan().any(dim=-1)
        wrapped: dict[str, Tensor] = {
            "image": tv_tensors.Image(image),
            "boxes": tv_tensors.BoundingBoxes(boxes[known], format="XYXY", canvas_size=size),
        }
        if "mask" in sample:
            wrapped["mask"] = tv_tensors.Mask(sample["mask"])
        found = self.transform(wrapped)
        if not isinstance(found, Mapping) or not wrapped.keys() <= found.keys():
            raise ConfigError(
                f"augment: {self.name} is called with a dictionary of {' and '.join(wrapped)}, but does not "
                "return one; return it with the same keys"
            )
        if found["image"].shape != image.shape or not found["image"].is_floating_point():
            shape = " x ".join(map(str, found["image"].shape))
            raise ConfigError(
                f"augment: {self.name} gives {found['image'].dtype} images of {shape}; give float images of "
                f"{' x '.join(map(str, image.shape))}, for instance by v2.Resize at its end"
            )
        plain = {key: found[key].as_subclass(Tensor) for key in wrapped}
        return plain | {"boxes": _placed(found["boxes"], like=boxes, known=known, size=size)}

    def check(self, size: tuple[int, int]) -> None:
        """Tries the transform on grey ramps.

        Args:
            size: H and W of the images.

        Raises:
            ConfigError: it fails, or gives no images of this size with values in [0, 1].
        """
        ramp = torch.linspace(0, 1, size[0] * size[1]).reshape(1, 1, *size).repeat(_TRIALS, 1, 1, 1)
        boxes = torch.tensor([0.0, 0.0, size[1] / 2, size[0] / 2]).repeat(_TRIALS, 1, 1)
        values = []
        with isolate_rng():
            torch.manual_seed(0)
            try:
                for image, box in zip(ramp, boxes, strict=True):
                    values.append(self._moved({"image": image, "boxes": box})["image"])
            except MammoError:
                raise
            except Exception as error:
                reason = (str(error).splitlines() or [""])[0].rstrip(".")
                raise ConfigError(
                    f"augment: {self.name} fails on an image: {type(error).__name__}: {reason}; it is called "
                    "with a dictionary of image and boxes"
                ) from error
        found = torch.stack(values)
        inside = (found >= -_TOLERANCE) & (found <= 1 + _TOLERANCE)
        if inside.float().mean() < _LEAST_INSIDE:
            low, high = float(found.amin()), float(found.amax())
            raise ConfigError(
                f"augment: {self.name} gives values from {low:.2g} to {high:.2g}, outside [0, 1]; leave out "
                "what normalises, because data.normalisation does so after the augmentation"
            )


def _placed(found: Tensor, *, like: Tensor, known: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns moved boxes, n 4, clipped to the image, in the places of the boxes `like`, K 4, that are known.

    If the transform has removed some, the others come first.
    """
    if isinstance(found, tv_tensors.BoundingBoxes):
        found = convert_bounding_box_format(found, new_format=tv_tensors.BoundingBoxFormat.XYXY)
    corners = found.as_subclass(Tensor).to(like)
    limit = corners.new_tensor([size[1], size[0]] * 2)
    corners = corners.clamp(min=0).minimum(limit)
    gone = (corners[:, 2:] <= corners[:, :2]).any(dim=1, keepdim=True)
    corners = corners.masked_fill(gone, math.nan)
    result = torch.full_like(like, math.nan)
    if len(corners) == int(known.sum()):
        result[known] = corners
    else:
        result[: len(corners)] = corners
    return result
