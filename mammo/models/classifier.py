"""A network and its normalisation, which together make a prediction from stored images."""

import torch
from torch import Tensor, nn

from mammo.models.box_head import box_head_of, forward_with_boxes
from mammo.models.example_input import takes_views
from mammo.models.output import OF_VIEWS, Output, as_output


class Classifier(nn.Module):
    """Classifier of samples of V images as they are stored, in [0, 1].

    Images are B V 1 H W, or B 1 H W for one view. `present`, B V bool, says which views are there; None if
    all are. A network of single images takes one view only.

    Args:
        network: module of normalised B 1 H W to B C logits, or to an `Output`; or a network of several views,
            whose `forward` gets B V 1 H W and `present`.
        mean: mean of the training pixels, in [0, 1].
        std: standard deviation of the training pixels, in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, network: nn.Module, mean: float, std: float) -> None:
        super().__init__()
        self.takes_views = takes_views(network)
        self.network = network.to(memory_format=torch.channels_last)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, images: Tensor, present: Tensor | None = None) -> Tensor:
        """B V 1 H W or B 1 H W in [0, 1] to B C logits, float32."""
        return self._output(images, present).logits

    def output(self, images: Tensor, present: Tensor | None = None) -> Output:
        """Return all that the network computes, with the axis of the views; logits and boxes are float32.

        Raises:
            ValueError: several views for a network of single images.
        """
        if box_head_of(self.network) is None:
            return self._output(images, present)
        output, boxes = forward_with_boxes(self.network, lambda: self._output(images, present))
        output.boxes = boxes
        return output

    def _output(self, images: Tensor, present: Tensor | None) -> Output:
        if self.takes_views:
            views = images if images.ndim == 5 else images[:, None]
            output = as_output(self.network((views - self.mean) / self.std, present))
        else:
            if images.ndim == 5 and images.shape[1] != 1:
                raise ValueError(f"{images.shape[1]} views for a network of single images")
            image = images[:, 0] if images.ndim == 5 else images
            normalised = (image - self.mean) / self.std
            output = as_output(self.network(normalised.contiguous(memory_format=torch.channels_last)))
            for name in OF_VIEWS:
                if (value := getattr(output, name)) is not None:
                    setattr(output, name, value[:, None])
        output.logits = output.logits.float()
        for name in ("view_logits", "side_logits"):
            if (value := getattr(output, name)) is not None:
                setattr(output, name, value.float())
        return output

    @property
    def has_boxes(self) -> bool:
        """Whether the network has a second head, which predicts the lesion's box."""
        return box_head_of(self.network) is not None
