"""Heatmaps of a classifier: class activation maps and occlusion.

The four class activation maps are computed from the features of one layer and their gradient, with PyTorch
alone. The tests compare them with the package `grad-cam`, which is not a dependency for these reasons:

- It requires scikit-learn, SciPy and ttach.
- Its Grad-CAM++ adds 1e-6 to squared gradients, which are smaller than that in these networks.
- Its Eigen-CAM has an arbitrary sign and decomposes a full positions x positions matrix.
- It computes gradients down to the first layer and for the parameters.
- Its scaling turns the rounding noise of a constant map into a map.

Captum 0.9 has neither Grad-CAM++, Layer-CAM nor Eigen-CAM.
"""

import difflib
import functools
import sys
from collections.abc import Callable
from typing import Any, Literal, get_args
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mammo.config.choices import WITHOUT_LAYER
from mammo.errors import ConfigError
from mammo.evaluation.explain.occlusion import default_patch, default_step, occlude
from mammo.evaluation.number_format import number
from mammo.models.classifier import Classifier
from mammo.models.feature_maps import as_map, last_map, undisturbed
from mammo.models.heads.map_pools import positive_evidence
from mammo.models.output import Output
from mammo.models.receptive_field import CellCentres, cell_centres
from mammo.models.view_fusion import copies_of, places_of

Method = Literal["gradcam", "gradcam++", "layercam", "eigencam", "occlusion", "map", "lesion"]

_LACKS = {
    "map": "the network has no map of its own; give model/head=patch_map",
    "lesion": "the network has no class of the background; give model/head=patch_map "
    "model.head.pool=lesion_weighted",
}
# A map is constant if its spread is at most this fraction of its largest magnitude; float32 rounds to 6e-8.
_FLAT = 1e-5
_GRADIENT_SCALE = 1024.0
_FEWEST_CELLS = 4  # rows and columns of a map whose heat shows a place
# By network, layer and size of the images; measuring takes seconds.
_CENTRES: WeakKeyDictionary[nn.Module, dict[tuple[str, tuple[int, int]], CellCentres]] = WeakKeyDictionary()


class Heatmaps:
    """Compute heatmaps of a classifier without changing the classifier.

    - `gradcam`: Selvaraju et al. 2017, Grad-CAM: visual explanations from deep networks via gradient-based
      localization.
    - `gradcam++`: Chattopadhay et al. 2018, Grad-CAM++: generalized gradient-based visual explanations for
      deep convolutional networks.
    - `layercam`: Jiang et al. 2021, LayerCAM: exploring hierarchical class activation maps for localization.
    - `eigencam`: Muhammad and Yeasin 2020, Eigen-CAM: class activation map using principal components. It
      does not depend on the class: the target is ignored.
    - `map`: the network's own map, `Output.maps`, such as that of the head `patch_map`.
    - `lesion`: the log odds of any lesion against the background, of a network with `Output.cells`. It does
      not depend on the class.
    - `occlusion`: Zeiler and Fergus 2014, Visualizing and understanding convolutional networks: the decrease
      of the log-odds of the target (in the paper: its probability) when a patch is grey. The heat of a pixel
      is the mean over the patches that cover it.

    The cells of a feature map are drawn at the centres of their receptive fields, see `cell_centres`.

    The default layer is the module that outputs the last feature map before the pool: `layer4` of a ResNet,
    `features` of the custom CNN, `norm` of a Swin; if this map has less than 4 x 4 cells, the deepest stage
    with at least as many, and a message names it. In a ViT it is the first normalisation of the last block,
    because only the class token is used after it.

    Args:
        classifier: classifier to explain.
        method: one of the methods above.
        layer: name of a module of the classifier's network; None for the default layer.
        patch: side of the occluding square, in pixels; None for `default_patch`.
        stride: distance between neighbouring patches, in pixels; None for `default_step`.

    Raises:
        ConfigError: the method or the layer does not exist, or there are pixels between the patches.
    """

    def __init__(
        self,
        classifier: Classifier,
        *,
        method: Method = "gradcam",
        layer: str | None = None,
        patch: int | None = None,
        stride: int | None = None,
    ) -> None:
        if method not in get_args(Method):
            raise ConfigError(f"heatmap method {method}: give one of {', '.join(get_args(Method))}")
        if method in WITHOUT_LAYER and layer is not None:
            raise ConfigError(f"heatmap_layer={layer}: heatmap={method} uses no layer; remove this setting")
        if patch is not None and stride is not None and not 1 <= stride <= patch:
            raise ConfigError(f"heatmap stride {stride}: give 1 to {patch} pixels, the side of the patch")
        self.classifier = classifier
        self.method = method
        self.layer = layer
        self.patch = patch
        self.stride = stride
        self.choice = ""  # why the layer is not the last one
        if layer is not None:
            self._check_name(layer)

    def __call__(
        self, images: Tensor, target: int | Tensor, *, present: Tensor | None = None
    ) -> NDArray[np.float32]:
        """Return the heat of each image, B V H W, or B H W for images without the axis of the views.

        Args:
            images: B V 1 H W in [0, 1], or B 1 H W for samples of one image.
            target: class to explain, one for all samples or B, one for each sample.
            present: B V, whether the sample has the image; None if it has all.

        Returns:
            Heat in [0, 1]. The minimum of each map is 0 and its maximum 1; a constant map is 0 everywhere, as
            is that of a missing view.

        Raises:
            ConfigError: the layer outputs no feature map, or the network has none before its pool.
        """

        def forward() -> tuple[Output | None, Tensor]:
            # a copy, because autograd cannot use a tensor created in inference mode
            targets = torch.as_tensor(target, device=images.device).expand(len(images)).clone()
            occludes = self.method == "occlusion"  # which runs the classifier itself
            return None if occludes else self.classifier.output(images, present), targets

        return self.of_pass(images, forward, present=present)

    def of_pass(
        self,
        images: Tensor,
        forward: Callable[[], tuple[Output | None, Tensor]],
        *,
        present: Tensor | None = None,
    ) -> NDArray[np.float32]:
        """Return the heat, as `__call__`, from a forward pass that the caller also uses for the logits.

        Args:
            images: B V 1 H W in [0, 1], or B 1 H W for samples of one image.
            forward: function that runs the classifier once on the images and returns its output and the
                classes to explain, B; for occlusion, only the classes are used.
            present: B V, whether the sample has the image; None if it has all.
        """
        views = images if images.dim() == 5 else images[:, None]
        if present is None:
            present = views.new_ones(views.shape[:2], dtype=torch.bool)
        with undisturbed(self.classifier):
            if self.method == "occlusion":
                with torch.no_grad():
                    _, targets = forward()
                patch, step = self._patches((views.shape[3], views.shape[4]))
                fall = occlude(self.classifier, views, targets, patch=patch, step=step, present=present)
                heat = _scaled(fall.relu().flatten(0, 1)).reshape(fall.shape)
            else:
                heat = self._explain(views, present, forward)
        return _as_array(heat if images.dim() == 5 else heat[:, 0])

    def _explain(
        self, views: Tensor, present: Tensor, forward: Callable[[], tuple[Output | None, Tensor]]
    ) -> Tensor:
        """Return the heat of views, B V 1 H W, as B V H W."""
        size = (views.shape[3], views.shape[4])
        if self.method in ("map", "lesion"):
            cells, place = self._cells_of_map(views, present, forward), present.flatten().nonzero()[:, 0]
        else:
            features, gradient, place = self._features_and_gradient(views, present, forward)
            cells = _FORMULAS[self.method](features, gradient).relu()
        # scaled before the interpolation, so that a map without differences stays one
        cells = _scaled(cells)
        heat = torch.zeros(present.numel(), *size, device=cells.device)
        if cells.shape[1:].numel() > 1:  # a single cell shows no place
            heat[place] = _scaled(self._centres_of(cells, size).place(cells, size))
        return heat.reshape(*present.shape, *size)

    def _cells_of_map(
        self, views: Tensor, present: Tensor, forward: Callable[[], tuple[Output | None, Tensor]]
    ) -> Tensor:
        """Return the own map of the present views, n h w: of the classes to explain, or of any lesion."""
        if self.layer is None:
            self.layer = last_map(self.classifier, views[:1])
        with torch.no_grad():
            output, targets = forward()
        assert output is not None
        maps = output.cells if self.method == "lesion" else output.maps
        if maps is None:
            raise ConfigError(
                f"heatmap={self.method}: {_LACKS[self.method]} in the training, or another heatmap"
            )
        if self.method == "lesion":
            return -positive_evidence(maps[present].float(), positives=[0])
        return maps[torch.arange(len(targets)), :, targets][present].float()

    def _centres_of(self, cells: Tensor, size: tuple[int, int]) -> CellCentres:
        """Return the centres of the cells (B h w) of images of this size, which are measured once."""
        assert self.layer is not None
        measured = _CENTRES.setdefault(self.classifier.network, {})
        if (self.layer, size) not in measured:
            shape = (cells.shape[1], cells.shape[2])
            found = cell_centres(self.classifier.network, layer=self.layer, size=size, cells=shape)
            if not found.measured:
                _say_once(
                    f"heatmap_layer={self.layer}: the centres of the receptive fields cannot be measured; "
                    f"the heat is drawn as {shape[0]} x {shape[1]} equal cells"
                )
            measured[self.layer, size] = found
        return measured[self.layer, size]

    def placement(self, size: tuple[int, int]) -> str:
        """Describe in a sentence how the heat of images is drawn that already have a heatmap.

        Args:
            size: H and W of the images.
        """
        if self.method == "occlusion":
            patch, stride = self._patches(size)
            return (
                "The heat of a pixel is the mean decrease of the log-odds when a grey patch covers it: "
                f"{patch} x {patch} pixels, in steps of {stride}."
            )
        centres = _CENTRES.get(self.classifier.network, {}).get((self.layer or "", size))
        if centres is None:
            return "The feature map has a single cell, which shows no place."
        if not centres.measured:
            return (
                "The centres of the receptive fields cannot be measured: the cells of the feature map are "
                "drawn as equal parts of the image."
            )
        down, across = (
            f"{number(first, 1)} + {number(step, 1)} k"
            for first, step in zip(centres.offset, centres.stride, strict=True)
        )
        return (
            "Each cell of the feature map is drawn at the centre of its receptive field, measured with noise "
            f"images: row k at pixel {down}, column k at pixel {across}, k from 0. {self.choice}"
        ).rstrip()

    def _default_layer(self, sample: Tensor) -> str:
        """Return the default layer for images of this size, 1 V 1 H W."""
        last = last_map(self.classifier, sample)
        layer = last_map(self.classifier, sample, cells=_FEWEST_CELLS)
        if layer != last:
            self.choice = (
                f"The heat is of the layer {layer}, the deepest with at least {_FEWEST_CELLS} x "
                f"{_FEWEST_CELLS} cells in images of this size; the last one, {last}, has fewer."
            )
            _say_once(f"heatmap={self.method}: {self.choice}")
        return layer

    def _check_name(self, layer: str) -> None:
        known = [name for name, _ in self.classifier.network.named_modules() if name]
        if layer in known:
            return
        near = difflib.get_close_matches(layer, known, n=3)
        # without similar names, list the children of the network
        meant = near or [name for name, _ in self.classifier.network.named_children()]
        raise ConfigError(f"heatmap_layer={layer}: no such module; the nearest are {', '.join(meant)}")

    def _features_and_gradient(
        self, views: Tensor, present: Tensor, forward: Callable[[], tuple[Output | None, Tensor]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the layer's features, the gradient of the target logits by them, and whose they are.

        Returns:
            features: n C h w, of the n present views.
            gradient: n C h w.
            place: n, index of the view in the B V views.
        """
        if self.layer is None:
            self.layer = self._default_layer(views[:1])
        network, seen = self.classifier.network, list[Tensor]()
        layers = copies_of(network, self.layer)

        def cut(_: nn.Module, __: Any, output: Any) -> Tensor:
            if not isinstance(output, Tensor):
                raise ConfigError(f"heatmap_layer={self.layer}: outputs no feature map; name another")
            seen.append(output.detach().requires_grad_())
            return seen[-1].clone()  # the next operation of the network may be in place

        handles = [network.get_submodule(layer).register_forward_hook(cut) for layer in layers]
        try:
            output, targets = forward()
        finally:
            for handle in handles:
                handle.remove()
        assert output is not None
        places = places_of(network, present)
        if len(seen) != len(places):
            raise ConfigError(
                f"heatmap_layer={self.layer}: the network uses it {len(seen)} times; name one used once"
            )
        if any(len(each) != len(place) for each, place in zip(seen, places, strict=True)):
            raise ConfigError(
                f"heatmap_layer={self.layer}: has not one feature map for each view; name another, or give "
                "heatmap=occlusion"
            )
        # before the gradient, because not every layer has one
        features = torch.cat([self._as_map(each, views) for each in seen])
        if not output.logits.requires_grad:
            raise ConfigError(f"heatmap_layer={self.layer}: the scores do not depend on it; name another")
        score = output.logits.gather(1, targets[:, None]).sum()
        # float16 gradients would underflow; multiplying by a power of two does not round
        gradients = torch.autograd.grad(score * _GRADIENT_SCALE, seen)
        gradient = torch.cat([self._as_map(each, views) for each in gradients]) / _GRADIENT_SCALE
        return features, gradient, torch.cat(places)

    def _as_map(self, output: Tensor, views: Tensor) -> Tensor:
        assert self.layer is not None
        size = (views.shape[3], views.shape[4])
        return as_map(output.detach(), self.classifier.network, layer=self.layer, size=size)

    def _patches(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the side of the patches and the distance between them for images of this size."""
        step = self.stride or min(default_step(size), self.patch or max(size))
        return self.patch or default_patch(step), step


def default_method(classifier: Classifier, views: Tensor) -> Method:
    """Return `map` if the network has a map of its own, seen in a pass of B V 1 H W, else `gradcam`."""
    with torch.inference_mode():
        return "gradcam" if classifier.output(views).maps is None else "map"


def _gradcam(features: Tensor, gradient: Tensor) -> Tensor:
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * features).sum(dim=1)


def _gradcam_plus_plus(features: Tensor, gradient: Tensor) -> Tensor:
    """Compute equation 19 of the paper, with numerator and denominator divided by the squared gradient."""
    divisor = 2 + features.sum(dim=(2, 3), keepdim=True) * gradient
    # negative activations may make the divisor 0; it is then 1, as in the code of the paper
    alpha = 1 / torch.where(divisor.abs() < _FLAT, 1.0, divisor)
    weights = (alpha * gradient.relu()).sum(dim=(2, 3), keepdim=True)
    return (weights * features).sum(dim=1)


def _layercam(features: Tensor, gradient: Tensor) -> Tensor:
    return (gradient.relu() * features).sum(dim=1)


def _eigencam(features: Tensor, _: Tensor) -> Tensor:
    """Return the first principal component, with the sign that makes its longer tail positive.

    The sign of a component is arbitrary; this rule is equation 13 of Chung and Ying 2025, Seg-Eigen-CAM,
    Applied Sciences 15:7562.
    """
    positions = features.flatten(2).transpose(1, 2)  # B P C
    positions = positions - positions.mean(dim=1, keepdim=True)
    left, strengths, _right = torch.linalg.svd(positions, full_matrices=False)
    component = left[..., 0] * strengths[:, :1]
    inverted = component.amin(dim=1) + component.amax(dim=1) < 0
    turned = torch.where(inverted[:, None], -component, component)
    return turned.reshape(len(features), *features.shape[2:])


_FORMULAS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gradcam": _gradcam,
    "gradcam++": _gradcam_plus_plus,
    "layercam": _layercam,
    "eigencam": _eigencam,
}


@functools.cache  # a training draws for the loggers and for the report
def _say_once(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def _as_array(heat: Tensor) -> NDArray[np.float32]:
    return np.asarray(heat.cpu().numpy(), np.float32)


def _scaled(heat: Tensor) -> Tensor:
    """Scale each map of B H W to [0, 1]; a map that is constant or contains NaN becomes 0."""
    low, high = heat.amin(dim=(1, 2), keepdim=True), heat.amax(dim=(1, 2), keepdim=True)
    spread = high - low
    scaled = ((heat - low) / spread).clamp(0, 1)
    return torch.where(spread > _FLAT * torch.maximum(high.abs(), low.abs()), scaled, 0.0)
