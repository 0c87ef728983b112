"""The number format of a training."""

import torch
from torch import nn

from mammo.compat import cpu_computes_bfloat16
from mammo.errors import ConfigError
from mammo.models.example_input import example_input


def choose_precision(wanted: str, *, accelerator: str, network: nn.Module, size: tuple[int, int]) -> str:
    """Return the number format of a training by Lightning's name; `auto` is bfloat16 where it is native.

    Otherwise `auto` is float16 on a GPU and float32 on a CPU, because emulated bfloat16 is many times slower.
    On a CPU, `auto` is also float32 if the image is too small for bfloat16, see `has_tiny_maps`, or if the
    network trains faster in float32, see `has_strided_depthwise`.

    Args:
        wanted: requested format: `auto`, `32-true`, `bf16-mixed` or `16-mixed`.
        accelerator: `gpu` or `cpu`.
        network: network of `build_network`, on the CPU.
        size: H, W of the images.

    Raises:
        ConfigError: bfloat16 is requested on a CPU, and the image is too small for it.
    """
    if accelerator == "gpu":
        whole = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bf16-mixed" if whole else "16-mixed") if wanted == "auto" else wanted
    if wanted == "auto":
        unfit = has_strided_depthwise(network) or has_tiny_maps(network, size=size)
        return "bf16-mixed" if cpu_computes_bfloat16() and not unfit else "32-true"
    if wanted == "bf16-mixed" and has_tiny_maps(network, size=size):
        raise ConfigError(
            f"trainer.precision=bf16-mixed: images of {size[0]} x {size[1]} are too small for correct "
            "gradients on a CPU with this network; give trainer.precision=32-true, or raise data.height "
            "and data.width"
        )
    return wanted


def has_strided_depthwise(network: nn.Module) -> bool:
    """Return whether a convolution has one group for each channel and a stride, as in EfficientNet.

    oneDNN (of PyTorch 2.15) computes its gradients in bfloat16 ten times slower than in float32, so that
    EfficientNet and MobileNetV3 train more slowly in bfloat16, while ResNet, DenseNet and ConvNeXt gain.

    Args:
        network: network of `build_network`.
    """
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    return any(each.groups == each.in_channels > 1 and max(each.stride) > 1 for each in convolutions)


def has_tiny_maps(network: nn.Module, *, size: tuple[int, int]) -> bool:
    """Return whether the input of a convolution is no larger than its padding.

    The outer weights of such a convolution see no pixel. In bfloat16, oneDNN (of PyTorch 2.15) does not write
    the gradients of these weights, so the training would use uninitialised memory.

    Args:
        network: network of `build_network`.
        size: H, W of the images.
    """
    found = []

    def look(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(module, nn.Conv2d)
        sides = zip(inputs[0].shape[-2:], module.kernel_size, strict=True)
        found.append(any(side <= kernel // 2 for side, kernel in sides))

    hooks = [
        module.register_forward_pre_hook(look)
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    ]
    training = network.training
    with torch.no_grad():
        network.eval()(*example_input(network, size))
    network.train(training)
    for hook in hooks:
        hook.remove()
    return any(found)
