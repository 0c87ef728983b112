"""ImageNet weights that timm fetches: from the hub's cache, or over the network where there is one."""

import contextlib
import threading
from typing import Any

import huggingface_hub
import timm

from mammo.errors import ConfigError

_REMEDY = "give model.weights=FILE, or model.pretrained=false"


def pretrained_source(name: str) -> dict[str, Any]:
    """Arguments that tell `timm.create_model` where the weights lie; none where it is to fetch them.

    Raises:
        ConfigError: timm has no weights of this network, or the hub cannot be reached.
    """
    cfg = timm.get_pretrained_cfg(name)
    if cfg is None or not cfg.has_weights:
        raise ConfigError(f"model.pretrained=true: timm has no pretrained weights of {name}; {_REMEDY}")
    if cfg.hf_hub_id is None:
        return {}
    cached = huggingface_hub.try_to_load_from_cache(cfg.hf_hub_id, "model.safetensors")
    if isinstance(cached, str):
        return {
            "pretrained_cfg_overlay": {"file": cached, "custom_load": False}
        }  # the hub is not asked for what is here
    if not _hub_answers(seconds=5):
        raise unavailable(name, reason="the hub does not answer")
    return {}


def unavailable(name: str, *, reason: str) -> ConfigError:
    """The error that tells that the weights cannot be had."""
    return ConfigError(
        f"model.pretrained=true: the weights of {name} cannot be downloaded ({reason}); {_REMEDY}"
    )


def _hub_answers(*, seconds: float) -> bool:
    """Whether the hub answers one request: the download itself would retry for most of a minute.

    In a thread, for a name server and each address of the hub have time-outs of their own.
    """
    answered = threading.Event()

    def ask() -> None:
        with contextlib.suppress(Exception):  # of many kinds; each means no
            huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=seconds)
            answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answered.is_set()
