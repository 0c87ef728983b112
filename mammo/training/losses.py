"""Losses: cross-entropy, the focal loss that dwells on what is still wrong, and that of a lesion's box."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def build_loss(
    *,
    name: Literal["cross_entropy", "focal"],
    class_weights: Tensor | None,
    label_smoothing: float = 0.0,
    gamma: float = 2.0,
) -> nn.Module:
    """A loss of logits (B C) and labels (B).

    Args:
        name: which one.
        class_weights: C; None for equal ones.
        label_smoothing: share of each label that is spread evenly over all classes.
        gamma: of the focal loss.
    """
    if name == "focal":
        return FocalLoss(weight=class_weights, gamma=gamma, label_smoothing=label_smoothing)
    return nn.CrossEntropyLoss(weight=class_weights, label_smoothing=label_smoothing)


class FocalLoss(nn.Module):
    """Cross-entropy in which each term is scaled by (1 - p) ** gamma, p the probability of its class.

    Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, with softmax in place of the sigmoid. The
    mean is weighted as in `nn.CrossEntropyLoss`, which it is where gamma is 0.

    Args:
        weight: C; None for equal ones. The paper's alpha.
        gamma: at least 0; the higher, the less do images count that are already right.
        label_smoothing: share of each label that is spread evenly over all classes.
    """

    weight: Tensor | None

    def __init__(self, *, weight: Tensor | None, gamma: float, label_smoothing: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.gamma = gamma
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """B C logits and B labels to their mean loss."""
        log_p = F.log_softmax(logits, dim=1)
        # expm1 is exact near p = 1; the clamp keeps the gradient of a power below 1 finite there
        rest = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny)
        terms = -log_p * rest**self.gamma  # B C
        if self.weight is not None:
            terms = terms * self.weight
        of_label = terms.gather(1, labels[:, None]).squeeze(1)
        losses = (1 - self.label_smoothing) * of_label + self.label_smoothing * terms.mean(dim=1)
        return losses.mean() if self.weight is None else losses.sum() / self.weight[labels].sum()


def box_loss(predicted: Tensor, boxes: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Squared error of predicted boxes, the mean over their four numbers and the images that have a lesion.

    Of an image with several lesions it is the largest by area that counts, of what lies in the image.

    Args:
        predicted: B 4, x_min, x_max, y_min, y_max as fractions of the image.
        boxes: B K 4, x_min, y_min, x_max, y_max in pixels, NaN where there are fewer than K lesions.
        size: H, W of the images.

    Returns:
        0, with a gradient of 0, where no image has a lesion.
    """
    target, there = largest_lesion(boxes.to(predicted), size=size)
    error = (predicted - target).square().mean(dim=1)
    return torch.where(there, error, 0.0).sum() / there.sum().clamp(min=1)


def largest_lesion(boxes: Tensor, *, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The box of the largest lesion by area, of several as large the first.

    Args:
        boxes: B K 4, x_min, y_min, x_max, y_max in pixels, rows of NaN for no lesion.
        size: H, W, to which they are cut.

    Returns:
        target: B 4, x_min, x_max, y_min, y_max as fractions of the image, 0 where there is no lesion.
        there: B, whether there is one.
    """
    height, width = size
    sides = boxes.new_tensor([width, width, height, height])
    inside = boxes[:, :, [0, 2, 1, 3]].clamp(min=0).minimum(sides).nan_to_num()
    x_min, x_max, y_min, y_max = inside.unbind(-1)
    area, which = ((x_max - x_min) * (y_max - y_min)).max(dim=1)
    return inside[torch.arange(len(boxes), device=boxes.device), which] / sides, area > 0
