"""The scores of an epoch, collected over batches and processes."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mammo.metrics.roc_auc import auc, multiclass_auc


class EpochScores(Metric):
    """Collects the loss of an epoch and the probabilities, label and row of each image, over all processes.

    `compute` returns the mean loss and the accuracy of the most probable class. For two classes, it also
    returns the AUC of the second class as `auc`; for more classes, the macro AUC as `auc` and the micro AUC
    as `auc_micro` (see `multiclass_auc`). If the loss has several terms, it also returns the mean of each as
    `loss_<name>`. Undefined values are NaN.

    Args:
        num_classes: number of classes, C.
    """

    full_state_update = False

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.add_state("loss", default=torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("probability", "label", "row", "terms"):
            self.add_state(name, default=[], dist_reduce_fx="cat")
        self.term_names: tuple[str, ...] = ()
        self.loss: Tensor
        self.probability: list[Tensor]
        self.label: list[Tensor]
        self.row: list[Tensor]
        self.terms: list[Tensor]  # of each batch the sum of each term over the images, 1 T

    def update(
        self,
        loss: Tensor,
        probability: Tensor,
        label: Tensor,
        row: Tensor,
        *,
        terms: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Adds a batch.

        Args:
            loss: mean loss of the batch.
            probability: B C.
            label: B, index of the class.
            row: B, row of each image in the store.
            terms: terms of the loss by name, the same in each batch.
        """
        self.loss += loss.detach() * len(label)
        if terms is not None and len(terms) > 1:
            self.term_names = tuple(terms)
            sums = torch.stack([term.detach().double() for term in terms.values()]) * len(label)
            self.terms.append(sums[None])
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
                "auc_micro": multiclass_auc(probability, label, average="micro"),
            }
        right = torch.from_numpy(probability.argmax(axis=1) == label)
        terms = self._term_sums() / len(label)
        return {
            "loss": (self.loss / len(label)).float(),
            **{f"loss_{name}": term for name, term in zip(self.term_names, terms.float(), strict=True)},
            **{name: torch.tensor(area) for name, area in areas.items()},
            "accuracy": right.float().mean(),  # NaN without images
        }

    def _term_sums(self) -> Tensor:
        """Returns the sum of each term over the images, T; T is 0 for a loss of one term."""
        return dim_zero_cat(self.terms).sum(dim=0) if len(self.terms) else torch.zeros(len(self.term_names))

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
            *(snapshot[name].to(self.device) for name in ("probability", "label", "row")),
        )
        # a copy, because `update` adds in place
        self.loss = snapshot["loss"].to(self.device, copy=True)
        terms = {name.removeprefix("term "): v for name, v in snapshot.items() if name.startswith("term ")}
        if terms:
            self.term_names = tuple(terms)
            self.terms.append(torch.stack(list(terms.values()))[None].to(self.device))
