"""Networks by a short name, as the choices of `conf/model` build them."""

from typing import Any

from torch import nn

from mammo.models.backbones import build_network


def build_model(
    *, name: str, num_classes: int, image_size: tuple[int, int] = (224, 224), **options: Any
) -> nn.Module:
    """Builds the custom CNN or a network of timm.

    Args:
        name: `custom_cnn`, or a name of timm.
        num_classes: number of classes.
        image_size: H and W.
        options: other keys of the node `model`.
    """
    node: dict[str, Any] = {"_target_": "mammo.models.custom_cnn.CustomCNN"}
    if name != "custom_cnn":
        node = {"_target_": "mammo.models.backbones.timm_network", "name": name}
    return build_network(node | options, num_classes=num_classes, image_size=image_size)
