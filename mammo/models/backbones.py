"""Networks by name: timm's, and the custom CNN."""

import difflib
import re
import sys
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.func import functional_call

from mammo.errors import ConfigError
from mammo.models.box_head import add_box_head
from mammo.models.custom_cnn import CustomCNN
from mammo.models.pooling import Pool, replace_pool
from mammo.models.timm_weights import pretrained_source, unavailable
from mammo.models.weight_loading import load_weights

# what a network may refuse of timm's common arguments: our key, and what to give instead
_KEYS = {
    "drop_path_rate": ("model.drop_path", "model.drop_path=0"),
    "drop_rate": ("model.dropout", "another model.name"),
    "global_pool": ("model.pool", "another model.name"),
    "in_chans": ("model.channels", "another model.name"),
}


def build_model(
    *,
    name: str,
    num_classes: int,
    image_size: tuple[int, int] | None = None,
    weights: Path | str | None = None,
    box_head: bool = False,
    **options: Any,
) -> nn.Module:
    """The network `name` for one-channel images: B 1 H W to B num_classes logits.

    Args:
        name: `custom_cnn` or a name of timm.
        num_classes: of the task.
        image_size: H and W, which some networks are built for; None for those of its own weights.
        weights: a file for `load_weights`; what of it was used is told on standard error.
        box_head: gives it a second head, see `Classifier.with_boxes`; the logits stay as they are.
        options: `pool`, `dropout`; for `custom_cnn` `activation`, `norm`; for timm's `channels`,
            `pretrained`, `drop_path`.

    Raises:
        ConfigError: no such network, one that cannot do what is asked, or weights that cannot be had.
    """
    if weights is not None and options.get("pretrained"):
        raise ConfigError(f"model.pretrained=true and model.weights={weights}: give one of the two")
    if name == "custom_cnn":
        model: nn.Module = CustomCNN(num_classes=num_classes, **options)
    else:
        model = _timm_model(name=name, num_classes=num_classes, image_size=image_size, **options)
    if box_head:
        size = image_size or _own_size(name)
        add_box_head(model, name=name, dry_run=lambda: _dry_run(model, size))
    if weights is not None:
        print(load_weights(model, Path(weights)).summary(), file=sys.stderr)
    return model


def input_statistics(model: nn.Module) -> tuple[float, float]:
    """Mean and deviation, in [0, 1], of the grey images that a timm network's own weights expect.

    A grey image is the same in each channel, so its statistics are the mean over the channels.

    Raises:
        ConfigError: the network is not timm's.
    """
    config: Any = getattr(model, "pretrained_cfg", None)
    if config is None:
        raise ConfigError(
            "data.normalisation=weights: custom_cnn has no statistics of its own; "
            "give data.normalisation=train"
        )
    mean, std = (sum(config[key]) / len(config[key]) for key in ("mean", "std"))
    return mean, std


def _timm_model(
    *,
    name: str,
    num_classes: int,
    image_size: tuple[int, int] | None,
    channels: int = 1,
    pretrained: bool = False,
    pool: Pool = "avg",
    dropout: float = 0.0,
    drop_path: float = 0.0,
) -> nn.Module:
    _check_name(name)
    config = timm.get_pretrained_cfg(name)
    size = image_size or _own_size(name)
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


def _own_size(name: str) -> tuple[int, int]:
    config = timm.get_pretrained_cfg(name)
    return config.input_size[1:] if config else (224, 224)


def _check_name(name: str) -> None:
    known = timm.list_pretrained() if "." in name else timm.list_models()
    if timm.is_model(name) and ("." not in name or name in known):
        return
    near = difflib.get_close_matches(name, [*known, "custom_cnn"], n=3)
    meant = " or ".join(filter(None, [", ".join(near[:-1]), *near[-1:]]))
    raise ConfigError(
        f"model.name={name}: timm has no such network; "
        + (f"did you mean {meant}?" if near else "timm.list_models() lists them")
    )


def _create(name: str, keywords: dict[str, Any], *, pretrained: bool) -> nn.Module:
    source = pretrained_source(name) if pretrained else {}
    try:
        model: nn.Module = timm.create_model(name, pretrained=pretrained, **source, **keywords)
    except TypeError as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unknown is None or unknown[1] not in _KEYS:
            raise
        key, remedy = _KEYS[unknown[1]]
        value = keywords[unknown[1]]
        raise ConfigError(f"{key}={value}: {name} does not take it; give {remedy}") from error
    except AssertionError as error:
        pool, size = keywords["global_pool"], keywords.get("img_size")
        at = f" at data.height={size[0]}, data.width={size[1]}" if size else ""
        raise ConfigError(
            f"model.name={name}: cannot be built with model.pool={pool}{at} ({_first_line(error)}); "
            "give another of these"
        ) from error
    except Exception as error:
        if not pretrained:
            raise
        # the hub raises many kinds: no such file, a cut-off download, no permission
        raise unavailable(name, reason=type(error).__name__) from error
    return model


def _check_size(model: nn.Module, name: str, size: tuple[int, int]) -> None:
    """Refuses images that the network cannot take, or whose lower and right edges it would leave out."""
    sizes = f"data.height={size[0]}, data.width={size[1]}"
    patch: Any = getattr(getattr(model, "patch_embed", None), "patch_size", 1)
    patches = patch if isinstance(patch, tuple) else (patch, patch)
    if any(pixels % step for pixels, step in zip(size, patches, strict=True)):
        near = [max(step, pixels // step * step) for pixels, step in zip(size, patches, strict=True)]
        raise ConfigError(
            f"{sizes}: {name} takes whole patches of {patches[0]} x {patches[1]} pixels; "
            f"give data.height={near[0]} data.width={near[1]}"
        )
    try:
        _dry_run(model, size)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ConfigError(
            f"{sizes}: {name} does not take images of this size ({_first_line(error)}); "
            "give another data.height and data.width, most often greater ones"
        ) from error


def _dry_run(model: nn.Module, size: tuple[int, int]) -> None:
    """Runs the network on shapes alone: PyTorch's meta device computes nothing and holds no memory."""
    tensors = {
        name: tensor.to("meta") for name, tensor in [*model.named_parameters(), *model.named_buffers()]
    }
    training = model.training
    model.eval()
    with torch.no_grad():
        functional_call(model, tensors, (torch.empty(1, 1, *size, device="meta"),))
    model.train(training)


def _repeat_grey(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Shows the one channel three times, without a copy; colour images pass as they are."""
    images, *rest = inputs
    return images.expand(-1, 3, -1, -1), *rest


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
