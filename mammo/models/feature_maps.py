"""Feature maps of a network: the state in which they are computed, and their layout."""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mammo.errors import ConfigError
from mammo.models.classifier import Classifier
from mammo.models.nested import image_network_of, innermost_name
from mammo.models.pooling import POOLS


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


def rows_of_tokens(tokens: int, size: tuple[int, int]) -> int:
    """Return the number of rows of square patches that divide an image.

    Args:
        tokens: number of patches.
        size: H and W of the image.
    """
    return max(1, round(math.sqrt(tokens * size[0] / size[1])))


def as_map(output: Tensor, network: nn.Module, *, layer: str, size: tuple[int, int]) -> Tensor:
    """Return the output of a layer (B C h w, B h w C or B tokens C) as B C h w, float32.

    Args:
        output: output of the layer.
        network: network that contains the layer, whose attributes give the layout in timm's terms.
        layer: name of the layer, for the error message.
        size: H and W of the images.

    Raises:
        ConfigError: the output is not a feature map.
    """
    network, _ = image_network_of(network, layer)
    if output.dim() == 4:
        last = getattr(network, "output_fmt", "NCHW") == "NHWC"
        return (output.permute(0, 3, 1, 2) if last else output).float()
    if output.dim() == 3:
        prefix: Any = getattr(network, "num_prefix_tokens", 0)
        patches = output[:, prefix:].float()
        rows = rows_of_tokens(patches.shape[1], size)
        if patches.shape[1] % rows == 0:
            return patches.transpose(1, 2).reshape(len(patches), patches.shape[2], rows, -1)
    shape = " x ".join(map(str, output.shape[1:]))
    raise ConfigError(
        f"heatmap_layer={layer}: its output of shape {shape} is not a feature map; name another"
    )


def last_map(classifier: Classifier, views: Tensor) -> str:
    """Return the name of the module whose output is the pool's input, by a pass of a sample (1 V 1 H W).

    Without a pool that is a module, it is the last module whose output has several places.
    """
    path = innermost_name(classifier.network)
    network = classifier.network.get_submodule(path)
    latest: dict[str, torch.Size] = {}
    found: list[str] = []
    maps: list[str] = []

    def finished(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            latest.clear()
            if isinstance(output, Tensor):
                latest[name] = output.shape
                if output.dim() == 4 and output.shape[2:].numel() > 1:
                    maps.append(name)

        return hook

    def pools(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs[0].dim() == 4:
            found.extend(name for name, shape in latest.items() if shape == inputs[0].shape)

    handles = [
        module.register_forward_hook(finished(name)) for name, module in network.named_modules() if name
    ]
    handles += [
        module.register_forward_pre_hook(pools) for module in network.modules() if isinstance(module, POOLS)
    ]
    try:
        with torch.no_grad():
            classifier(views)  # all views, so that each network of single images runs
    finally:
        for handle in handles:
            handle.remove()
    prefix = f"{path}." if path else ""
    if found:
        return prefix + found[-1]
    names: list[str] = [name for name, _ in network.named_modules()]
    tokens = [name for name in names if re.fullmatch(r"blocks\.\d+\.norm1", name)]
    if tokens or maps:
        return prefix + [*maps, *tokens][-1]
    raise ConfigError(
        f"heatmap_layer: {type(network).__name__} has no feature map before its pool; "
        "name a layer or choose the method occlusion"
    )
