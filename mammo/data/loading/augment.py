"""Augmentation of a whole batch on its device: one affine resampling, brightness, contrast, and mixup."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


class BatchAugment:
    """Random flips, rotation, shear, zoom, brightness and contrast, drawn for each image; reflected border.

    Args:
        flip_horizontal: probability of a horizontal flip.
        flip_vertical: probability of a vertical flip.
        rotation_deg: largest rotation to either side, degrees.
        shear_deg: largest shear along x to either side, degrees.
        zoom: largest relative change of size, to a factor between 1 / (1 + zoom) and 1 + zoom.
        brightness: largest relative change of the values.
        contrast: largest relative change of the differences between the values and the mean of the image.
    """

    def __init__(
        self,
        *,
        flip_horizontal: float = 0.0,
        flip_vertical: float = 0.0,
        rotation_deg: float = 0.0,
        shear_deg: float = 0.0,
        zoom: float = 0.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
    ) -> None:
        self.flip_horizontal = flip_horizontal
        self.flip_vertical = flip_vertical
        self.rotation_deg = rotation_deg
        self.shear_deg = shear_deg
        self.zoom = zoom
        self.brightness = brightness
        self.contrast = contrast
        self.moves = any((flip_horizontal, flip_vertical, rotation_deg, shear_deg, zoom))

    def __call__(
        self,
        batch: Mapping[str, Any],
        *,
        generator: torch.Generator,
        first: int = 0,
        among: int | None = None,
    ) -> dict[str, Any]:
        """Augments a batch; the drawn numbers depend on the generator alone, not on the device.

        Args:
            batch: `image`, B 1 H W, float in [0, 1]; `boxes`, B K 4, (x_min, y_min, x_max, y_max) in pixels,
                NaN where there is no lesion; optionally `mask`, B 1 H W, whole numbers; and any other keys.
            generator: random generator on the CPU.
            first: index of the first image of the batch among the `among` images.
            among: number of images that numbers are drawn for; an image gets the same numbers, however these
                images are divided among processes. None: the images of this batch.

        Returns:
            The batch with other images, in [0, 1], and their boxes, which are axis-aligned around the
            transformed boxes and clipped to the image, NaN if outside, and their masks. Other keys are the
            same.
        """
        images, boxes = batch["image"], batch["boxes"]
        moved = dict(batch)
        count, _, height, width = images.shape
        draws = torch.rand(among or count, 7, generator=generator, dtype=torch.float64)[first : first + count]
        if self.moves:
            matrix = self._matrix(draws, height / width)
            # the grid maps the output to the input
            theta = torch.linalg.inv(matrix)[:, :2].to(images)
            grid = F.affine_grid(theta, list(images.shape), align_corners=False)
            images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
            if (mask := batch.get("mask")) is not None:
                sampled = F.grid_sample(
                    mask.to(images), grid, mode="nearest", padding_mode="reflection", align_corners=False
                )
                moved["mask"] = sampled.to(mask.dtype)
            boxes = _move_boxes(boxes, matrix.to(boxes), height=height, width=width)
        signed = (2 * draws[:, 5:] - 1).to(images)
        if self.contrast:
            mean = images.mean(dim=(1, 2, 3), keepdim=True)
            images = mean + (images - mean) * (1 + self.contrast * signed[:, 0, None, None, None])
        if self.brightness:
            images = images * (1 + self.brightness * signed[:, 1, None, None, None])
        if self.contrast or self.brightness:
            images = images.clamp(0, 1)
        return moved | {"image": images, "boxes": boxes}

    def _matrix(self, draws: Tensor, aspect: float) -> Tensor:
        """Returns B 3 3, input to output, in coordinates from -1 to 1.

        The units of x and y differ by `aspect`, the ratio of height to width.
        """
        flip_x = torch.where(draws[:, 0] < self.flip_horizontal, -1.0, 1.0)
        flip_y = torch.where(draws[:, 1] < self.flip_vertical, -1.0, 1.0)
        angle = (2 * draws[:, 2] - 1) * math.radians(self.rotation_deg)
        shear = torch.tan((2 * draws[:, 3] - 1) * math.radians(self.shear_deg))
        # uniform on the logarithm: a factor and its inverse are equally likely
        scale = torch.exp((2 * draws[:, 4] - 1) * math.log1p(self.zoom))
        cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
        matrix = torch.zeros(len(draws), 3, 3, dtype=draws.dtype)
        matrix[:, 0, 0] = cos * flip_x
        matrix[:, 0, 1] = (cos * shear - sin) * flip_y * aspect
        matrix[:, 1, 0] = sin * flip_x / aspect
        matrix[:, 1, 1] = (sin * shear + cos) * flip_y
        matrix[:, 2, 2] = 1.0
        return matrix


def mixup(
    images: Tensor, labels: Tensor, *, alpha: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, float]:
    """Mixes each image with a partner from its batch.

    Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018; the loss is `share` times that of the
    labels plus `1 - share` times that of the partners' labels. CutMix is not available, because it divides
    the label by area, and a lesion covers about 1 % of a mammogram.

    Args:
        images: B 1 H W.
        labels: B, index of the class.
        alpha: parameter of the Beta distribution of the share; 0: no mixing.
        generator: random generator on the CPU.

    Returns:
        images: B 1 H W, mixed; a batch of one image is unchanged.
        partner: B, labels of the partners.
        share: share of the image itself, one number for the batch, at least 0.5.
    """
    if alpha == 0 or len(images) == 1:
        return images, labels, 1.0
    # NumPy's Beta accepts any alpha; two Gammas of PyTorch underflow to 0 / 0 for a small alpha
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    drawn = np.random.default_rng(seed).beta(alpha, alpha)
    share = max(drawn, 1 - drawn)
    order = torch.randperm(len(images), generator=generator).to(images.device)
    return torch.lerp(images[order], images, share), labels[order], share


def _move_boxes(boxes: Tensor, matrix: Tensor, *, height: int, width: int) -> Tensor:
    """Returns the axis-aligned box around each transformed box, clipped to the image."""
    size = boxes.new_tensor([width, height])
    x_min, y_min, x_max, y_max = boxes.unbind(-1)
    corners = torch.stack([x_min, y_min, x_max, y_min, x_min, y_max, x_max, y_max], -1)
    corners = corners.reshape(*boxes.shape[:2], 4, 2) * 2 / size - 1  # B K 4 2
    moved = torch.einsum("bij,bkcj->bkci", matrix[:, :2, :2], corners)
    moved = (moved + 1) / 2 * size
    low = moved.amin(dim=2).clamp(min=0).minimum(size)
    high = moved.amax(dim=2).clamp(min=0).minimum(size)
    result = torch.cat([low, high], dim=-1)
    gone = (high <= low).any(dim=-1, keepdim=True)
    return result.masked_fill(gone, math.nan)
