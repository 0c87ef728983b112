"""Loading of a network's weights from a file, with tensors matched by name and shape."""

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
from mammo.models.layer_depth import BOX_HEAD, head_modules, within
from mammo.models.nested import NestedNetwork
from mammo.models.weights.efficientnet_lite_names import to_timm_names
from mammo.runs import RunFolder

# Minimum share of matching tensors, head and pool excluded. The share is of the larger of model and file,
# because the file of a ResNet-34 has a match for every tensor of a ResNet-18.
_MINIMUM_SHARE = 0.75

# Prefixes of names added by wrappers: our Lightning module, DataParallel, others' modules, torch.compile.
_WRAPPERS = ("network", "module", "model", "_orig_mod")
_CONTAINERS = ("state_dict", "model")  # keys of a checkpoint that hold its tensors
_COUNTER = ".num_batches_tracked"

_FORMATS = "give safetensors, a state dict saved by torch.save, or a checkpoint of ours"


@dataclass(frozen=True)
class LoadedWeights:
    """Result of loading a file of weights into a model.

    Attributes:
        file: path of the file.
        total: number of tensors in the model.
        matched: number of the model's tensors that were taken from the file.
        reshaped: names of matched tensors whose shape was adapted: a stem to the model's channels, position
            embeddings to its image size.
        other_shape: names of tensors with another shape in the file, such as a head for other classes.
        missing: names of the model's tensors that are not in the file.
        unused: names of the file's tensors that are not in the model.
    """

    file: Path
    total: int
    matched: int
    reshaped: list[str]
    other_shape: list[str]
    missing: list[str]
    unused: list[str]

    def summary(self) -> str:
        """One line for the user; tensors not mentioned were loaded unchanged."""
        unmatched = [
            f"{_few(names)} ({why})"
            for names, why in ((self.other_shape, "other shape"), (self.missing, "not in the file"))
            if names
        ]
        parts = [f"{self.matched} of {self.total} tensors matched"]
        if unmatched:
            parts.append(f"not: {', '.join(unmatched)}")
        if self.reshaped:
            parts.append(f"reshaped: {_few(self.reshaped)}")
        if self.unused:
            parts.append(f"unused: {_few(self.unused)}")
        return f"model.weights={self.file}: {'; '.join(parts)}"


def _few(names: list[str]) -> str:
    more = len(names) - 4
    return ", ".join(names[:4]) + (f" and {more} more" if more > 0 else "")


def load_weights(model: nn.Module, file: Path) -> LoadedWeights:
    """Load each tensor of the file whose name and shape match one of the model; the heads may differ.

    The weights of a three-channel stem are summed for a grey one; those of a grey stem are divided evenly
    among three channels. Each copy of a network of single images in a `NestedNetwork` gets the weights of
    such a network.

    Args:
        model: network to change in place; tensors that are not in the file keep their initial values.
        file: safetensors, a state dict saved by `torch.save`, a checkpoint of mammo, or the folder of a run,
            for the checkpoint of its best epoch.

    Returns:
        Names and numbers of the tensors that were loaded and that were not.

    Raises:
        ConfigError: missing file, no weights in it, or weights of another network; the model is unchanged.
    """
    own = model.state_dict()
    if (best := RunFolder(file).checkpoints / "best.ckpt").is_file():
        file = best
    raw, tensors = _named_as_in(model, _read(file))
    fitted = {name: _fitted(tensors[name], own[name]) for name in own if name in tensors}
    matched = {name: tensor for name, tensor in fitted.items() if tensor is not None}

    head = (*head_modules(model), BOX_HEAD)  # the file may have a box head that the model lacks
    in_both, in_model, in_file = (
        sum(not within(name, head) for name in names) for names in (matched, own, tensors)
    )
    if in_both < _MINIMUM_SHARE * max(in_model, in_file):
        raise ConfigError(
            f"model.weights={file}: weights of another network: without the head {in_both} of the model's "
            f"{in_model} and the file's {in_file} tensors match; give a file of this network"
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


def saved_statistics(file: Path) -> tuple[float, float] | None:
    """Return mean and standard deviation, in [0, 1], by which a run of mammo normalised its images.

    Args:
        file: see `load_weights`.

    Returns:
        The statistics; None for weights that are not of a run.
    """
    if (best := RunFolder(file).checkpoints / "best.ckpt").is_file():
        file = best
    tensors = _read(file)
    found = [tensors[name] for name in ("mean", "std") if name in tensors and tensors[name].numel() == 1]
    return (float(found[0]), float(found[1])) if len(found) == 2 else None


def _read(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a file, out of the dictionaries that hold them; no code in the file is run."""
    if not file.is_file():
        raise ConfigError(f"model.weights={file}: no such file")
    try:
        if file.suffix == ".safetensors":
            content: Any = safetensors.torch.load_file(file)
        else:
            with warnings.catch_warnings():  # about other formats, which are refused below
                warnings.simplefilter("ignore")
                content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ConfigError(f"model.weights={file}: cannot be read ({error.strerror})") from error
    except Exception as error:  # other formats raise errors of many types: KeyError, struct.error, ...
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
    """Rename the tensors as in the model; return them as in the file, and as timm adapts them to the model.

    Names may have the prefixes of several wrappers; the number of prefixes removed is the one for which most
    names match.
    """
    own = model.state_dict()
    readings = [tensors]
    while inner := {
        name.partition(".")[2]: tensor
        for name, tensor in readings[-1].items()
        if name.partition(".")[0] in _WRAPPERS and "." in name
    }:
        readings.append(inner)  # tensors outside the network drop out: loss, mean, deviation
    pairs: list[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]] = []
    chain = [model]  # the file may be of a network of single images inside
    while isinstance(last := chain[-1], NestedNetwork):
        chain.append(last.image_network)
    while chain:
        network = chain.pop()
        names = network.state_dict()
        for reading in (to_timm_names(reading, names) for reading in readings):
            pair: tuple[Mapping[str, Tensor], Mapping[str, Tensor]] = (reading, _as_timm(network, reading))
            for around in reversed(chain):
                assert isinstance(around, NestedNetwork)
                pair = (around.from_image_network(pair[0]), around.from_image_network(pair[1]))
            pairs.append(pair)
    raw, native = max(pairs, key=lambda pair: len(own.keys() & pair[1]))
    # files written before PyTorch 0.4.1 lack this counter, which PyTorch then sets to 0
    counters = {
        name: torch.zeros_like(tensor)
        for name, tensor in own.items()
        if name.endswith(_COUNTER) and name.removesuffix(_COUNTER) + ".running_mean" in native
    }
    return raw, counters | dict(native)


def _as_timm(model: nn.Module, tensors: dict[str, Tensor]) -> Mapping[str, Tensor]:
    """Apply timm's filter for the network's files: the authors' names, positions for another image size."""
    prepare = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if prepare is None:
        return tensors
    try:
        prepared: Mapping[str, Tensor] = prepare(dict(tensors), model)
    except Exception:  # it may fail on another network's file, which is refused later
        return tensors
    return prepared


def _fitted(tensor: Tensor, own: Tensor) -> Tensor | None:
    """The tensor in the model's shape, with stems converted between 1 and 3 channels; None if impossible."""
    if tensor.shape == own.shape:
        return tensor
    stems = tensor.ndim == own.ndim == 4 and {tensor.shape[1], own.shape[1]} == {1, 3}
    if stems and _without_channels(tensor) == _without_channels(own):
        # the sum over the channels, and so the output for a grey image, is unchanged
        grey = tensor.float().sum(dim=1, keepdim=True)
        return (grey / own.shape[1]).expand_as(own)
    return None


def _without_channels(tensor: Tensor) -> tuple[int, ...]:
    out, _, *kernel = tensor.shape
    return out, *kernel
