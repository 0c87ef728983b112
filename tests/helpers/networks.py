"""Networks by a short name, as the choices of `conf/model` build them."""

from collections.abc import Sequence
from typing import Any

import yaml
from torch import nn

from mammo.config.checks import CONF
from mammo.models.backbones import build_network


def build_model(
    *,
    name: str,
    num_classes: int,
    image_size: tuple[int, int] = (224, 224),
    sides: Sequence[int] = (0,),
    positives: Sequence[int] = (),
    **options: Any,
) -> nn.Module:
    """Builds the custom CNN or a network of timm.

    Args:
        name: `custom_cnn`, or a name of timm.
        num_classes: number of classes.
        image_size: H and W.
        sides: side of each place of a view.
        positives: indices of the positive classes.
        options: other keys of the node `model`; `pool` is a choice of `model/pool`, and `head` one of
            `model/head`, or a mapping with the choice as `name` and keys to change.
    """
    if "pool" in options:
        options["pool"] = choice("pool", options["pool"])
    if isinstance(head := options.get("head"), str):
        options["head"] = choice("head", head)
    elif head is not None:
        options["head"] = choice("head", head["name"]) | {k: v for k, v in head.items() if k != "name"}
    node: dict[str, Any] = {"_target_": "mammo.models.custom_cnn.CustomCNN"}
    if name != "custom_cnn":
        node = {"_target_": "mammo.models.backbones.timm_network", "name": name}
    return build_network(
        node | options, num_classes=num_classes, image_size=image_size, sides=sides, positives=positives
    )


def choice(group: str, name: str) -> dict[str, Any]:
    """Returns the node of a choice of a group of `model`."""
    node = yaml.safe_load((CONF / "model" / group / f"{name}.yaml").read_text())
    return {key: value for key, value in node.items() if key != "defaults"}
