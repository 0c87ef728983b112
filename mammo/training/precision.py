"""The number format of a training."""

import torch
from torch import nn

from mammo.compat import cpu_computes_bfloat16
from mammo.errors import ConfigError


def choose_precision(wanted: str, *, accelerator: str, network: nn.Module, size: tuple[int, int]) -> str:
    """What `auto` means: bfloat16 where the device computes in it; else float32 or, on a GPU, float16.

    Processors that only emulate bfloat16 are many times slower in it.

    Args:
        wanted: `auto`, `float32`, `bfloat16` or `float16`.
        accelerator: `gpu` or `cpu`.
        network: B 1 H W to B C logits, on the CPU.
        size: H, W.

    Raises:
        ConfigError: bfloat16 is wanted on a CPU, and the image is too small for it.
    """
    if accelerator == "gpu":
        whole = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bfloat16" if whole else "float16") if wanted == "auto" else wanted
    if wanted == "auto":
        return "bfloat16" if cpu_computes_bfloat16() and not has_tiny_maps(network, size=size) else "float32"
    if wanted == "bfloat16" and has_tiny_maps(network, size=size):
        raise ConfigError(
            f"trainer.precision=bfloat16: {size[0]} x {size[1]} is too small for this network's last layers "
            "to be right on a CPU; give trainer.precision=float32, or raise data.height and data.width"
        )
    return wanted


def has_tiny_maps(network: nn.Module, *, size: tuple[int, int]) -> bool:
    """Whether a convolution sees maps no larger than its padding, where its outer weights meet no pixel.

    oneDNN (of PyTorch 2.15) leaves the gradients of such weights unwritten in bfloat16: the training then
    takes whatever stood in the memory.

    Args:
        network: B 1 H W to B C logits.
        size: H, W.
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
        network.eval()(torch.zeros(1, 1, *size))
    network.train(training)
    for hook in hooks:
        hook.remove()
    return any(found)
