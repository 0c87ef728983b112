"""Pooling of maps of evidence: from the scores of the cells of an image to those of the image."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def positive_evidence(maps: Tensor, *, positives: Sequence[int]) -> Tensor:
    """Return the log odds of the positive classes in each cell, B h w.

    Args:
        maps: B C h w, scores of the classes in each cell.
        positives: indices of the positive classes, at least one and not all.
    """
    others = [index for index in range(maps.shape[1]) if index not in positives]
    return maps[:, list(positives)].logsumexp(dim=1) - maps[:, others].logsumexp(dim=1)


def cell_count(top_k: float, cells: int) -> int:
    """Return the number of cells that `top_k` means: below 1 a share of all cells, at least one cell.

    Example:
        >>> cell_count(0.1, 48), cell_count(0.001, 48), cell_count(3, 48)
        (5, 1, 3)
    """
    cells = int(cells)  # in a traced network it is a tensor
    return max(1, round(top_k * cells)) if top_k < 1 else min(int(top_k), cells)


def top_k_mean(maps: Tensor, *, top_k: float) -> Tensor:
    """Return the mean of the highest cells of each class, B C.

    Args:
        maps: B C h w.
        top_k: number of cells, or below 1 their share; one cell is the maximum, all cells are the mean.
    """
    cells = maps.flatten(2)
    return cells.topk(cell_count(top_k, cells.shape[2]), dim=2).values.mean(dim=2)


def log_mean_exp(maps: Tensor, *, sharpness: float) -> Tensor:
    """Return log(mean(exp(r x))) / r over the cells x, B C: from the mean (r = 0) to the maximum.

    Pinheiro and Collobert 2015, From image-level to pixel-level labeling with convolutional networks.

    Args:
        maps: B C h w.
        sharpness: r, above 0; 5 in the paper.
    """
    cells = maps.flatten(2)
    return ((sharpness * cells).logsumexp(dim=2) - math.log(cells.shape[2])) / sharpness


def noisy_or(maps: Tensor, *, positive: int) -> Tensor:
    """Return logits, B 2, whose softmax is the probability that at least one cell is positive.

    1 - prod(1 - p) over the cells of probability p, computed from logarithms.

    Args:
        maps: B 2 h w, logits of the classes in each cell.
        positive: index of the positive class.
    """
    odds = (maps[:, positive] - maps[:, 1 - positive]).flatten(1)
    none = F.logsigmoid(-odds).sum(dim=1).clamp(max=-torch.finfo(odds.dtype).tiny)  # log of the product
    # log(1 - exp(none)), by the formula that is exact on either side of one half
    near_0 = none > -math.log(2)
    some = torch.where(
        near_0,
        (-torch.where(near_0, none, -1.0).expm1()).log(),
        (-torch.where(near_0, -1.0, none).exp()).log1p(),
    )
    return torch.stack([none, some] if positive == 1 else [some, none], dim=1)


def positive_odds(scores: Tensor, *, positive: int, top_k: float) -> Tensor:
    """Return the log odds of the positive class where they are highest, B.

    The odds of a cell are those of the positive class against the background and the other class, so that a
    negative lesion is no evidence against a positive one elsewhere.

    Args:
        scores: B 3 h w, scores of the background and of two classes in each cell.
        positive: index of the positive class, without the background.
        top_k: number of highest cells whose mean is returned, or below 1 their share.
    """
    return top_k_mean(positive_evidence(scores, positives=[1 + positive])[:, None], top_k=top_k)[:, 0]


def window_mean(scores: Tensor, *, window: int) -> Tensor:
    """Return the mean of each cell and its neighbours, B C h w; beyond the border there are none.

    Args:
        scores: B C h w.
        window: side of the square of cells around each cell, odd.
    """
    return F.avg_pool2d(scores, window, stride=1, padding=window // 2, count_include_pad=False)


def lesion_weighted(scores: Tensor, *, odds_power: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return logits, B C, and maps, B C h w: the evidence of lesion classes where there is a lesion.

    The evidence of a class in a cell is its score minus the mean over the lesion classes. Its mean over the
    cells is weighted by the odds of a lesion against the background: weighted by the probability, the many
    cells of the background would outweigh the few of a lesion.

    Args:
        scores: B C + 1 h w, scores of the background and of C lesion classes in each cell.
        odds_power: power of the odds; the higher, the more the cell with the highest odds decides.

    Returns:
        logits: B C.
        maps: weighted evidence, B C h w, of which the logits are the mean over the cells.
    """
    background, lesion = scores[:, 0], scores[:, 1:]
    evidence = lesion - lesion.mean(dim=1, keepdim=True)
    log_weight = odds_power * (lesion.logsumexp(dim=1) - background)  # B h w
    weights = log_weight.flatten(1).softmax(dim=1).view_as(log_weight)
    maps = weights[:, None] * evidence * log_weight[0].numel()
    return maps.mean(dim=(2, 3)), maps
