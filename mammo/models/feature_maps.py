"""Feature maps of a network: the state in which they are computed, and their layout."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mammo.errors import ConfigError


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode, freeze the parameters and enable gradients; restore the model at the end."""
    modes = [(module, module.training) for module in model.modules()]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.eval()
        for parameter in learning:
            parameter.requires_grad_(False)
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter in learning:
            parameter.requires_grad_()


def as_map(output: Tensor, network: nn.Module, *, layer: str, size: tuple[int, int]) -> Tensor:
    """Return the output of a layer (B C h w, B h w C or B tokens C) as B C h w, float32.

    Args:
        output: output of the layer.
        network: network of the layer, which gives the layout by timm's attributes.
        layer: name of the layer, for the error message.
        size: H and W of the images.

    Raises:
        ConfigError: the output is not a feature map.
    """
    if output.dim() == 4:
        last = getattr(network, "output_fmt", "NCHW") == "NHWC"
        return (output.permute(0, 3, 1, 2) if last else output).float()
    if output.dim() == 3:
        prefix: Any = getattr(network, "num_prefix_tokens", 0)
        patches = output[:, prefix:].float()
        rows = max(1, round(math.sqrt(patches.shape[1] * size[0] / size[1])))  # if patches are square
        if patches.shape[1] % rows == 0:
            return patches.transpose(1, 2).reshape(len(patches), patches.shape[2], rows, -1)
    shape = " x ".join(map(str, output.shape[1:]))
    raise ConfigError(
        f"heatmap_layer={layer}: its output of shape {shape} is not a feature map; name another"
    )
