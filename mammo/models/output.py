"""What a network returns: logits, and what it can show beside them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mammo.errors import ConfigError

# what a network of single images returns of its image, besides logits
OF_VIEWS = ("maps", "cells", "crops", "crop_attention")


@dataclass
class Output:
    """Output of a network for B samples of V views and of C classes.

    A network of single images returns what `OF_VIEWS` names without the axis of the views.

    Attributes:
        logits: B C.
        boxes: B 4, x_min, x_max, y_min, y_max of the lesion as fractions of the image; None without a box.
        view_logits: B V C, logits of each view by itself; NaN for absent views.
        side_logits: B 2 C, logits of each side of an exam; NaN for a side without a view.
        maps: B V C h w, evidence for each class in each place; NaN for absent views.
        cells: B V C + 1 h w, logits of the background and of each class in each place, of a head that tells
            lesions from the background; NaN for absent views.
        attention: B V, weights of the views, whose sum is 1; 0 for absent views.
        crops: B V K 4, x_min, y_min, x_max, y_max of the crops that the network looks at again, in pixels;
            NaN for absent views.
        crop_attention: B V K, weights of the crops; 0 for absent views.
    """

    logits: Tensor
    boxes: Tensor | None = None
    view_logits: Tensor | None = None
    side_logits: Tensor | None = None
    maps: Tensor | None = None
    cells: Tensor | None = None
    attention: Tensor | None = None
    crops: Tensor | None = None
    crop_attention: Tensor | None = None

    @property
    def part_logits(self) -> Tensor | None:
        """B P C, logits of the V views and of the two sides of an exam; None for a network of one view."""
        found = [each for each in (self.view_logits, self.side_logits) if each is not None]
        return torch.cat(found, dim=1) if found else None


def as_output(result: object) -> Output:
    """Return what a network returned, a tensor of logits or an `Output`, as an `Output`.

    Raises:
        ConfigError: the network returned something else.
    """
    if isinstance(result, Output):
        return result
    if isinstance(result, Tensor):
        return Output(result)
    raise ConfigError(
        f"model: the network returns {type(result).__name__}; return logits, B C, or mammo.models.Output"
    )
