"""Scores of a classifier: functions of arrays, and the torchmetrics metric of an epoch."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % confidence interval and standard error; NaN where undefined."""

    value: float
    low: float
    high: float
    standard_error: float


def auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Returns the area under the ROC curve: the probability that a positive scores above a negative.

    A tie counts as one half.

    Args:
        scores: N, higher for the positive class.
        labels: N, 1 for positive and 0 for negative.

    Returns:
        The AUC, or NaN if one class is absent.

    Example:
        >>> auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
        0.75
    """
    above, _ = _placements(np.asarray(scores), np.asarray(labels))
    return float(above.mean()) if above.size and above.size < np.size(labels) else math.nan


def clustered_auc(
    scores: ArrayLike, labels: ArrayLike, clusters: ArrayLike, *, level: float = 0.95
) -> Estimate:
    """Returns the AUC with an interval that accounts for the similarity of the images of a patient.

    The variance is that of Obuchowski (1997, Nonparametric analysis of clustered ROC curve data, Biometrics
    53:567). It equals the variance of DeLong if every cluster is one image. The interval is symmetric on the
    logit scale, so it stays within 0 and 1.

    Args:
        scores: N, higher for the positive class.
        labels: N, 1 for positive and 0 for negative.
        clusters: N, the patient of each image.
        level: confidence level.

    Returns:
        The estimate. All its values are NaN if one class is absent; its interval is NaN if a class is in one
        patient only, or if the AUC is 0 or 1.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    value = auc(scores, labels)
    error = float(np.sqrt(np.maximum(0, clustered_covariance(scores[:, None], labels, clusters)[0, 0])))
    if not 0 < value < 1 or math.isnan(error):
        return Estimate(value, math.nan, math.nan, error)
    logit = math.log(value / (1 - value))
    reach = NormalDist().inv_cdf((1 + level) / 2) * error / (value * (1 - value))
    low, high = (1 / (1 + math.exp(-bound)) for bound in (logit - reach, logit + reach))
    return Estimate(value, low, high, error)


def clustered_covariance(
    scores: ArrayLike, labels: ArrayLike, clusters: ArrayLike
) -> NDArray[np.float64]:  # K K
    """Returns the covariance of the AUCs of K models on the same images, see `clustered_auc`.

    The method is that of DeLong et al. (1988, Comparing the areas under two or more correlated receiver
    operating characteristic curves, Biometrics 44:837) for clusters of one image, and that of Obuchowski
    (1997) for larger clusters.

    Args:
        scores: N K, higher for the positive class.
        labels: N, 1 for positive and 0 for negative.
        clusters: N, the patient of each image.

    Returns:
        Covariance matrix, K K; NaN if a class is in one patient only.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    models = scores.shape[1]
    _, cluster = np.unique(np.asarray(clusters), return_inverse=True)
    count = int(cluster.max()) + 1 if cluster.size else 0
    positives, negatives = cluster[labels == 1], cluster[labels == 0]
    with_positive, with_negative = np.unique(positives).size, np.unique(negatives).size
    if with_positive < 2 or with_negative < 2:
        return np.full((models, models), np.nan)
    of_positives, of_negatives = np.empty((models, count)), np.empty((models, count))
    for model in range(models):
        above, below = _placements(scores[:, model], labels)
        of_positives[model] = np.bincount(positives, above - above.mean(), minlength=count)
        of_negatives[model] = np.bincount(negatives, below - above.mean(), minlength=count)
    m, n = positives.size, negatives.size
    between = of_positives @ of_negatives.T
    return np.asarray(
        with_positive / (with_positive - 1) * (of_positives @ of_positives.T) / m**2
        + with_negative / (with_negative - 1) * (of_negatives @ of_negatives.T) / n**2
        + count / (count - 1) * (between + between.T) / (m * n)
    )


def multiclass_auc(
    probability: ArrayLike, labels: ArrayLike, *, average: Literal["micro", "macro"] = "micro"
) -> float:
    """Returns one AUC for several classes, each against the rest.

    Args:
        probability: N C.
        labels: N, index of the class.
        average: `micro` pools all pairs of image and class, so frequent classes weigh more and probabilities
            of different classes are compared; `macro` is the mean over the classes.

    Returns:
        The AUC. `macro` ignores absent classes, and is NaN if fewer than two classes are present; `micro` is
        NaN only if there are no images.

    Example:
        >>> multiclass_auc([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.5, 0.4, 0.1]], [0, 1, 2], average="macro")
        0.6666666666666666
    """
    scores, hits = _one_vs_rest(probability, labels)
    if average == "micro":
        return auc(scores.ravel(), hits.ravel())
    there = np.flatnonzero(hits.any(axis=0))
    return float(np.mean([auc(scores[:, c], hits[:, c]) for c in there])) if there.size > 1 else math.nan


def clustered_multiclass_auc(
    probability: ArrayLike, labels: ArrayLike, clusters: ArrayLike, *, level: float = 0.95
) -> Estimate:
    """Returns the micro AUC of several classes with its interval by patient, see `clustered_auc`.

    All pairs of an image and a class are in the cluster of the patient, so the interval accounts for their
    dependence (the probabilities sum to 1).

    Args:
        probability: N C.
        labels: N, index of the class.
        clusters: N, the patient of each image.
        level: confidence level.
    """
    scores, hits = _one_vs_rest(probability, labels)
    pair_clusters = np.repeat(np.asarray(clusters), scores.shape[1])
    return clustered_auc(scores.ravel(), hits.ravel(), pair_clusters, level=level)


def _one_vs_rest(probability: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Returns the probability of each class, N C, and whether the image is of the class, N C."""
    scores = np.asarray(probability)
    return scores, np.asarray(labels)[:, None] == np.arange(scores.shape[1])


def _placements(scores: NDArray[np.generic], labels: NDArray[np.generic]) -> tuple[NDArray[np.float64], ...]:
    """Returns the share of negatives below each positive, and of positives above each negative."""
    positive, negative = scores[labels == 1], scores[labels == 0]

    def share_below(values: NDArray[np.generic], others: NDArray[np.generic]) -> NDArray[np.float64]:
        others = np.sort(others)
        below = np.searchsorted(others, values, side="left") + np.searchsorted(others, values, side="right")
        return below / (2 * max(1, others.size))

    return share_below(positive, negative), 1 - share_below(negative, positive)


class EpochScores(Metric):
    """Collects the loss of an epoch and the probabilities, label and row of each image, over all processes.

    `compute` returns the mean loss and the accuracy of the most probable class. For two classes, it also
    returns the AUC of the second class as `auc`; for more classes, the micro AUC as `auc` and the macro AUC
    as `auc_macro` (see `multiclass_auc`). Undefined values are NaN.

    Args:
        num_classes: number of classes, C.
    """

    full_state_update = False

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.add_state("loss", default=torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("probability", "label", "row"):
            self.add_state(name, default=[], dist_reduce_fx="cat")
        self.loss: Tensor
        self.probability: list[Tensor]
        self.label: list[Tensor]
        self.row: list[Tensor]

    def update(self, loss: Tensor, probability: Tensor, label: Tensor, row: Tensor) -> None:
        """Adds a batch.

        Args:
            loss: mean loss of the batch.
            probability: B C.
            label: B, index of the class.
            row: B, row of each image in the store.
        """
        self.loss += loss.detach() * len(label)
        self.probability.append(probability.detach().float())
        self.label.append(label)
        self.row.append(row)

    def gathered(self) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        """Returns probability (N C), label (N) and row (N) of every image so far.

        The images are those of this process; within `with scores.sync_context():`, those of all processes.
        """
        state = self.snapshot()
        return state["probability"].numpy(), state["label"].numpy(), state["row"].numpy()

    def compute(self) -> dict[str, Tensor]:
        probability, label, _ = self.gathered()
        if self.num_classes == 2:
            areas = {"auc": auc(probability[:, 1], label)}
        else:
            areas = {
                "auc": multiclass_auc(probability, label),
                "auc_macro": multiclass_auc(probability, label, average="macro"),
            }
        right = torch.from_numpy(probability.argmax(axis=1) == label)
        return {
            "loss": (self.loss / len(label)).float(),
            **{name: torch.tensor(area) for name, area in areas.items()},
            "accuracy": right.float().mean(),  # NaN without images
        }

    def snapshot(self) -> dict[str, Tensor]:
        """Returns the state of this process as CPU tensors, for a checkpoint in the middle of an epoch.

        It is separate from `state_dict`, which is part of the weights of the module that owns the metric.
        """
        empty = {
            "probability": torch.empty(0, self.num_classes),
            "label": torch.empty(0, dtype=torch.int64),
            "row": torch.empty(0, dtype=torch.int64),
        }
        state = {"loss": self.loss.detach().cpu().clone()}
        for name, nothing in empty.items():
            # after a synchronisation of the processes it is one tensor instead of a list
            batches = getattr(self, name)
            state[name] = dim_zero_cat(batches).cpu() if len(batches) else nothing
        return state

    def restore(self, snapshot: dict[str, Tensor]) -> None:
        """Replaces the state with that of a snapshot."""
        self.reset()
        if not len(snapshot["label"]):
            return
        self.update(
            torch.tensor(0.0, device=self.device),
            *(snapshot[name].to(self.device) for name in ("probability", "label", "row")),
        )
        # a copy, because `update` adds in place
        self.loss = snapshot["loss"].to(self.device, copy=True)
