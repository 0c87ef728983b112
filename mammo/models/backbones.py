"""Networks by name: timm's, and the custom CNN."""

from typing import Any

import timm
from torch import nn

from mammo.errors import ConfigError
from mammo.models.custom_cnn import CustomCNN


def build_model(*, name: str, num_classes: int, **options: Any) -> nn.Module:
    """The network `name` for one-channel images, giving B num_classes logits.

    Args:
        name: `custom_cnn` or a name of timm.
        num_classes: of the task.
        options: `activation`, `dropout` for `custom_cnn`; `pretrained`, `pool`, `dropout` for timm's.
    """
    if name == "custom_cnn":
        return CustomCNN(num_classes=num_classes, **options)
    return _timm_model(name=name, num_classes=num_classes, **options)


def _timm_model(
    *, name: str, num_classes: int, pretrained: bool = False, pool: str = "avg", dropout: float = 0.0
) -> nn.Module:
    try:
        model: nn.Module = timm.create_model(
            name,
            pretrained=pretrained,
            in_chans=1,
            num_classes=num_classes,
            global_pool=pool,
            drop_rate=dropout,
        )
    except Exception as error:
        if not pretrained:
            raise
        # the hub raises many kinds: no network, no such file, a cut-off download
        raise ConfigError(
            f"model.pretrained=true: the weights of {name} cannot be downloaded ({type(error).__name__}); "
            "run once where there is a network, or give model.pretrained=false"
        ) from error
    return model


def input_statistics(model: nn.Module) -> tuple[float, float]:
    """Mean and deviation, in [0, 1], of the grey images that a timm network's own weights expect.

    timm sums a colour stem to one channel, so the mean over its channels is the grey image's.
    """
    config: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    mean, std = (sum(config[key]) / len(config[key]) for key in ("mean", "std"))
    return mean, std
