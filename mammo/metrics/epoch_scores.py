"""The scores of an epoch, collected over batches and processes."""

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
    as `auc_micro` (see `multiclass_auc`). Undefined values are NaN.

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
                "auc_micro": multiclass_auc(probability, label, average="micro"),
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
