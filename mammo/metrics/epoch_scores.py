"""The scores of an epoch, collected over batches and processes."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mammo.metrics.kappa import quadratic_kappa
from mammo.metrics.own_metrics import OwnMetrics
from mammo.metrics.roc_auc import auc, multiclass_auc


def score_names(*, num_classes: int, ordered: bool) -> list[str]:
    """Returns the names of the scores of `EpochScores`, without terms of the loss and own metrics.

    Example:
        >>> score_names(num_classes=4, ordered=True)
        ['auc', 'loss', 'accuracy', 'auc_micro', 'kappa']
    """
    more = {"auc_micro": num_classes > 2, "kappa": ordered}
    return ["auc", "loss", "accuracy", *(name for name, known in more.items() if known)]


class EpochScores(Metric):
    """Collects the loss of an epoch and the probabilities, label and unit of each sample, over all processes.

    `compute` returns the mean loss and the accuracy of the most probable class. For two classes, it also
    returns the AUC of the second class as `auc`; for more classes, the macro AUC as `auc` and the micro AUC
    as `auc_micro` (see `multiclass_auc`). For ordered classes, it also returns the quadratic weighted kappa
    of the most probable class as `kappa`. If the loss has several terms, it also returns the mean of each as
    `loss_<name>`. Undefined values are NaN.

    Args:
        num_classes: number of classes, C.
        ordered: whether the order of the classes has a meaning.
        own: the user's metrics, whose values `compute` returns too; None for none.
        averaged: whether the scores are of units, see `average_units`, not of samples.
    """

    full_state_update = False

    def __init__(
        self,
        num_classes: int = 2,
        *,
        ordered: bool = False,
        own: OwnMetrics | None = None,
        averaged: bool = False,
    ) -> None:
        super().__init__()
        self.averaged = averaged
        self.ordered = ordered
        self.own = own
        self.num_classes = num_classes
        self.add_state("loss", default=torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("probability", "label", "unit", "terms", "parts"):
            self.add_state(name, default=[], dist_reduce_fx="cat")
        self.term_names: tuple[str, ...] = ()
        self.loss: Tensor
        self.probability: list[Tensor]
        self.label: list[Tensor]
        self.unit: list[Tensor]
        self.parts: list[Tensor]
        self.terms: list[Tensor]  # of each batch the sum of each term over the samples, 1 T

    def update(
        self,
        loss: Tensor,
        probability: Tensor,
        label: Tensor,
        unit: Tensor,
        *,
        terms: Mapping[str, Tensor] | None = None,
        parts: Tensor | None = None,
    ) -> None:
        """Adds a batch.

        Args:
            loss: mean loss of the batch.
            probability: B C.
            label: B, index of the class.
            unit: B, index of the unit of each sample: of the image, the breast or the exam.
            terms: terms of the loss by name, the same in each batch.
            parts: B P C, probabilities for P views and sides of each sample; None where there are none.
        """
        self.loss += loss.detach() * len(label)
        if terms is not None and len(terms) > 1:
            self.term_names = tuple(terms)
            sums = torch.stack([term.detach().double() for term in terms.values()]) * len(label)
            self.terms.append(sums[None])
        self.probability.append(probability.detach().float())
        self.label.append(label)
        self.unit.append(unit)
        if parts is not None:
            self.parts.append(parts.detach().float())

    def gathered(self) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        """Returns probability (N C), label (N) and unit (N) of every sample, or of every unit if averaged.

        The samples are those of this process; within `with scores.sync_context():`, those of all processes.
        """
        state = self.snapshot()
        found = state["probability"].numpy(), state["label"].numpy(), state["unit"].numpy()
        return average_units(*found) if self.averaged else found

    def gathered_parts(self) -> NDArray[np.float32] | None:
        """Returns the probabilities of the views and sides, N P C, in the order of `gathered`."""
        if not len(self.parts):
            return None
        parts, state = dim_zero_cat(self.parts).cpu().numpy(), self.snapshot()
        if self.averaged:
            label, unit = state["label"].numpy(), state["unit"].numpy()
            averaged, _, _ = average_units(parts.reshape(len(parts), -1), label, unit)
            parts = averaged.reshape(len(averaged), *parts.shape[1:])
        return parts

    def compute(self) -> dict[str, Tensor]:
        probability, label, _ = self.gathered()
        if self.num_classes == 2:
            areas = {"auc": auc(probability[:, 1], label)}
        else:
            areas = {
                "auc": multiclass_auc(probability, label),
                "auc_micro": multiclass_auc(probability, label, average="micro"),
            }
        called = probability.argmax(axis=1)
        if self.ordered:
            areas["kappa"] = quadratic_kappa(label, called)
        if self.own is not None:
            areas |= self.own(probability, label)
        right = torch.from_numpy(called == label)
        samples = len(dim_zero_cat(self.label)) if len(self.label) else 0
        terms = self._term_sums() / samples
        return {
            "loss": (self.loss / samples).float(),
            **{f"loss_{name}": term for name, term in zip(self.term_names, terms.float(), strict=True)},
            **{name: torch.tensor(area) for name, area in areas.items()},
            "accuracy": right.float().mean(),  # NaN without images
        }

    def _term_sums(self) -> Tensor:
        """Returns the sum of each term over the samples, T; T is 0 for a loss of one term."""
        return dim_zero_cat(self.terms).sum(dim=0) if len(self.terms) else torch.zeros(len(self.term_names))

    def snapshot(self) -> dict[str, Tensor]:
        """Returns the state of this process as CPU tensors, for a checkpoint in the middle of an epoch.

        It is separate from `state_dict`, which is part of the weights of the module that owns the metric.
        """
        empty = {
            "probability": torch.empty(0, self.num_classes),
            "label": torch.empty(0, dtype=torch.int64),
            "unit": torch.empty(0, dtype=torch.int64),
        }
        state = {"loss": self.loss.detach().cpu().clone()}
        if self.term_names:
            state |= {
                f"term {name}": value
                for name, value in zip(self.term_names, self._term_sums().cpu(), strict=True)
            }
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
            *(snapshot[name].to(self.device) for name in ("probability", "label", "unit")),
        )
        # a copy, because `update` adds in place
        self.loss = snapshot["loss"].to(self.device, copy=True)
        terms = {name.removeprefix("term "): v for name, v in snapshot.items() if name.startswith("term ")}
        if terms:
            self.term_names = tuple(terms)
            self.terms.append(torch.stack(list(terms.values()))[None].to(self.device))


def average_units(
    probability: NDArray[np.float32], label: NDArray[np.int64], unit: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Averages the probabilities of the samples of each unit, such as the pairs of views of one breast.

    Args:
        probability: N C.
        label: N, the same for all samples of a unit.
        unit: N, unit of each sample.

    Returns:
        probability (M C), label (M) and unit (M) of the M units; the arguments if each has one sample.

    Example:
        >>> average_units(np.float32([[0.5], [0.1], [0.3]]), np.array([1, 0, 0]), np.array([4, 2, 2]))
        (array([[0.2],
               [0.5]], dtype=float32), array([0, 1]), array([2, 4]))
    """
    units, first, place, count = np.unique(unit, return_index=True, return_inverse=True, return_counts=True)
    if len(units) == len(unit):
        return probability, label, unit
    sums = np.zeros((len(units), probability.shape[1]))
    np.add.at(sums, place, probability)
    return (sums / count[:, None]).astype(np.float32), label[first], units
