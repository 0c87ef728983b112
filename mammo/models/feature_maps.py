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


def last_map(classifier: Classifier, views: Tensor, *, cells: int = 1) -> str:
    """Return the name of the module whose output is the pool's input, by a pass of a sample (1 V 1 H W).

    Without a pool that is a module, it is the last module whose output has several places.

    Args:
        classifier: classifier with the network.
        views: a sample, 1 V 1 H W.
        cells: rows and columns that the map should have: if it has fewer, the last module in the sequence of
            the network's stages whose output has as many is returned, if there is one.
    """
    path = innermost_name(classifier.network)
    network = classifier.network.get_submodule(path)
    nhwc = getattr(network, "output_fmt", "NCHW") == "NHWC"
    latest: dict[str, torch.Size] = {}
    found: list[str] = []
    maps: dict[str, tuple[int, ...]] = {}  # rows and columns of the output, in the order of the calls

    def finished(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            latest.clear()
            if isinstance(output, Tensor):
                latest[name] = output.shape
                if output.dim() == 4 and output.shape[2:].numel() > 1:
                    maps.pop(name, None)
                    maps[name] = tuple(output.shape[1:3] if nhwc else output.shape[2:])

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
    names: list[str] = [name for name, _ in network.named_modules()]
    tokens = [name for name in names if re.fullmatch(r"blocks\.\d+\.norm1", name)]
    last = [*found[-1:], *tokens[-1:], *list(maps)[-1:]]
    if not last:
        raise ConfigError(
            f"heatmap_layer: {type(network).__name__} has no feature map before its pool; "
            "name a layer or choose the method occlusion"
        )
    if last[0] not in tokens and min(maps.get(last[0], (1, 1))) < cells:
        stages = [
            name for name, size in maps.items() if min(size) >= cells and _is_stage(name, network=network)
        ]
        last = [*stages[-1:], *last]
    return prefix + last[0]


def _is_stage(name: str, *, network: nn.Module) -> bool:
    """Return whether a module is not a part of a block: all modules around it are sequences."""
    around = name.split(".")[:-1]
    return all(
        isinstance(network.get_submodule(".".join(around[:depth])), nn.Sequential)
        for depth in range(1, len(around) + 1)
    )
