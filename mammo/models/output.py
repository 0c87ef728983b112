"""What a network returns: logits, and what it can show beside them."""

from dataclasses import dataclass

from torch import Tensor

from mammo.errors import ConfigError


@dataclass
class Output:
    """Output of a network for B images of C classes.

    Attributes:
        logits: B C.
        boxes: B 4, x_min, x_max, y_min, y_max of the lesion as fractions of the image; None without a box.
    """

    logits: Tensor
    boxes: Tensor | None = None


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
