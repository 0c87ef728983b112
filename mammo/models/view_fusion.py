"""Networks of several views: a network of single images for each view, and the fusion of their results."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from mammo.errors import ConfigError
from mammo.models.classifier_inputs import pooled_shape
from mammo.models.cross_view import cross_view_attention, last_features
from mammo.models.example_input import dry_run
from mammo.models.layer_depth import layer_of_parameters, within
from mammo.models.nested import NestedNetwork
from mammo.models.output import OF_VIEWS, Output, as_output
from mammo.models.pooling import GatedAttention, attention_weights

Fusion = Literal["mean", "max", "concat", "attention", "cross_view"]
Level = Literal["logits", "features"]

Run = Callable[[nn.Module, Tensor], dict[str, Tensor]]


class ViewFusion(NestedNetwork):
    """Applies a network of single images to each view of a sample and fuses the results.

    The network runs on the present images only, so absent views have no influence, also not on the statistics
    of a batch normalisation. Each sample needs at least one present view; the logits of a sample without one
    are NaN.

    - `mean`, `max`: over the present views.
    - `concat`: a linear layer on the results of all views; an absent view has the mean of the present ones.
    - `attention`: mean with the weights of a gated attention (Ilse, Tomczak and Welling 2018,
      Attention-based deep multiple instance learning), computed from the pooled features of each view.
    - `cross_view`: `CrossViewAttention` between the last feature maps, then the mean.

    Args:
        network: network of B 1 H W to B C logits or to an `Output`; it becomes part of this module.
        sides: side of the breast in each of the V places of a view, 0 or 1.
        num_classes: number of classes C.
        image_size: H and W of the images.
        fusion: method, as above.
        level: what is fused: `logits`, or `features`, the inputs of the classifier, which is then applied
            once. The classifier of `concat` is always a new layer.
        share_views: whether all views have the same weights. Otherwise the weights belong to the place of the
            view within its side, so both CC views of an exam share theirs; all start from those of `network`.
        name: name of the network, for error messages.

    Raises:
        ConfigError: the network has no features or maps that can be fused in this way.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        sides: Sequence[int],
        num_classes: int,
        image_size: tuple[int, int],
        fusion: Fusion = "mean",
        level: Level = "logits",
        share_views: bool = True,
        name: str = "the network",
    ) -> None:
        super().__init__()
        for key, value, known in (("fusion", fusion, Fusion), ("fusion_level", level, Level)):
            if value not in get_args(known):
                raise ConfigError(f"model.{key}={value}: give one of {', '.join(get_args(known))}")
        self.sides, self.fusion, self.level = tuple(sides), fusion, level
        self.shared = share_views
        # which of the networks each place has
        self.index = [0 if share_views else self.sides[:p].count(side) for p, side in enumerate(self.sides)]
        copies = 1 + max(self.index)
        # before the classifier is taken out of the network
        self.layers = {coarse: layer_of_parameters(network, coarse=coarse) for coarse in (False, True)}

        self.taken: str | None = None  # name of the classifier in the image network that it is taken from
        self.attention: nn.Module | None = None
        self.cross_view: nn.Module | None = None
        self.classifier: nn.Module | None = None  # of the fused result
        self.classifiers = nn.ModuleList()  # of the features of each view
        width = num_classes
        if level == "features" or fusion == "attention":
            self.taken, shape = _classifier_of(network, level=level, image_size=image_size, name=name)
            classifier = network.get_submodule(self.taken)
            network.set_submodule(self.taken, nn.Identity())
            self.shape, width = tuple(shape), shape.numel()
            if level == "features":
                self.classifier = classifier
            else:
                self.classifiers.extend(copy.deepcopy(classifier) for _ in range(copies))
        if fusion == "attention":
            self.attention = GatedAttention(width)
        elif fusion == "cross_view":
            self.cross_view = cross_view_attention(network, sides=sides, image_size=image_size, name=name)
        elif fusion == "concat":
            self.shape = (len(self.sides) * width,)
            self.classifier = nn.Linear(*self.shape, num_classes)
        if share_views:
            self.network = network
            self.image_networks = ("network",)
        else:
            self.networks = nn.ModuleList([network, *(copy.deepcopy(network) for _ in range(copies - 1))])
            self.image_networks = tuple(f"networks.{number}" for number in range(copies))

    def forward(self, images: Tensor, present: Tensor | None = None) -> Output:
        """Compute the logits of each sample, of each view and, in an exam, of each side.

        Args:
            images: B V 1 H W, normalised.
            present: B V bool, whether a view is present; None if all are.
        """
        # a program that is exported has the same shapes for every batch
        whole = present is None or _is_exported()
        if present is None:
            present = images.new_ones(images.shape[:2], dtype=torch.bool)
        if self.cross_view is None:
            found = self._each(_results, images, present, whole=whole)
        else:
            maps = self._each(_maps, images, present, whole=whole)["maps"]
            found = self._each(_of_maps, self.cross_view(maps, present), present, whole=whole)
        values = found.pop("values").float()  # B V C or B V D
        scores = None if self.attention is None else self.attention(values).float()
        if self.classifiers:
            each = [self._classified(self.classifiers[i], values[:, p]) for p, i in enumerate(self.index)]
            values = torch.stack(each, dim=1)
        views = torch.eye(len(self.sides), dtype=torch.bool, device=present.device)
        sides = [
            torch.stack([views[p] for p, other in enumerate(self.sides) if other == side]).any(dim=0)
            for side in sorted(set(self.sides))
        ]
        weights = {"crop_attention": 0.0}
        return Output(
            logits=self._fused(values, scores, present),
            view_logits=torch.stack(
                [self._fused(values, scores, present & view) for view in views.unbind()], dim=1
            ),
            side_logits=torch.stack([self._fused(values, scores, present & side) for side in sides], dim=1)
            if len(sides) == 2
            else None,
            attention=None if scores is None else attention_weights(scores, present),
            **{
                name: value.masked_fill(~_as_wide(present, value), weights.get(name, torch.nan))
                for name, value in found.items()
            },
        )

    def _each(self, run: Run, inputs: Tensor, present: Tensor, *, whole: bool) -> dict[str, Tensor]:
        """Apply `run` to each network and its present inputs.

        Args:
            run: function of a network and N inputs that returns N results, by name.
            inputs: B V ...
            present: B V, whether the view is present.
            whole: whether all inputs count as present.

        Returns:
            B V ..., by name; 0 for absent views.
        """
        parts: list[dict[str, Tensor]] = []
        places: list[list[int]] = []
        for number, network in enumerate(self._networks()):
            own = [place for place, index in enumerate(self.index) if index == number]
            every = len(own) == len(self.index)
            part, seen = (inputs, present) if every else (inputs[:, own], present[:, own])
            if whole or bool(seen.all()):
                results = run(network, part.flatten(0, 1))
                grid = {
                    name: value.reshape(-1, len(own), *value.shape[1:]) for name, value in results.items()
                }
            elif bool(seen.any()):
                images = part[seen]
                # twice: batch normalisation refuses the single value of an image with a map of one cell
                alone = self.training and len(images) == 1
                results = run(network, images.repeat_interleave(2, dim=0) if alone else images)
                grid = {
                    name: value.new_zeros(*seen.shape, *value.shape[1:]).index_put(
                        (seen,), value[: len(images)]
                    )
                    for name, value in results.items()
                }
            else:
                grid = {}
            parts.append(grid)
            places.append(own)
        filled = next(part for part in parts if part)
        for network, grid, own in zip(self._networks(), parts, places, strict=True):
            if not grid:
                # 0, but with a gradient for each parameter, which distributed training waits for
                nothing = sum((parameter.sum() for parameter in network.parameters()), torch.zeros(())) * 0
                grid |= {
                    name: value.new_zeros(len(value), len(own), *value.shape[2:]) + nothing
                    for name, value in filled.items()
                }
        if len(parts) == 1:
            return parts[0]
        found = [place for own in places for place in own]
        order = [found.index(place) for place in range(len(found))]
        return {name: torch.cat([part[name] for part in parts], dim=1)[:, order] for name in filled}

    def _fused(self, values: Tensor, scores: Tensor | None, present: Tensor) -> Tensor:
        """Fuse the values of the present views to B C logits, NaN where none is present."""
        mask = present[..., None]
        some = mask.any(dim=1)
        if self.fusion == "max":
            # 0 instead of infinity, because a classifier's gradient would be NaN
            fused = values.masked_fill(~mask, -torch.inf).amax(dim=1).masked_fill(~some, 0.0)
        else:
            shares = mask / mask.sum(dim=1, keepdim=True).clamp(min=1)
            if scores is not None:
                shares = attention_weights(scores, present)[..., None]
            fused = (shares * values.masked_fill(~mask, 0.0)).sum(dim=1)
        if self.fusion == "concat":
            fused = torch.where(mask, values, fused[:, None]).flatten(1)
        if self.classifier is not None:
            fused = self._classified(self.classifier, fused)
        return fused.float().masked_fill(~some, torch.nan)

    def _classified(self, classifier: nn.Module, features: Tensor) -> Tensor:
        logits: Tensor = classifier(features.reshape(-1, *self.shape)).flatten(1)
        return logits

    def _networks(self) -> Iterable[nn.Module]:
        return [self.network] if self.shared else self.networks

    def from_image_network(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the tensors of a network of single images to those of each copy of it in this module."""
        outside = [f"classifiers.{i}" for i in range(len(self.classifiers))] or ["classifier"]
        renamed: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            taken = self.taken is not None and within(name, (self.taken,))
            rest = name.removeprefix(f"{self.taken}.") if taken else name
            renamed |= {f"{prefix}.{rest}": tensor for prefix in (outside if taken else self.image_networks)}
        return renamed

    def get_classifier(self) -> tuple[nn.Module, ...]:
        """Return the modules above the pooled features or the last maps; timm's name for this method."""
        own = (self.classifier, self.classifiers, self.attention, self.cross_view)
        inner: list[nn.Module] = []
        for network in self._networks():
            if self.taken is None and hasattr(network, "get_classifier"):
                classifier = _timms(network).get_classifier()
                inner += classifier if isinstance(classifier, tuple) else (classifier,)
        return (*(module for module in own if module is not None), *inner)

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """Return the layer of a parameter's name, in timm's format: that in the network of single images.

        The parameters of the fusion belong to the last layer, that of the classifier.

        Args:
            coarse: whether a layer is a stage rather than a block.
        """
        layers = self.layers[coarse]
        last = max(layers.values())

        def layer_of(name: str) -> int:
            network, inner = self.locate(name)
            return last if network is self else layers.get(inner, last)

        return layer_of


def _classifier_of(
    network: nn.Module, *, level: Level, image_size: tuple[int, int], name: str
) -> tuple[str, torch.Size]:
    """Return the name of a network's classifier and the shape of its input without the batch.

    Raises:
        ConfigError: the network does not name it, or its input is not a vector of pooled features.
    """
    features = level == "features"
    key = "model.fusion_level=features" if features else "model.fusion=attention"
    remedy = "give model.fusion_level=logits" if features else "give model.fusion=mean"
    if not hasattr(network, "get_classifier"):
        raise ConfigError(
            f"{key}: {name} has no method get_classifier, which returns its classifier; add it, or {remedy}"
        )
    classifier = _timms(network).get_classifier()
    names = [inner for inner, module in network.named_modules() if module is classifier]
    images = torch.empty(1, 1, *image_size)
    shape = pooled_shape(network, lambda: dry_run(network, images)) if names else None
    if shape is None:
        raise ConfigError(f"{key}: the classifier of {name} gets no pooled features of an image; {remedy}")
    return names[0], shape


def _results(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    output = as_output(network(images.contiguous(memory_format=torch.channels_last)))
    beside = {name: getattr(output, name) for name in OF_VIEWS}
    return {"values": output.logits.flatten(1)} | {
        name: value for name, value in beside.items() if value is not None
    }


def _maps(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    return {"maps": last_features(network, images.contiguous(memory_format=torch.channels_last))}


def _of_maps(network: nn.Module, maps: Tensor) -> dict[str, Tensor]:
    return {"values": _timms(network).forward_head(maps).flatten(1)}


def _timms(network: nn.Module) -> Any:
    """Return the network with timm's interface, which `nn.Module` does not declare."""
    return network


def _as_wide(present: Tensor, value: Tensor) -> Tensor:
    """Add axes to B V for values of B V ..."""
    return present.reshape(*present.shape, *[1] * (value.ndim - 2))


def _is_exported() -> bool:
    tracing: Any = torch.jit.is_tracing  # type: ignore[attr-defined]
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export() or bool(tracing())


def copies_of(network: nn.Module, layer: str) -> list[str]:
    """Return the names of a layer in all networks of single images, in the order in which they run."""
    if isinstance(network, ViewFusion) and not network.shared and layer.startswith("networks."):
        rest = layer.split(".", 2)[2]
        return [f"networks.{number}.{rest}" for number in range(len(network.networks))]
    return [layer]


def places_of(network: nn.Module, present: Tensor) -> list[Tensor]:
    """Return which images each network of single images gets, in the order in which they run.

    Args:
        network: network of samples.
        present: B V, whether a view is present.

    Returns:
        For each network that gets an image, the indices of its images in the B V images.
    """
    index = torch.tensor(network.index if isinstance(network, ViewFusion) else [0] * present.shape[1])
    found = [(present & (index == number).to(present.device)) for number in range(int(index.max()) + 1)]
    return [mask.flatten().nonzero()[:, 0] for mask in found if mask.any()]
