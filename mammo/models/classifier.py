"""A network and its normalisation, which together make a prediction from stored images."""

import torch
from torch import Tensor, nn

from mammo.models.box_head import box_head_of, forward_with_boxes
from mammo.models.output import Output, as_output


class Classifier(nn.Module):
    """Classifier of images as they are stored, in [0, 1].

    Args:
        network: module of normalised B 1 H W to B C logits, or to an `Output`.
        mean: mean of the training pixels, in [0, 1].
        std: standard deviation of the training pixels, in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, network: nn.Module, mean: float, std: float) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, images: Tensor) -> Tensor:
        """B 1 H W in [0, 1] to B C logits, float32."""
        return self._output(images).logits

    def output(self, images: Tensor) -> Output:
        """Return all that the network computes, B 1 H W in [0, 1]; logits and boxes are float32."""
        if box_head_of(self.network) is None:
            return self._output(images)
        output, boxes = forward_with_boxes(self.network, lambda: self._output(images))
        output.boxes = boxes
        return output

    def _output(self, images: Tensor) -> Output:
        normalised = (images - self.mean) / self.std
        output = as_output(self.network(normalised.contiguous(memory_format=torch.channels_last)))
        output.logits = output.logits.float()
        return output

    @property
    def has_boxes(self) -> bool:
        """Whether the network has a second head, which predicts the lesion's box."""
        return box_head_of(self.network) is not None
