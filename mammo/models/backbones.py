"""Construction of the network: of timm, of this package, or of the user."""

import difflib
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from mammo.config.instantiation import Role, build, part_name
from mammo.errors import ConfigError
from mammo.models.box_head import add_box_head
from mammo.models.example_input import dry_run, takes_views
from mammo.models.heads.head_nodes import GLOBAL, build_head, network_classes
from mammo.models.nested import NestedNetwork
from mammo.models.pooling import AVERAGE, replace_pool, timm_pool_type
from mammo.models.view_fusion import ViewFusion
from mammo.models.weights.timm_weights import installed_weights, pretrained_source, unavailable_weights
from mammo.models.weights.weight_loading import load_weights

# common arguments of timm that a network may refuse: the config key and what to give instead
_REFUSED_ARGUMENTS = {
    "drop_path_rate": ("model.drop_path", "model.drop_path=0"),
    "drop_rate": ("model.dropout", "another model.name"),
    "global_pool": ("model/pool", "another model.name"),
    "in_chans": ("model.channels", "another model.name"),
}


_START = 0.01  # standard deviation of the first weights of the classifier of a pretrained network

NETWORK = Role("network", base=(nn.Module,))
# what a network may ask for
FOR_NETWORKS = ("num_classes", "in_channels", "image_size")
# the fusion of several views, with the default of each key
ONE_VIEW = {"fusion": "mean", "fusion_level": "logits", "share_views": True}
# keys of `model` that are for every network, whatever its signature
OF_EVERY_NETWORK = ("weights", "box_head", "head", *ONE_VIEW)


def build_network(
    node: Mapping[str, Any],
    *,
    num_classes: int,
    image_size: tuple[int, int],
    untrained: bool = False,
    sides: Sequence[int] = (0,),
    positives: Sequence[int] = (),
) -> nn.Module:
    """Build the network of the node `model`, to B num_classes logits or to an `Output`.

    Args:
        node: `_target_`, its keyword arguments, and keys for every network: `weights`, a file or run for
            `load_weights`, whose summary is printed to standard error; `box_head`, whether to add the
            second head of `Classifier.output`; `head`, the node of `build_head`; `fusion`, `fusion_level` and
            `share_views`, see `ViewFusion`.
        num_classes: number of classes of the task.
        image_size: H and W of the images, which some networks are built for.
        untrained: whether to load no weights.
        sides: side of the breast in each of the V places of a view, 0 or 1.
        positives: indices of the positive classes.

    Returns:
        For one view a network of B 1 H W, for several one of B V 1 H W.

    Raises:
        ConfigError: unknown network, unsupported option, or unavailable weights.
    """
    options = dict(node)
    name = part_name(node) or "the network"
    weights, box_head, head = (options.pop(key, None) for key in ("weights", "box_head", "head"))
    head = head or GLOBAL
    fusion = {key: options.pop(key, default) for key, default in ONE_VIEW.items()}
    if untrained:
        weights, options = None, options | ({"pretrained": False} if "pretrained" in options else {})
    if weights is not None and options.get("pretrained"):
        raise ConfigError(f"model.pretrained=true and model.weights={weights}: give one of the two")
    if box_head and len(sides) > 1:
        raise ConfigError(
            "model.box_head=true: a box is in one image; give data.sample_unit=image, or model.box_head=false"
        )
    offered = dict(zip(FOR_NETWORKS, (network_classes(head, num_classes), 1, image_size), strict=True))
    model: nn.Module = build(options, key="model", role=NETWORK, offered=offered)
    if weights is not None:
        start_classifier(model)  # in case the file has other classes
    if box_head:
        add_box_head(model, name=name, dry_run=lambda: _dry_run(model, image_size))
    if head != GLOBAL:
        _refuse_with_head(head, fusion, views=takes_views(model), name=name)
    model = build_head(
        head, network=model, num_classes=num_classes, image_size=image_size, positives=positives
    )
    if takes_views(model):
        model.sides = tuple(sides)  # type: ignore[assignment]  # for `example_input`
        _refuse_fusion(fusion, f"{name} fuses the views itself; leave it out")
    elif len(sides) == 1:
        _refuse_fusion(fusion, "one image is one view; give data.sample_unit=breast or exam, or leave it out")
    else:
        model = ViewFusion(
            model,
            sides=sides,
            num_classes=num_classes,
            image_size=image_size,
            fusion=fusion["fusion"],
            level=fusion["fusion_level"],
            share_views=fusion["share_views"],
            name=name,
        )
    if weights is not None:
        print(load_weights(model, Path(weights)).summary(), file=sys.stderr)
    return model


def _refuse_with_head(head: Mapping[str, Any], fusion: Mapping[str, Any], *, views: bool, name: str) -> None:
    """Refuse a head that scores places for a network of several views, or for a fusion of features."""
    if views:
        raise ConfigError(f"model/head: {name} takes several views, but a head one; give model/head=global")
    for key, value in fusion.items():
        if value in ("features", "attention", "cross_view"):
            raise ConfigError(
                f"model.{key}={value}: needs pooled features, which {part_name(head)} does not have; "
                "give model.fusion_level=logits with model.fusion=mean, max or concat, or model/head=global"
            )


def _refuse_fusion(fusion: Mapping[str, Any], reason: str) -> None:
    for key, value in fusion.items():
        if value != ONE_VIEW[key]:
            raise ConfigError(f"model.{key}={str(value).lower()}: {reason}")


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
    pool: Mapping[str, Any] = AVERAGE,
    dropout: float = 0.0,
    drop_path: float = 0.0,
) -> nn.Module:
    """Build a network of timm for one-channel images, B 1 H W to B num_classes logits.

    Args:
        name: name of the network in timm, with or without a tag.
        num_classes: number of classes of the task.
        image_size: H and W of the images; None for the size of timm's pretrained weights.
        channels: number of input channels: 1, or 3 for the grey image three times.
        pretrained: whether to start from ImageNet weights, of an installed package or of timm. The classifier
            is new, see `start_classifier`.
        pool: node of the global pooling, see `make_pool`.
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
        "global_pool": timm_pool_type(pool) or "avg",
        "drop_rate": dropout,
    }
    if drop_path:
        keywords["drop_path_rate"] = drop_path
    if config and config.fixed_input_size:
        keywords["img_size"] = size
    file = installed_weights(name) if pretrained else None
    model = _create(name, keywords, pretrained=pretrained and file is None)
    if file is not None:
        load_weights(model, file)
    if pretrained:
        start_classifier(model)
    if channels == 3:
        model.register_forward_pre_hook(_repeat_grey)
    _check_size(model, name, size)
    if timm_pool_type(pool) is None:
        replace_pool(model, pool, name=name, dry_run=lambda: _dry_run(model, size))
    return model


def start_classifier(model: Any) -> None:
    """Draw the weights of the classifier of a pretrained network from N(0, 0.01), with a bias of 0.

    So the first loss is that of equal probabilities. The initial weights of some of timm's classifiers are so
    large that their first steps destroy the pretrained features. A network without timm's `get_classifier` is
    not changed.
    """
    if isinstance(model, NestedNetwork) or not hasattr(model, "get_classifier"):
        return
    classifier = model.get_classifier()
    for module in classifier if isinstance(classifier, tuple) else (classifier,):
        for layer in module.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.normal_(layer.weight, std=_START)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


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
            f"model.name={name}: cannot be built with model/pool={pool}{size_keys} ({_first_line(error)}); "
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
    dry_run(model, torch.empty(1, 1, *size))


def _repeat_grey(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Expand a grey image to three channels without a copy; colour images are unchanged."""
    images, *rest = inputs
    return images.expand(-1, 3, -1, -1), *rest


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
