"""Weights from a file into a network, tensor by tensor, by name and shape."""

import pickle
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from mammo.errors import ConfigError
from mammo.models.efficientnet_lite_names import from_port
from mammo.models.layer_depth import BOX_HEAD, head_modules, within

# Least share of tensors that match, without the head and the pool. A ResNet-18 finds all of its own in
# the file of a ResNet-34, whence the share is of whichever holds more.
_LEAST_SHARE = 0.75

# What wrappers put before the names: our Lightning module, DataParallel, others' modules, torch.compile.
_WRAPPERS = ("network", "module", "model", "_orig_mod")
_CONTAINERS = ("state_dict", "model")  # keys under which a checkpoint keeps its tensors
_COUNTER = ".num_batches_tracked"

_FORMATS = "give safetensors, a state dict saved by torch.save, or a checkpoint of ours"


@dataclass(frozen=True)
class LoadedWeights:
    """What became of a file's tensors.

    Attributes:
        file: they came from.
        total: tensors of the model.
        matched: of these, those taken from the file.
        reshaped: matched ones that were fitted to the model: a stem to its channels, positions to its size.
        other_shape: tensors of the model that the file has in another shape, as a head of other classes.
        missing: tensors of the model that are not in the file.
        unused: tensors of the file that the model does not have.
    """

    file: Path
    total: int
    matched: int
    reshaped: list[str]
    other_shape: list[str]
    missing: list[str]
    unused: list[str]

    def summary(self) -> str:
        """One line; all that is not told of was taken as it is."""
        left = [
            f"{_few(names)} ({why})"
            for names, why in ((self.other_shape, "other shape"), (self.missing, "not in the file"))
            if names
        ]
        parts = [f"{self.matched} of {self.total} tensors matched"]
        if left:
            parts.append(f"not: {', '.join(left)}")
        if self.reshaped:
            parts.append(f"reshaped: {_few(self.reshaped)}")
        if self.unused:
            parts.append(f"unused: {_few(self.unused)}")
        return f"model.weights={self.file}: {'; '.join(parts)}"


def _few(names: list[str]) -> str:
    more = len(names) - 4
    return ", ".join(names[:4]) + (f" and {more} more" if more > 0 else "")


def load_weights(model: nn.Module, file: Path) -> LoadedWeights:
    """Takes over each tensor of the file that the model has by name and shape, whatever the head's classes.

    A colour stem's weights are summed into a grey one's, and a grey one's shared out over three channels.

    Args:
        model: changed in place; what the file does not have stays at its initialisation.
        file: safetensors, a state dict saved by `torch.save`, or a checkpoint of ours.

    Raises:
        ConfigError: no such file, no weights in it, or those of another network; the model is unchanged.
    """
    own = model.state_dict()
    raw, tensors = _named_as_in(model, _read(file))
    fitted = {name: _fitted(tensors[name], own[name]) for name in own if name in tensors}
    matched = {name: tensor for name, tensor in fitted.items() if tensor is not None}

    top = (*head_modules(model), BOX_HEAD)  # which the file may have alone
    found, wanted, held = (sum(not within(name, top) for name in names) for names in (matched, own, tensors))
    if found < _LEAST_SHARE * max(wanted, held):
        raise ConfigError(
            f"model.weights={file}: weights of another network: without the head {found} of the model's "
            f"{wanted} and the file's {held} tensors match; give a file of this network"
        )
    model.load_state_dict(matched, strict=False)
    return LoadedWeights(
        file=file,
        total=len(own),
        matched=len(matched),
        reshaped=[name for name in matched if name in raw and raw[name].shape != own[name].shape],
        other_shape=[name for name, tensor in fitted.items() if tensor is None],
        missing=[name for name in own if name not in tensors],
        unused=[name for name in tensors if name not in own],
    )


def _read(file: Path) -> dict[str, Tensor]:
    """The tensors of a file, out of what they are wrapped in; nothing in it is ever run."""
    if not file.is_file():
        raise ConfigError(f"model.weights={file}: no such file")
    try:
        if file.suffix == ".safetensors":
            content: Any = safetensors.torch.load_file(file)
        else:
            with warnings.catch_warnings():  # of other formats, which are refused below
                warnings.simplefilter("ignore")
                content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ConfigError(f"model.weights={file}: cannot be read ({error.strerror})") from error
    except Exception as error:  # a file that is anything else fails anyhow: KeyError, struct.error, ...
        with file.open("rb") as stream:
            pickled = stream.read(2) in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
        if pickled and isinstance(error, pickle.UnpicklingError):
            raise ConfigError(
                f"model.weights={file}: holds Python objects besides tensors, which could run code and are "
                "not opened; save the tensors alone: torch.save(model.state_dict(), FILE)"
            ) from error
        raise ConfigError(f"model.weights={file}: not a file of weights, or cut short; {_FORMATS}") from error
    while isinstance(content, Mapping):
        inner = [content[key] for key in _CONTAINERS if isinstance(content.get(key), Mapping)]
        if not inner:
            break
        content = inner[0]
    entries = content.items() if isinstance(content, Mapping) else ()
    tensors = {str(name): value for name, value in entries if isinstance(value, Tensor)}
    if not tensors:
        raise ConfigError(f"model.weights={file}: holds no named tensors; {_FORMATS}")
    return tensors


def _named_as_in(
    model: nn.Module, tensors: dict[str, Tensor]
) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """The tensors under the model's names: as the file has them, and as timm makes them fit the model.

    Names may stand behind one wrapper's name, or several; the reading that meets most names is taken.
    """
    own = model.state_dict()
    readings = [tensors]
    while inner := {
        name.partition(".")[2]: tensor
        for name, tensor in readings[-1].items()
        if name.partition(".")[0] in _WRAPPERS and "." in name
    }:
        readings.append(inner)  # without what is not the network's: a loss, the mean, the deviation
    renamed = [from_port(reading, own) for reading in readings]
    raw, native = max(
        ((reading, _as_timm(model, reading)) for reading in renamed),
        key=lambda pair: len(own.keys() & pair[1]),
    )
    # files from before PyTorch 0.4.1 lack this counter; PyTorch itself takes it for 0 then
    counters = {
        name: torch.zeros_like(tensor)
        for name, tensor in own.items()
        if name.endswith(_COUNTER) and name.removesuffix(_COUNTER) + ".running_mean" in native
    }
    return raw, counters | dict(native)


def _as_timm(model: nn.Module, tensors: dict[str, Tensor]) -> Mapping[str, Tensor]:
    """As the network's module in timm prepares its files: the authors' names, positions for another size."""
    prepare = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if prepare is None:
        return tensors
    try:
        prepared: Mapping[str, Tensor] = prepare(dict(tensors), model)
    except Exception:  # written for this network's files, it fails anyhow on another's, which is then refused
        return tensors
    return prepared


def _fitted(tensor: Tensor, own: Tensor) -> Tensor | None:
    """The tensor in the model's shape, where it has that or is a stem of 1 for one of 3 channels or back."""
    if tensor.shape == own.shape:
        return tensor
    both_4d = tensor.ndim == own.ndim == 4
    if both_4d and {tensor.shape[1], own.shape[1]} == {1, 3} and _but_channels(tensor) == _but_channels(own):
        # the same answer to a grey image: the sum over its channels stays
        grey = tensor.float().sum(dim=1, keepdim=True)
        return (grey / own.shape[1]).expand_as(own)
    return None


def _but_channels(tensor: Tensor) -> tuple[int, ...]:
    out, _, *kernel = tensor.shape
    return out, *kernel
