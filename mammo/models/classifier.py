"""A network and its normalisation, which together make a prediction from stored images."""

import torch
from torch import Tensor, nn

from mammo.models.box_head import box_head_of, forward_with_boxes


class Classifier(nn.Module):
    """Classifier of images as they are stored, in [0, 1].

    Args:
        network: module of normalised B 1 H W to B C logits.
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
        normalised = (images - self.mean) / self.std
        logits: Tensor = self.network(normalised.contiguous(memory_format=torch.channels_last))
        return logits.float()

    @property
    def has_boxes(self) -> bool:
        """Whether the network has a second head, which predicts the lesion's box."""
        return box_head_of(self.network) is not None

    def with_boxes(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the logits of `forward` and the lesions' boxes from the same features.

        Args:
            images: B 1 H W in [0, 1].

        Returns:
            logits: B C, float32.
            boxes: B 4, float32: x_min, x_max, y_min, y_max as fractions of the image.
        """
        return forward_with_boxes(self.network, lambda: self(images))
