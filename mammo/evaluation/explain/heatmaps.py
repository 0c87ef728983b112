"""Heatmaps of a classifier: class activation maps and occlusion.

The maps are four formulas on one layer's features and their gradient, written here on PyTorch alone. The
package `grad-cam` has them too, and the tests hold these against it; as a dependency it would bring
scikit-learn, SciPy and ttach along, its Grad-CAM++ adds 1e-6 to squared gradients that are smaller than that
in our networks, its Eigen-CAM has an arbitrary sign and decomposes a full positions x positions matrix, its
gradients run down to the first layer and into the parameters, and its scaling turns the rounding noise of a
constant map into a map. Captum 0.9 has neither Grad-CAM++, Layer-CAM nor Eigen-CAM.
"""

import difflib
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mammo.data.images.breast import Transform
from mammo.errors import ConfigError
from mammo.models.classifier import Classifier
from mammo.models.pooling import POOLS

Method = Literal["gradcam", "gradcam++", "layercam", "eigencam", "occlusion"]

# Least spread of a map that is not constant, in parts of its maximum: float32 rounds to 6e-8.
_FLAT = 1e-5
_GRADIENT_SCALE = 1024.0
# Occluded copies that go through the network at once.
_COPIES = 32


class Heatmaps:
    """Heatmaps of a classifier; calling it leaves the classifier as it was.

    - `gradcam`: Selvaraju et al. 2017, Grad-CAM: visual explanations from deep networks via gradient-based
      localization.
    - `gradcam++`: Chattopadhay et al. 2018, Grad-CAM++: generalized gradient-based visual explanations for
      deep convolutional networks.
    - `layercam`: Jiang et al. 2021, LayerCAM: exploring hierarchical class activation maps for localization.
    - `eigencam`: Muhammad and Yeasin 2020, Eigen-CAM: class activation map using principal components. It
      knows no class: the target is ignored.
    - `occlusion`: Zeiler and Fergus 2014, Visualizing and understanding convolutional networks: how far the
      target's probability falls when a patch is grey; a pixel's heat is the mean over the patches on it.

    The layer is the last feature map before the pool, whichever module gives it: `layer4` of a ResNet,
    `features` of the custom CNN, `norm` of a Swin. In a ViT it is the first normalisation of the last block,
    for after that only the class token matters.

    Args:
        classifier: to look into.
        method: see above.
        layer: name of a module of the classifier's network instead.
        patch: side of the occluding square, in pixels.
        stride: from one patch to the next.

    Raises:
        ConfigError: there is no such method or layer, or the patches leave pixels between them.
    """

    def __init__(
        self,
        classifier: Classifier,
        *,
        method: Method = "gradcam",
        layer: str | None = None,
        patch: int = 32,
        stride: int = 16,
    ) -> None:
        if method not in get_args(Method):
            raise ConfigError(f"heatmap method {method}: give one of {', '.join(get_args(Method))}")
        if method == "occlusion" and layer is not None:
            raise ConfigError(f"heatmap_layer={layer}: occlusion looks into no layer; leave it out")
        if not 1 <= stride <= patch:
            raise ConfigError(f"heatmap stride {stride}: give 1 to the patch's {patch} pixels")
        self.classifier = classifier
        self.method = method
        self.layer = layer
        self.patch = patch
        self.stride = stride
        if layer is not None:
            self._check_name(layer)

    def __call__(self, images: Tensor, target: int | Tensor) -> NDArray[np.float32]:
        """Heat of each image, B H W.

        Args:
            images: B 1 H W in [0, 1].
            target: the class to explain, of all images or B of each.

        Returns:
            Heat in [0, 1], with 0 and 1 in each map, but for maps that are the same everywhere: 0.

        Raises:
            ConfigError: the layer gives no feature map, or the network has none before its pool.
        """
        with _undisturbed(self.classifier):
            # a copy, for a tensor made in inference mode takes part in no gradient
            targets = torch.as_tensor(target, device=images.device).expand(len(images)).clone()
            if self.method == "occlusion":
                return _heat(self._occlude(images, targets), images)
            return self._explain(images, lambda: (self.classifier(images), targets))

    def of_pass(self, images: Tensor, forward: Callable[[], tuple[Tensor, Tensor]]) -> NDArray[np.float32]:
        """Heat of each image as calling it gives, from a pass that is made for its logits too.

        Args:
            images: B 1 H W in [0, 1].
            forward: runs the classifier on the images, once; gives the logits and the class to explain, B.
        """
        with _undisturbed(self.classifier):
            if self.method != "occlusion":
                return self._explain(images, forward)
            with torch.no_grad():
                _, targets = forward()
        return self(images, targets)

    def _explain(self, images: Tensor, forward: Callable[[], tuple[Tensor, Tensor]]) -> NDArray[np.float32]:
        features, gradient = self._look(images, forward)
        return _heat(_FORMULAS[self.method](features, gradient), images)

    def _check_name(self, layer: str) -> None:
        known = [name for name, _ in self.classifier.network.named_modules() if name]
        if layer in known:
            return
        near = difflib.get_close_matches(layer, known, n=3)
        # without near names, the parts of the network
        meant = near or [name for name, _ in self.classifier.network.named_children()]
        raise ConfigError(f"heatmap_layer={layer}: no such module; the nearest are {', '.join(meant)}")

    def _look(self, images: Tensor, forward: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """The layer's features and the target logits' gradient by them, both B C h w."""
        if self.layer is None:
            self.layer = _last_map(self.classifier, images[:1])
        seen: list[Tensor] = []

        def cut(_: nn.Module, __: Any, output: Any) -> Tensor:
            if not isinstance(output, Tensor):
                raise ConfigError(f"heatmap_layer={self.layer}: gives no feature map; name another")
            seen.append(output.detach().requires_grad_())
            return seen[-1].clone()  # the network may continue in place

        handle = self.classifier.network.get_submodule(self.layer).register_forward_hook(cut)
        try:
            logits, targets = forward()
        finally:
            handle.remove()
        if len(seen) != 1:
            raise ConfigError(
                f"heatmap_layer={self.layer}: the network uses it {len(seen)} times; name one used once"
            )
        # before the gradient, which not every layer has
        features = self._as_map(seen[0], images)
        if not logits.requires_grad:
            raise ConfigError(f"heatmap_layer={self.layer}: the scores do not depend on it; name another")
        score = logits.gather(1, targets[:, None]).sum()
        # times a power of two, which rounds nothing: gradients of float16 would vanish
        (gradient,) = torch.autograd.grad(score * _GRADIENT_SCALE, seen)
        return features, self._as_map(gradient, images) / _GRADIENT_SCALE

    def _as_map(self, output: Tensor, images: Tensor) -> Tensor:
        """A layer's output (B C h w, B h w C or B tokens C) as B C h w, float32."""
        network: Any = self.classifier.network
        output = output.detach().float()
        if output.dim() == 4:
            last = getattr(network, "output_fmt", "NCHW") == "NHWC"  # timm's word for the networks with it
            return output.permute(0, 3, 1, 2) if last else output
        if output.dim() == 3:
            patches = output[:, getattr(network, "num_prefix_tokens", 0) :]
            height, width = images.shape[2:]
            rows = max(1, round(math.sqrt(patches.shape[1] * height / width)))  # of square patches
            if patches.shape[1] % rows == 0:
                return patches.transpose(1, 2).reshape(len(images), patches.shape[2], rows, -1)
        shape = " x ".join(map(str, output.shape[1:]))
        raise ConfigError(f"heatmap_layer={self.layer}: its {shape} numbers are no feature map; name another")

    def _occlude(self, images: Tensor, targets: Tensor) -> Tensor:
        """Mean fall of the target's probability over the patches on each pixel, B H W.

        Patches that hide nothing but 0, the background, are passed over.
        """
        height, width = images.shape[2:]
        tall, wide = min(self.patch, height), min(self.patch, width)
        patches = [
            (slice(top, top + tall), slice(left, left + wide))
            for top in _starts(height, tall, self.stride)
            for left in _starts(width, wide, self.stride)
        ]
        fall = images.new_zeros(len(images), height, width)
        covered = images.new_zeros(height, width)
        for patch in patches:
            covered[patch] += 1
        places = [(index, patch) for index in range(len(images)) for patch in patches]
        places = [(index, patch) for index, patch in places if images[index, 0][patch].any()]
        with torch.no_grad():
            before = self._probability(images, targets)
            for first in range(0, len(places), _COPIES):
                part = places[first : first + _COPIES]
                which = torch.tensor([index for index, _ in part], device=images.device)
                copies = images[which]
                for copy, (_, patch) in zip(copies, part, strict=True):
                    copy[0][patch] = self.classifier.mean
                falls = before[which] - self._probability(copies, targets[which])
                for (index, patch), value in zip(part, falls, strict=True):
                    fall[index][patch] += value
        return fall / covered

    def _probability(self, images: Tensor, targets: Tensor) -> Tensor:
        """B, of the target."""
        logits: Tensor = self.classifier(images)
        return logits.softmax(dim=1).gather(1, targets[:, None])[:, 0]


def to_file_pixels(heat: NDArray[np.float32], transform: Transform) -> NDArray[np.float32]:
    """Heat of a prepared image (H W) in the pixels of its file, 0 outside the crop.

    Args:
        heat: H W.
        transform: the image's, from `Store.transform`.

    Returns:
        `file_height` x `file_width`, bilinear.
    """
    import cv2

    height, width = transform.bottom - transform.top, transform.right - transform.left
    rows, columns = transform.content_shape
    content = cv2.resize(heat[:rows, :columns], (width, height), interpolation=cv2.INTER_LINEAR)
    flipped = np.zeros((transform.file_height, transform.file_width), np.float32)
    flipped[transform.top : transform.bottom, transform.left : transform.right] = content
    return np.ascontiguousarray(flipped[:, ::-1]) if transform.flip else flipped


def _gradcam(features: Tensor, gradient: Tensor) -> Tensor:
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * features).sum(dim=1)


def _gradcam_plus_plus(features: Tensor, gradient: Tensor) -> Tensor:
    """Equation 19 of the paper, both sides of the fraction divided by the squared gradient."""
    divisor = 2 + features.sum(dim=(2, 3), keepdim=True) * gradient
    # after an activation below nought the divisor may vanish; as in the paper's own code it is then 1
    alpha = 1 / torch.where(divisor.abs() < _FLAT, 1.0, divisor)
    weights = (alpha * gradient.relu()).sum(dim=(2, 3), keepdim=True)
    return (weights * features).sum(dim=1)


def _layercam(features: Tensor, gradient: Tensor) -> Tensor:
    return (gradient.relu() * features).sum(dim=1)


def _eigencam(features: Tensor, _: Tensor) -> Tensor:
    """First principal component, turned so that its longer tail is positive.

    The sign of a component is arbitrary; the rule is equation 13 of Chung and Ying 2025, Seg-Eigen-CAM,
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


def _heat(maps: Tensor, images: Tensor) -> NDArray[np.float32]:
    """Maps (B h w) at the images' size, what is below 0 left out, each from 0 to 1."""
    size = (images.shape[2], images.shape[3])
    heat = F.interpolate(maps[:, None].relu(), size, mode="bilinear", align_corners=False)[:, 0]
    return np.asarray(_scaled(heat).cpu().numpy(), np.float32)


def _scaled(heat: Tensor) -> Tensor:
    """Each map of B H W from 0 to 1; 0 where it is the same everywhere, or no number."""
    low, high = heat.amin(dim=(1, 2), keepdim=True), heat.amax(dim=(1, 2), keepdim=True)
    spread = high - low
    scaled = ((heat - low) / spread).clamp(0, 1)
    return torch.where(spread > _FLAT * high, scaled, 0.0)


def _starts(length: int, patch: int, stride: int) -> list[int]:
    """First pixels of the patches along a side; the last one ends with the image."""
    return [*range(0, length - patch, stride), length - patch]


def _last_map(classifier: Classifier, image: Tensor) -> str:
    """Name of the module that gives what the pool takes, found by one pass of an image (1 1 H W)."""
    network = classifier.network
    latest: dict[str, torch.Size] = {}
    found: list[str] = []

    def finished(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            latest.clear()
            if isinstance(output, Tensor):
                latest[name] = output.shape

        return hook

    def pools(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs[0].dim() == 4:
            found.extend(name for name, shape in latest.items() if shape == inputs[0].shape)

    handles = [
        module.register_forward_hook(finished(name)) for name, module in network.named_modules() if name
    ]
    handles += [
        module.register_forward_pre_hook(pools) for module in network.modules() if isinstance(module, POOLS)
    ]
    try:
        with torch.no_grad():
            classifier(image)
    finally:
        for handle in handles:
            handle.remove()
    if found:
        return found[-1]
    names: list[str] = [name for name, _ in network.named_modules()]
    tokens = [name for name in names if re.fullmatch(r"blocks\.\d+\.norm1", name)]
    if tokens:
        return tokens[-1]
    raise ConfigError(
        f"heatmap_layer: {type(network).__name__} has no feature map before its pool; "
        "name a layer or choose the method occlusion"
    )


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and fixed parameters within, as it was after; gradients can be taken in any case."""
    modes = [(module, module.training) for module in model.modules()]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.eval()
        for parameter in learning:
            parameter.requires_grad_(False)
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter in learning:
            parameter.requires_grad_()
