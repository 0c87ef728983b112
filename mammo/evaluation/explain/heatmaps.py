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

# A map is constant if its spread is at most this fraction of its maximum; float32 rounds to 6e-8.
_FLAT = 1e-5
_GRADIENT_SCALE = 1024.0
# Number of occluded copies in one forward pass.
_COPIES = 32


class Heatmaps:
    """Compute heatmaps of a classifier without changing the classifier.

    - `gradcam`: Selvaraju et al. 2017, Grad-CAM: visual explanations from deep networks via gradient-based
      localization.
    - `gradcam++`: Chattopadhay et al. 2018, Grad-CAM++: generalized gradient-based visual explanations for
      deep convolutional networks.
    - `layercam`: Jiang et al. 2021, LayerCAM: exploring hierarchical class activation maps for localization.
    - `eigencam`: Muhammad and Yeasin 2020, Eigen-CAM: class activation map using principal components. It
      does not depend on the class: the target is ignored.
    - `occlusion`: Zeiler and Fergus 2014, Visualizing and understanding convolutional networks: the decrease
      of the target's probability when a patch is grey. The heat of a pixel is the mean over the patches that
      cover it.

    The default layer is the module that outputs the last feature map before the pool: `layer4` of a ResNet,
    `features` of the custom CNN, `norm` of a Swin. In a ViT it is the first normalisation of the last block,
    because only the class token is used after it.

    Args:
        classifier: classifier to explain.
        method: one of the methods above.
        layer: name of a module of the classifier's network; None for the default layer.
        patch: side of the occluding square, in pixels.
        stride: distance between neighbouring patches, in pixels.

    Raises:
        ConfigError: the method or the layer does not exist, or there are pixels between the patches.
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
            raise ConfigError(f"heatmap_layer={layer}: occlusion uses no layer; remove this setting")
        if not 1 <= stride <= patch:
            raise ConfigError(f"heatmap stride {stride}: give 1 to {patch} pixels, the side of the patch")
        self.classifier = classifier
        self.method = method
        self.layer = layer
        self.patch = patch
        self.stride = stride
        if layer is not None:
            self._check_name(layer)

    def __call__(self, images: Tensor, target: int | Tensor) -> NDArray[np.float32]:
        """Return the heat of each image, B H W.

        Args:
            images: B 1 H W in [0, 1].
            target: class to explain, one for all images or B, one for each image.

        Returns:
            Heat in [0, 1]. The minimum of each map is 0 and its maximum 1; a constant map is 0 everywhere.

        Raises:
            ConfigError: the layer outputs no feature map, or the network has none before its pool.
        """
        with _undisturbed(self.classifier):
            # a copy, because autograd cannot use a tensor created in inference mode
            targets = torch.as_tensor(target, device=images.device).expand(len(images)).clone()
            if self.method == "occlusion":
                return _heat(self._occlude(images, targets), images)
            return self._explain(images, lambda: (self.classifier(images), targets))

    def of_pass(self, images: Tensor, forward: Callable[[], tuple[Tensor, Tensor]]) -> NDArray[np.float32]:
        """Return the heat of each image, B H W, from a forward pass that the caller also uses for the logits.

        Args:
            images: B 1 H W in [0, 1].
            forward: function that runs the classifier once on the images and returns the logits and the
                classes to explain, B.
        """
        with _undisturbed(self.classifier):
            if self.method != "occlusion":
                return self._explain(images, forward)
            with torch.no_grad():
                _, targets = forward()
        return self(images, targets)

    def _explain(self, images: Tensor, forward: Callable[[], tuple[Tensor, Tensor]]) -> NDArray[np.float32]:
        features, gradient = self._features_and_gradient(images, forward)
        return _heat(_FORMULAS[self.method](features, gradient), images)

    def _check_name(self, layer: str) -> None:
        known = [name for name, _ in self.classifier.network.named_modules() if name]
        if layer in known:
            return
        near = difflib.get_close_matches(layer, known, n=3)
        # without similar names, list the children of the network
        meant = near or [name for name, _ in self.classifier.network.named_children()]
        raise ConfigError(f"heatmap_layer={layer}: no such module; the nearest are {', '.join(meant)}")

    def _features_and_gradient(
        self, images: Tensor, forward: Callable[[], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Return the layer's features and the gradient of the target logits by them, both B C h w."""
        if self.layer is None:
            self.layer = _last_map(self.classifier, images[:1])
        seen: list[Tensor] = []

        def cut(_: nn.Module, __: Any, output: Any) -> Tensor:
            if not isinstance(output, Tensor):
                raise ConfigError(f"heatmap_layer={self.layer}: outputs no feature map; name another")
            seen.append(output.detach().requires_grad_())
            return seen[-1].clone()  # the next operation of the network may be in place

        handle = self.classifier.network.get_submodule(self.layer).register_forward_hook(cut)
        try:
            logits, targets = forward()
        finally:
            handle.remove()
        if len(seen) != 1:
            raise ConfigError(
                f"heatmap_layer={self.layer}: the network uses it {len(seen)} times; name one used once"
            )
        # before the gradient, because not every layer has one
        features = self._as_map(seen[0], images)
        if not logits.requires_grad:
            raise ConfigError(f"heatmap_layer={self.layer}: the scores do not depend on it; name another")
        score = logits.gather(1, targets[:, None]).sum()
        # float16 gradients would underflow; multiplying by a power of two does not round
        (gradient,) = torch.autograd.grad(score * _GRADIENT_SCALE, seen)
        return features, self._as_map(gradient, images) / _GRADIENT_SCALE

    def _as_map(self, output: Tensor, images: Tensor) -> Tensor:
        """Return a layer's output (B C h w, B h w C or B tokens C) as B C h w, float32."""
        network: Any = self.classifier.network
        output = output.detach().float()
        if output.dim() == 4:
            last = getattr(network, "output_fmt", "NCHW") == "NHWC"  # timm's attribute
            return output.permute(0, 3, 1, 2) if last else output
        if output.dim() == 3:
            patches = output[:, getattr(network, "num_prefix_tokens", 0) :]
            height, width = images.shape[2:]
            rows = max(1, round(math.sqrt(patches.shape[1] * height / width)))  # if patches are square
            if patches.shape[1] % rows == 0:
                return patches.transpose(1, 2).reshape(len(images), patches.shape[2], rows, -1)
        shape = " x ".join(map(str, output.shape[1:]))
        raise ConfigError(
            f"heatmap_layer={self.layer}: its output of shape {shape} is not a feature map; name another"
        )

    def _occlude(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return the mean decrease of the target's probability over the patches on each pixel, B H W.

        Patches that cover only background (0) are skipped.
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
        """Return the probability of each target, B."""
        logits: Tensor = self.classifier(images)
        return logits.softmax(dim=1).gather(1, targets[:, None])[:, 0]


def to_file_pixels(heat: NDArray[np.float32], transform: Transform) -> NDArray[np.float32]:
    """Map the heat of a prepared image to the pixels of its file, with 0 outside the crop.

    Args:
        heat: H W.
        transform: transform of the image, from `Store.transform`.

    Returns:
        Heat, `file_height` x `file_width`, with bilinear interpolation.
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


def _heat(maps: Tensor, images: Tensor) -> NDArray[np.float32]:
    """Set negative values of the maps (B h w) to 0, resize to the images and scale each to [0, 1]."""
    size = (images.shape[2], images.shape[3])
    heat = F.interpolate(maps[:, None].relu(), size, mode="bilinear", align_corners=False)[:, 0]
    return np.asarray(_scaled(heat).cpu().numpy(), np.float32)


def _scaled(heat: Tensor) -> Tensor:
    """Scale each map of B H W to [0, 1]; a map that is constant or contains NaN becomes 0."""
    low, high = heat.amin(dim=(1, 2), keepdim=True), heat.amax(dim=(1, 2), keepdim=True)
    spread = high - low
    scaled = ((heat - low) / spread).clamp(0, 1)
    return torch.where(spread > _FLAT * high, scaled, 0.0)


def _starts(length: int, patch: int, stride: int) -> list[int]:
    """Return the first pixels of the patches along a side; the last patch ends with the image."""
    return [*range(0, length - patch, stride), length - patch]


def _last_map(classifier: Classifier, image: Tensor) -> str:
    """Return the name of the module whose output is the pool's input, by a pass of an image (1 1 H W)."""
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
    """Set evaluation mode, freeze the parameters and enable gradients; restore the model at the end."""
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
