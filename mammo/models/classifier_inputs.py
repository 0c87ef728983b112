"""The inputs of a network's classifier, which are its pooled features."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class ClassifierInputs:
    """Captures the classifier's inputs inside a `with` block; no hook stays in the network or copies.

    Args:
        model: network with timm's method `get_classifier`.
    """

    def __init__(self, model: nn.Module) -> None:
        network: Any = model  # timm's interface, which nn.Module does not declare
        classifier = network.get_classifier()
        # the first of the two in distilled networks
        self.classifier: nn.Module = classifier[0] if isinstance(classifier, tuple) else classifier
        self.captured: list[Tensor] = []

    def __enter__(self) -> "ClassifierInputs":
        self.handle = self.classifier.register_forward_pre_hook(
            lambda _, inputs: self.captured.append(inputs[0])
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.remove()


def pooled_shape(model: nn.Module, dry_run: Callable[[], object]) -> torch.Size | None:
    """Return the shape of the classifier's input without the batch: D, or D and axes of length 1.

    Args:
        model: network with timm's method `get_classifier`.
        dry_run: function that runs the network once.

    Returns:
        None if the classifier's input is not one vector of pooled features for each image.
    """
    with ClassifierInputs(model) as inputs:
        dry_run()
    if len(inputs.captured) != 1:
        return None
    shape = inputs.captured[0].shape[1:]
    return shape if shape.numel() == max(shape, default=0) else None
