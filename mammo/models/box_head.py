"""Second head of the 2019 study's two-headed networks, which predicts the lesion's bounding box."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from mammo.errors import ConfigError
from mammo.models.classifier_inputs import ClassifierInputs, pooled_shape
from mammo.models.layer_depth import BOX_HEAD

Result = TypeVar("Result")


class BoxHead(nn.Module):
    """A linear layer and a sigmoid that predict the lesion's box from the classifier's input.

    Args:
        features: number of features C.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 4)

    def forward(self, features: Tensor) -> Tensor:
        """B C to B 4: x_min, x_max, y_min, y_max as fractions of the image, float32."""
        # in float32, because bfloat16 resolves positions no finer than 1/256 of the image
        with torch.autocast(features.device.type, enabled=False):
            boxes: Tensor = self.linear(features.float()).sigmoid()
        return boxes


def add_box_head(model: nn.Module, *, name: str, dry_run: Callable[[], object]) -> None:
    """Add a box head to a network, beside its classifier.

    Args:
        model: network with timm's interface, changed in place.
        name: name of the network, for the error message.
        dry_run: function that runs the network once, which shows the shape of the classifier's input.

    Raises:
        ConfigError: the input of the classifier is not a vector of pooled features.
    """
    shape = pooled_shape(model, dry_run)
    if shape is None:
        raise ConfigError(
            f"model.box_head=true: the classifier of {name} gets no pooled features, which a box head needs; "
            "give model.box_head=false or another model.name"
        )
    model.add_module(BOX_HEAD, BoxHead(shape.numel()))


def box_head_of(model: nn.Module) -> BoxHead | None:
    """The network's box head; None if it has a classifier only."""
    head = getattr(model, BOX_HEAD, None)
    return head if isinstance(head, BoxHead) else None


def forward_with_boxes(model: nn.Module, forward: Callable[[], Result]) -> tuple[Result, Tensor]:
    """Run a two-headed network once.

    Args:
        model: network with a box head.
        forward: function that runs the network.

    Returns:
        result: result of `forward`.
        boxes: B 4, the output of `BoxHead`.
    """
    head = box_head_of(model)
    assert head is not None
    with ClassifierInputs(model) as inputs:
        result = forward()
    [features] = inputs.captured
    return result, head(features.flatten(1))


def pixel_boxes(fractions: Tensor, size: tuple[int, int]) -> Tensor:
    """Convert boxes of a box head to pixels, exchanging opposite sides that are in the wrong order.

    Args:
        fractions: B 4, x_min, x_max, y_min, y_max as fractions of the image.
        size: H and W of the images in pixels.

    Returns:
        B 4, x_min, y_min, x_max, y_max in pixels.

    Example:
        >>> pixel_boxes(torch.tensor([[0.75, 0.25, 0.0, 0.5]]), (64, 32))
        tensor([[ 8.,  0., 24., 32.]])
    """
    height, width = size
    across = fractions[:, :2].sort(dim=1).values * width
    down = fractions[:, 2:].sort(dim=1).values * height
    return torch.stack([across[:, 0], down[:, 0], across[:, 1], down[:, 1]], dim=1)
