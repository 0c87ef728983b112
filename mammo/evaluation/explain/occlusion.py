"""Occlusion: the decrease of a class's log-odds when a grey patch covers a part of the image."""

import math

import torch
from torch import Tensor

from mammo.models.classifier import Classifier

# Number of occluded copies in one forward pass.
_COPIES = 32
# Steps of the patch along the side of a square image, and side of the patch in steps.
_STEPS = 28
_PATCH_STEPS = 3


def default_step(size: tuple[int, int]) -> int:
    """Return the distance between neighbouring patches in pixels: 8 for an image of 224 x 224.

    It grows with the image, so that the number of patches does not.

    Args:
        size: H and W of the image.

    Example:
        >>> default_step((224, 224)), default_step((1152, 896))
        (8, 37)
    """
    return math.ceil(math.sqrt(size[0] * size[1]) / _STEPS)


def default_patch(step: int) -> int:
    """Return the side of the patches in pixels for this distance between them."""
    return _PATCH_STEPS * step


def occlude(
    classifier: Classifier,
    images: Tensor,
    targets: Tensor,
    *,
    patch: int,
    step: int,
    present: Tensor | None = None,
) -> Tensor:
    """Return the mean decrease of the target's log-odds over the patches on each pixel, B V H W.

    The log-odds decrease by the evidence that the patch hides; the probability hardly changes where it is
    near 1. A patch covers one view of its sample. Patches that cover only background (0) are skipped.

    Args:
        classifier: classifier to explain.
        images: B V 1 H W in [0, 1].
        targets: class to explain, B.
        patch: side of the patches, pixels.
        step: distance between neighbouring patches, pixels.
        present: B V, whether the sample has the image; None if it has all.
    """
    height, width = images.shape[3:]
    tall, wide = min(patch, height), min(patch, width)
    patches = [
        (slice(top, top + tall), slice(left, left + wide))
        for top in _starts(height, tall, step)
        for left in _starts(width, wide, step)
    ]
    fall = images.new_zeros(*images.shape[:2], height, width)
    covered = images.new_zeros(height, width)
    for place in patches:
        covered[place] += 1
    present = images.new_ones(images.shape[:2], dtype=torch.bool) if present is None else present
    places = [
        (index, view, place)
        for index, view in present.nonzero().tolist()
        for place in patches
        if images[index, view, 0][place].any()
    ]
    with torch.no_grad():
        before = _log_odds(classifier, images, present, targets)
        for first in range(0, len(places), _COPIES):
            part = places[first : first + _COPIES]
            which = torch.tensor([index for index, _, _ in part], device=images.device)
            copies = images[which]
            for copy, (_, view, place) in zip(copies, part, strict=True):
                copy[view, 0][place] = classifier.mean
            falls = before[which] - _log_odds(classifier, copies, present[which], targets[which])
            for (index, view, place), value in zip(part, falls, strict=True):
                fall[index, view][place] += value
    return fall / covered


def _log_odds(classifier: Classifier, images: Tensor, present: Tensor, targets: Tensor) -> Tensor:
    """Return the logarithm of p / (1 - p) of the probability p of each target, B."""
    logits: Tensor = classifier(images, present)
    others = logits.scatter(1, targets[:, None], -math.inf)
    return logits.gather(1, targets[:, None])[:, 0] - others.logsumexp(dim=1)


def _starts(length: int, patch: int, step: int) -> list[int]:
    """Return the first pixels of the patches along a side; the last patch ends with the image."""
    return [*range(0, length - patch, step), length - patch]
