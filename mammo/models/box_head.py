"""The second head of the 2019 study's two-headed networks: where in the image the lesion lies."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mammo.errors import ConfigError
from mammo.models.layer_depth import BOX_HEAD


class BoxHead(nn.Module):
    """A linear layer and a sigmoid, from the features that the classifier gets to the lesion's box.

    Args:
        features: C.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 4)

    def forward(self, features: Tensor) -> Tensor:
        """B C to B 4: x_min, x_max, y_min, y_max as fractions of the image, float32."""
        # in float32: bfloat16 would tell places no finer than a 256th of the image
        with torch.autocast(features.device.type, enabled=False):
            boxes: Tensor = self.linear(features.float()).sigmoid()
        return boxes


def add_box_head(model: nn.Module, *, name: str, dry_run: Callable[[], object]) -> None:
    """Gives a network a box head beside its classifier.

    Args:
        model: of timm's interface, changed in place.
        name: of the network, for the error.
        dry_run: runs the network once, to see what comes to the classifier.

    Raises:
        ConfigError: its classifier gets no pooled features.
    """
    with _Features(model) as seen:
        dry_run()
    if len(seen.found) != 1 or seen.found[0].flatten(1).shape[1] != max(seen.found[0].shape[1:]):
        raise ConfigError(
            f"model.box_head=true: the classifier of {name} gets no pooled features, from which a box could "
            "be told; give model.box_head=false or another model.name"
        )
    model.add_module(BOX_HEAD, BoxHead(seen.found[0].flatten(1).shape[1]))


def box_head_of(model: nn.Module) -> BoxHead | None:
    """The network's box head, None where it has but the one that classifies."""
    head = getattr(model, BOX_HEAD, None)
    return head if isinstance(head, BoxHead) else None


def with_boxes(model: nn.Module, forward: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """What a two-headed network gives in one pass: logits, and boxes as `BoxHead` tells them.

    Args:
        model: with a box head.
        forward: runs it, and gives the logits.
    """
    head = box_head_of(model)
    assert head is not None, "build_model(box_head=True) gives one"
    with _Features(model) as seen:
        logits = forward()
    [features] = seen.found
    return logits, head(features.flatten(1))


def pixel_boxes(fractions: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes of a box head (B 4) as x_min, y_min, x_max, y_max in pixels, sides that are swapped set right.

    Args:
        fractions: B 4.
        size: H, W of the images.
    """
    height, width = size
    across = fractions[:, :2].sort(dim=1).values * width
    down = fractions[:, 2:].sort(dim=1).values * height
    return torch.stack([across[:, 0], down[:, 0], across[:, 1], down[:, 1]], dim=1)


class _Features:
    """Gathers what comes to the classifier while it is open; nothing stays in the network or its copies."""

    def __init__(self, model: nn.Module) -> None:
        network: Any = model  # timm's interface, which nn.Module does not declare
        classifier = network.get_classifier()
        # of the two where one is distilled, the first
        self.classifier: nn.Module = classifier[0] if isinstance(classifier, tuple) else classifier
        self.found: list[Tensor] = []

    def __enter__(self) -> "_Features":
        self.handle = self.classifier.register_forward_pre_hook(
            lambda _, inputs: self.found.append(inputs[0])
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.remove()
