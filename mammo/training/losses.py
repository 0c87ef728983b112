"""Losses: cross-entropy, focal loss, the squared error of a lesion's box, and the classes of places."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mammo.config.instantiation import Role
from mammo.data.loading.loader import NO_CLASS, Batch
from mammo.models.output import Output

LOSS = Role("loss", call=("output", "batch"))


class _ClassesAndBoxes(nn.Module):
    """A loss of the classes, of each side's classes for exams, and of what the network says of boxes.

    Args:
        classes: loss of logits, B C, and labels, B.
        box_weight: weight of the squared error of the box, for a network with a box head.
        cell_weight: weight of `cell_loss`, for a head that tells lesions from the background; by the masks of
            a batch that has them, else by the boxes.
    """

    name: str  # of the term of the classes

    def __init__(self, classes: nn.Module, *, box_weight: float, cell_weight: float) -> None:
        super().__init__()
        self.classes = classes
        self.box_weight = box_weight
        self.cell_weight = cell_weight

    def forward(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of the loss, each a scalar; their sum is minimised."""
        terms = {self.name: self.classes(output.logits, batch["label"])}
        if output.side_logits is not None:
            known = batch["side_label"] >= 0
            terms["sides"] = self.classes(output.side_logits[known], batch["side_label"][known])
        size = (batch["image"].shape[-2], batch["image"].shape[-1])
        if output.cells is not None and self.cell_weight:
            found = cell_loss(
                output.cells, batch["boxes"], batch["box_label"], size=size, mask=batch.get("mask")
            )
            terms["cells"] = self.cell_weight * found
        if output.boxes is not None:
            # with mixup, the target is the lesion of the image, not of its partner
            terms["box"] = self.box_weight * box_loss(output.boxes, batch["boxes"].squeeze(1), size=size)
        return terms


class CrossEntropy(_ClassesAndBoxes):
    """Cross-entropy of the classes, and the errors of a box head and of the places of lesions.

    Args:
        class_weights: C, weight of each class; None for equal weights.
        label_smoothing: share of each label that is spread evenly over all classes.
        box_weight: weight of the squared error of the box.
        cell_weight: weight of `cell_loss`.
    """

    name = "cross_entropy"

    def __init__(
        self,
        *,
        class_weights: Tensor | None = None,
        label_smoothing: float = 0.0,
        box_weight: float = 1.0,
        cell_weight: float = 0.0,
    ) -> None:
        classes = nn.CrossEntropyLoss(weight=class_weights, label_smoothing=label_smoothing)
        super().__init__(classes, box_weight=box_weight, cell_weight=cell_weight)


class Focal(_ClassesAndBoxes):
    """Focal loss of the classes, see `FocalLoss`, and the errors of a box head and of the places of lesions.

    Args:
        gamma: exponent, at least 0; a higher one reduces the weight of well-classified images.
        class_weights: C, weight of each class; None for equal weights.
        label_smoothing: share of each label that is spread evenly over all classes.
        box_weight: weight of the squared error of the box.
        cell_weight: weight of `cell_loss`.
    """

    name = "focal"

    def __init__(
        self,
        *,
        gamma: float = 2.0,
        class_weights: Tensor | None = None,
        label_smoothing: float = 0.0,
        box_weight: float = 1.0,
        cell_weight: float = 0.0,
    ) -> None:
        classes = FocalLoss(weight=class_weights, gamma=gamma, label_smoothing=label_smoothing)
        super().__init__(classes, box_weight=box_weight, cell_weight=cell_weight)


class FocalLoss(nn.Module):
    """Cross-entropy with each term scaled by (1 - p) ** gamma, where p is the probability of its class.

    Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, with softmax in place of the sigmoid. The
    mean is weighted as in `nn.CrossEntropyLoss`; for gamma = 0 both losses are equal.

    Args:
        weight: C, weight of each class (the paper's alpha); None for equal weights.
        gamma: exponent, at least 0; a higher one reduces the weight of well-classified images.
        label_smoothing: share of each label that is spread evenly over all classes.
    """

    weight: Tensor | None

    def __init__(self, *, weight: Tensor | None, gamma: float, label_smoothing: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.gamma = gamma
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of logits (B C) and labels (B)."""
        log_p = F.log_softmax(logits, dim=1)
        # expm1 is exact near p = 1; the clamp keeps the gradient of a power below 1 finite there
        rest = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny)
        terms = -log_p * rest**self.gamma  # B C
        if self.weight is not None:
            terms = terms * self.weight
        of_label = terms.gather(1, labels[:, None]).squeeze(1)
        losses = (1 - self.label_smoothing) * of_label + self.label_smoothing * terms.mean(dim=1)
        return losses.mean() if self.weight is None else losses.sum() / self.weight[labels].sum()


def cell_loss(
    scores: Tensor, boxes: Tensor, labels: Tensor, *, size: tuple[int, int], mask: Tensor | None = None
) -> Tensor:
    """Return the cross-entropy of the cells of maps: the mean of that in lesions and that of the background.

    A cell is in a lesion if its centre is in the lesion's box or mask, or if it has the centre of the box. It
    belongs to the background if it overlaps no box or mask. All other cells, those of lesions without a
    class, and those of images without a box, whose lesions may not be drawn, are left out. Of two lesions in
    one cell, the one of the higher class counts.

    Args:
        scores: B V C + 1 h w, logits of the background and of C classes; NaN for absent views.
        boxes: B V K 4, x_min, y_min, x_max, y_max in pixels, NaN for no lesion.
        labels: B V K, index of the class of each lesion; -1 for no class.
        size: H and W of the images.
        mask: B V 1 H W, class of each pixel, see `StoreDataset.class_masks`; None to use the boxes.

    Returns:
        Scalar loss; a part without cells counts as 0.
    """
    target = cell_targets(boxes, labels, cells=(scores.shape[-2], scores.shape[-1]), size=size, mask=mask)
    of_cells = scores.movedim(2, -1)  # B V h w C + 1
    drawn = ~boxes.isnan().any(dim=-1).all(dim=-1)  # B V
    known = (target >= 0) & drawn[..., None, None] & ~of_cells.isnan().any(dim=-1)
    errors = F.cross_entropy(of_cells[known], target[known], reduction="none")
    lesion = target[known] > 0
    each = [errors[part].sum() / part.sum().clamp(min=1) for part in (lesion, ~lesion)]
    return torch.stack(each).mean()


def cell_targets(
    boxes: Tensor,
    labels: Tensor,
    *,
    cells: tuple[int, int],
    size: tuple[int, int],
    mask: Tensor | None = None,
) -> Tensor:
    """Return the class of each cell, see `cell_loss`: 0 for the background, 1 + label for a lesion, or -1.

    Args:
        boxes: ... K 4, in pixels, NaN for no lesion.
        labels: ... K, index of the class of each lesion; -1 for no class.
        cells: h and w of the map.
        size: H and W of the images.
        mask: ... 1 H W, see `cell_loss`.

    Returns:
        ... h w, int64.
    """
    x_min, y_min, x_max, y_max = boxes[..., None].unbind(-2)  # each ... K 1
    overlapping, inside = [], []
    for low, high, number, length in ((y_min, y_max, cells[0], size[0]), (x_min, x_max, cells[1], size[1])):
        step = length / number
        start = torch.arange(number, device=boxes.device) * step
        centre, middle = start + step / 2, (low + high) / 2
        overlapping.append((low < start + step) & (high > start))  # ... K cells; False for NaN
        holds = (start <= middle) & (middle < start + step)
        inside.append((((low <= centre) & (centre < high)), holds))
    overlap = overlapping[0][..., :, None] & overlapping[1][..., None, :]  # ... K h w
    within, holds = (
        rows[..., :, None] & columns[..., None, :] for rows, columns in zip(*inside, strict=True)
    )
    # 1 + label of each lesion in its cells, -1 elsewhere; a lesion without a class has -1 in its cells too
    of_lesion = torch.where(labels >= 0, labels + 1, -1)[..., None, None]
    if mask is None:
        highest = torch.where(within | holds, of_lesion, -1).amax(dim=-3)
        return torch.where(overlap.any(dim=-3), highest, 0)
    drawn = mask.squeeze(-3)  # ... H W
    rows, columns = (
        ((torch.arange(number, device=mask.device) + 0.5) * length / number).long()
        for number, length in zip(cells, size, strict=True)
    )
    centre = drawn[..., rows, :][..., columns].long()
    highest = torch.where(holds, of_lesion, -1).amax(dim=-3)
    highest = highest.maximum(torch.where((centre == 0) | (centre == NO_CLASS), -1, centre))
    touched = F.adaptive_max_pool2d((mask > 0).flatten(end_dim=-3).float(), cells) > 0
    return torch.where(touched.reshape(highest.shape) | holds.any(dim=-3), highest, 0)


def box_loss(predicted: Tensor, boxes: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Return the squared error of boxes, averaged over the four coordinates and the images with a lesion.

    If an image has several lesions, its target is the one with the largest area inside the image.

    Args:
        predicted: B 4, x_min, x_max, y_min, y_max as fractions of the image.
        boxes: B K 4, x_min, y_min, x_max, y_max in pixels, NaN if an image has fewer than K lesions.
        size: H, W of the images.

    Returns:
        Scalar loss; 0, with a gradient of 0, if no image has a lesion.
    """
    target, has_lesion = largest_lesion(boxes.to(predicted), size=size)
    error = (predicted - target).square().mean(dim=1)
    return torch.where(has_lesion, error, 0.0).sum() / has_lesion.sum().clamp(min=1)


def largest_lesion(boxes: Tensor, *, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the box of the largest lesion of each image; of equally large ones, the first.

    Args:
        boxes: B K 4, x_min, y_min, x_max, y_max in pixels, rows of NaN for no lesion.
        size: H, W of the images, to which the boxes are cropped.

    Returns:
        target: B 4, x_min, x_max, y_min, y_max as fractions of the image; 0 if there is no lesion.
        has_lesion: B, whether the image has a lesion.
    """
    height, width = size
    sides = boxes.new_tensor([width, width, height, height])
    inside = boxes[:, :, [0, 2, 1, 3]].clamp(min=0).minimum(sides).nan_to_num()
    x_min, x_max, y_min, y_max = inside.unbind(-1)
    area, which = ((x_max - x_min) * (y_max - y_min)).max(dim=1)
    return inside[torch.arange(len(boxes), device=boxes.device), which] / sides, area > 0
