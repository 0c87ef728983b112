"""Construction of the network: of timm, of this package, or of the user."""

import difflib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.func import functional_call

from mammo.config.instantiation import Role, build, part_name
from mammo.errors import ConfigError
from mammo.models.box_head import add_box_head
from mammo.models.pooling import Pool, replace_pool
from mammo.models.timm_weights import pretrained_source, unavailable_weights
from mammo.models.weight_loading import load_weights

# common arguments of timm that a network may refuse: the config key and what to give instead
_REFUSED_ARGUMENTS = {
    "drop_path_rate": ("model.drop_path", "model.drop_path=0"),
    "drop_rate": ("model.dropout", "another model.name"),
    "global_pool": ("model.pool", "another model.name"),
    "in_chans": ("model.channels", "another model.name"),
}


NETWORK = Role("network", base=(nn.Module,))
# what a network may ask for
FOR_NETWORKS = ("num_classes", "in_channels", "image_size")
# keys of `model` that are for every network, whatever its signature
OF_EVERY_NETWORK = ("weights", "box_head")


def build_network(
    node: Mapping[str, Any], *, num_classes: int, image_size: tuple[int, int], untrained: bool = False
) -> nn.Module:
    """Build the network of the node `model`, from B 1 H W to B num_classes logits or to an `Output`.

    Args:
        node: `_target_`, its keyword arguments, and two keys for every network: `weights`, a file for
            `load_weights`, whose summary is printed to standard error, and `box_head`, whether to add the
            second head of `Classifier.output`.
        num_classes: number of classes of the task.
        image_size: H and W of the images, which some networks are built for.
        untrained: whether to load no weights.

    Raises:
        ConfigError: unknown network, unsupported option, or unavailable weights.
    """
    options = dict(node)
    weights, box_head = (options.pop(key, None) for key in OF_EVERY_NETWORK)
    if untrained:
        weights, options = None, options | ({"pretrained": False} if "pretrained" in options else {})
    if weights is not None and options.get("pretrained"):
        raise ConfigError(f"model.pretrained=true and model.weights={weights}: give one of the two")
    offered = dict(zip(FOR_NETWORKS, (num_classes, 1, image_size), strict=True))
    model: nn.Module = build(options, key="model", role=NETWORK, offered=offered)
    if box_head:
        name = part_name(node) or "the network"
        add_box_head(model, name=name, dry_run=lambda: _dry_run(model, image_size))
    if weights is not None:
        print(load_weights(model, Path(weights)).summary(), file=sys.stderr)
    return model


def input_statistics(model: nn.Module) -> tuple[float, float]:
    """Mean and standard deviation, in [0, 1], of grey images as a timm network's pretrained weights expect.

    A grey image is the same in each channel, so its statistics are the mean over the channels.

    Raises:
        ConfigError: the network is not one of timm's.
    """
    config: Any = getattr(model, "pretrained_cfg", None)
    if config is None:
        raise ConfigError(
            "data.normalisation=weights: the network has no statistics of its own; "
            "give data.normalisation=train"
        )
    mean, std = (sum(config[key]) / len(config[key]) for key in ("mean", "std"))
    return mean, std


def timm_network(
    *,
    name: str,
    num_classes: int,
    image_size: tuple[int, int] | None = None,
    channels: int = 1,
    pretrained: bool = False,
    pool: Pool = "avg",
    dropout: float = 0.0,
    drop_path: float = 0.0,
) -> nn.Module:
    """Build a network of timm for one-channel images, B 1 H W to B num_classes logits.

    Args:
        name: name of the network in timm, with or without a tag.
        num_classes: number of classes of the task.
        image_size: H and W of the images; None for the size of timm's pretrained weights.
        channels: number of input channels: 1, or 3 for the grey image three times.
        pretrained: whether to start from timm's ImageNet weights.
        pool: global pooling.
        dropout: dropout probability before the classifier.
        drop_path: probability of dropping a residual branch.

    Raises:
        ConfigError: unknown network, unsupported option, or unavailable weights.
    """
    require_network(name)
    config = timm.get_pretrained_cfg(name)
    size = image_size or _default_size(name)
    keywords: dict[str, Any] = {
        "in_chans": channels,
        "num_classes": num_classes,
        "global_pool": pool if pool in ("avg", "max") else "avg",
        "drop_rate": dropout,
    }
    if drop_path:
        keywords["drop_path_rate"] = drop_path
    if config and config.fixed_input_size:
        keywords["img_size"] = size
    model = _create(name, keywords, pretrained=pretrained)
    if channels == 3:
        model.register_forward_pre_hook(_repeat_grey)
    _check_size(model, name, size)
    if pool in ("gem", "attention"):
        replace_pool(model, pool, name=name, dry_run=lambda: _dry_run(model, size))
    return model


def _default_size(name: str) -> tuple[int, int]:
    config = timm.get_pretrained_cfg(name)
    return config.input_size[1:] if config else (224, 224)


def require_network(name: str) -> None:
    """Raise a ConfigError unless timm has a network of that name."""
    known = timm.list_pretrained() if "." in name else timm.list_models()
    if timm.is_model(name) and ("." not in name or name in known):
        return
    if name == "custom_cnn":
        raise ConfigError("model.name=custom_cnn: is no network of timm; give model=custom_cnn")
    similar = difflib.get_close_matches(name, known, n=3)
    suggestion = " or ".join(filter(None, [", ".join(similar[:-1]), *similar[-1:]]))
    raise ConfigError(
        f"model.name={name}: timm has no such network; "
        + (f"did you mean {suggestion}?" if similar else "timm.list_models() lists them")
    )


def _create(name: str, keywords: dict[str, Any], *, pretrained: bool) -> nn.Module:
    source = pretrained_source(name) if pretrained else {}
    try:
        model: nn.Module = timm.create_model(name, pretrained=pretrained, **source, **keywords)
    except TypeError as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unknown is None or unknown[1] not in _REFUSED_ARGUMENTS:
            raise
        key, remedy = _REFUSED_ARGUMENTS[unknown[1]]
        value = keywords[unknown[1]]
        raise ConfigError(f"{key}={value}: {name} does not take it; give {remedy}") from error
    except AssertionError as error:
        pool, size = keywords["global_pool"], keywords.get("img_size")
        size_keys = f" at data.height={size[0]}, data.width={size[1]}" if size else ""
        raise ConfigError(
            f"model.name={name}: cannot be built with model.pool={pool}{size_keys} ({_first_line(error)}); "
            "give another of these"
        ) from error
    except Exception as error:
        if not pretrained:
            raise
        # the hub raises errors of many types: missing file, interrupted download, no permission
        raise unavailable_weights(name, reason=type(error).__name__) from error
    return model


def _check_size(model: nn.Module, name: str, size: tuple[int, int]) -> None:
    """Refuse images that the network cannot process, or whose lower and right edges it would ignore."""
    sizes = f"data.height={size[0]}, data.width={size[1]}"
    patch_size: Any = getattr(getattr(model, "patch_embed", None), "patch_size", 1)
    patches = patch_size if isinstance(patch_size, tuple) else (patch_size, patch_size)
    if any(pixels % step for pixels, step in zip(size, patches, strict=True)):
        nearest = [max(step, pixels // step * step) for pixels, step in zip(size, patches, strict=True)]
        raise ConfigError(
            f"{sizes}: {name} takes whole patches of {patches[0]} x {patches[1]} pixels; "
            f"give data.height={nearest[0]} data.width={nearest[1]}"
        )
    try:
        _dry_run(model, size)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ConfigError(
            f"{sizes}: {name} does not take images of this size ({_first_line(error)}); "
            "give another data.height and data.width, usually larger ones"
        ) from error


def _dry_run(model: nn.Module, size: tuple[int, int]) -> None:
    """Run the network on PyTorch's meta device, which propagates shapes without computing or allocating."""
    tensors = {
        name: tensor.to("meta") for name, tensor in [*model.named_parameters(), *model.named_buffers()]
    }
    training = model.training
    model.eval()
    with torch.no_grad():
        functional_call(model, tensors, (torch.empty(1, 1, *size, device="meta"),))
    model.train(training)


def _repeat_grey(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Expand a grey image to three channels without a copy; colour images are unchanged."""
    images, *rest = inputs
    return images.expand(-1, 3, -1, -1), *rest


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
