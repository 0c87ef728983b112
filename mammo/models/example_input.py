"""The inputs that a network takes: an example of them, and a run that computes shapes only."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


def takes_views(network: nn.Module) -> bool:
    """Whether a network gets all views of a sample, B V 1 H W, and which of them are present, B V."""
    return "present" in inspect.signature(network.forward).parameters


def example_input(network: nn.Module, size: tuple[int, int], *, batch: int = 1) -> tuple[Tensor, ...]:
    """Return arguments for the forward pass of a network, on the CPU and the same in each call.

    Args:
        network: network of `build_network`.
        size: H and W of the images.
        batch: number of samples B.

    Returns:
        images: B 1 H W for a network of single images, B V 1 H W for one of several views, in [0, 1].
        present: B V, all True; of a network of several views only.
    """
    generator = torch.Generator().manual_seed(0)
    if not takes_views(network):
        return (torch.rand(batch, 1, *size, generator=generator),)
    sides: Sequence[int] = getattr(network, "sides", (0,))  # of each place of a view
    images = torch.rand(batch, len(sides), 1, *size, generator=generator)
    return images, torch.ones(batch, len(sides), dtype=torch.bool)


def dry_run(model: nn.Module, *inputs: Tensor) -> Any:
    """Run a network in evaluation mode on PyTorch's meta device, which neither computes nor allocates.

    Args:
        model: network on any device, which is unchanged afterwards.
        inputs: arguments of its forward pass; only their shapes are used.

    Returns:
        What the network returns, on the meta device.
    """
    tensors = {
        name: tensor.to("meta") for name, tensor in [*model.named_parameters(), *model.named_buffers()]
    }
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            return functional_call(model, tensors, tuple(tensor.to("meta") for tensor in inputs))
    finally:
        for module, training in modes:
            module.training = training
