"""Metrics of the user's own, from nodes with `_target_`, computed from all images of an epoch or a split."""

import re
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torchmetrics import Metric

from mammo.config.instantiation import TARGET, Role, build, check_node
from mammo.errors import ConfigError

METRIC = Role("metric", base=(Metric,))
_OFFERED = ("num_classes",)
# Scores that every epoch has, see `EpochScores` and `EpochRecord`.
_TAKEN = ("loss", "auc", "auc_micro", "accuracy", "kappa", "lr", "images_per_second", "waiting_for_data")


def check_metrics(nodes: Mapping[str, Any]) -> None:
    """Check the nodes of metrics without building them.

    Args:
        nodes: node of each metric by name, as plain values.

    Raises:
        ConfigError: a name is taken or is no name, or `check_node` raises it.
    """
    for name, node in nodes.items():
        if not isinstance(node, dict):
            raise ConfigError(f"metrics.{name}={node}: is no node; give {{_target_: package.module.Class}}")
        if name in _TAKEN or name.startswith("loss_") or not re.fullmatch(r"\w+", name):
            raise ConfigError(
                f"metrics.{name}: cannot be the name, because a score of each epoch has it or it is not made "
                "of letters, digits and _; choose another name"
            )
        check_node(node, key=f"metrics.{name}", role=METRIC, offered=_OFFERED)


class OwnMetrics:
    """The user's metrics, each computed anew from all images.

    A metric is updated once, with the probabilities (N C) and the labels (N). If it does not take these and
    there are two classes, it is updated with the probability of the second class (N), as the `Binary`
    metrics of torchmetrics expect. Which it takes is tried when it is built.

    Args:
        nodes: node of each metric by name, as plain values.
        num_classes: number of classes, C, handed over where the signature asks for it.

    Raises:
        ConfigError: see `check_metrics`; or a metric takes neither, or does not return one number.
    """

    def __init__(self, nodes: Mapping[str, Any], *, num_classes: int) -> None:
        check_metrics(nodes)
        self._metrics: dict[str, tuple[Metric, bool]] = {}  # and whether it takes the second class only
        self._failed: set[str] = set()
        for name, node in nodes.items():
            offered = {"num_classes": num_classes}
            metric = build(node, key=f"metrics.{name}", role=METRIC, offered=offered)
            metric.sync_on_compute = False  # it gets the images of all processes
            self._metrics[name] = metric, _takes_second(metric, f"metrics.{name}", node[TARGET], num_classes)

    def __call__(self, probability: ArrayLike, labels: ArrayLike) -> dict[str, float]:
        """Return the value of each metric by name; NaN if it fails, with a message at the first time.

        Args:
            probability: N C.
            labels: N, index of the class.
        """
        found = {}
        for name, (metric, second) in self._metrics.items():
            try:
                found[name] = _value(metric, torch.as_tensor(probability), torch.as_tensor(labels), second)
            except Exception as error:
                found[name] = float("nan")
                if name not in self._failed:
                    print(f"metrics.{name} is undefined: {error}", file=sys.stderr)
                self._failed.add(name)
        return found


def _value(metric: Metric, probability: Tensor, labels: Tensor, second: bool) -> float:
    metric.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes without images, for which the value says enough
        metric.update(probability[:, 1] if second else probability, labels)
        return float(metric.compute())


def _takes_second(metric: Metric, key: str, target: str, num_classes: int) -> bool:
    """Return whether a metric takes the probability of the second class, by trying it on a few images."""
    labels = torch.arange(4 * num_classes) % num_classes
    generator = torch.Generator().manual_seed(0)
    probability = torch.rand(len(labels), num_classes, generator=generator).softmax(dim=1)
    reasons = []
    for second in (False, True) if num_classes == 2 else (False,):
        try:
            _value(metric, probability, labels, second)
        except Exception as error:
            reasons.append((str(error).splitlines() or [type(error).__name__])[0].rstrip("."))
        else:
            metric.reset()
            return second
    raise ConfigError(
        f"{key}: {target} gives no number for probabilities (N x {num_classes}) and labels (N): "
        f"{reasons[-1]}; give its arguments for {num_classes} classes, or another metric"
    )
