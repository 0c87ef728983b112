"""A network with its normalisation: all that a prediction needs."""

import torch
from torch import Tensor, nn

from mammo.models.box_head import box_head_of, with_boxes


class Classifier(nn.Module):
    """From images as they are stored, in [0, 1], to logits.

    Args:
        network: B 1 H W, normalised, to B C logits.
        mean: of the training pixels, in [0, 1].
        std: their deviation.
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
        """Whether the network has a second head, which tells the lesion's box."""
        return box_head_of(self.network) is not None

    def with_boxes(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """B 1 H W in [0, 1] to the logits of `forward`, and the boxes of lesions from the same features.

        Returns:
            logits: B C, float32.
            boxes: B 4, float32: x_min, x_max, y_min, y_max as fractions of the image.
        """
        return with_boxes(self.network, lambda: self(images))
