"""The input of the network at the start of a training, beside that of its pretrained weights."""

from pathlib import Path
from typing import Any

from torch import nn

from mammo.data.loading.loader import StoreDataset
from mammo.data.samples import PLURALS
from mammo.models.backbones import input_statistics
from mammo.models.classifier import Classifier
from mammo.models.weights.weight_loading import saved_statistics

_MOST = 32  # samples of which the input is measured
# Mean and standard deviation of the grey values of ImageNet, in [0, 1].
_IMAGENET = (0.449, 0.226)
# Ratio of the deviations, and distance of the means in deviations, from which the input is called unusual.
_RATIO, _DISTANCE = 4.0, 2.0


def input_sentence(
    classifier: Classifier, dataset: StoreDataset, *, normalisation: str, pretrained: bool
) -> str:
    """Return a sentence on the mean and deviation of training images as the network gets them.

    Args:
        classifier: classifier with its normalisation.
        dataset: training samples; at most the first 32 are read, without augmentation.
        normalisation: value of `data.normalisation`.
        pretrained: whether the network starts from ImageNet weights; the sentence then has the mean and
            deviation of ImageNet in this network too, and a remedy if they are far from those of the images.
    """
    images = dataset.batch(range(min(_MOST, len(dataset))))["image"]
    found = (images - classifier.mean.cpu()) / classifier.std.cpu()
    mean, deviation = float(found.mean()), float(found.std())
    said = (
        f"input of the first {len(images)} training {PLURALS[dataset.sample_unit]}: mean {mean:.2f}, "
        f"deviation {deviation:.2f} (data.normalisation={normalisation})"
    )
    config: Any = getattr(classifier.network, "pretrained_cfg", None) if pretrained else None
    if not config:
        return said
    offset, scale = (sum(config[key]) / len(config[key]) for key in ("mean", "std"))
    seen, spread = (_IMAGENET[0] - offset) / scale, _IMAGENET[1] / scale
    said += f"; ImageNet in this network: mean {seen:.2f}, deviation {spread:.2f}"
    far = abs(mean - seen) > _DISTANCE * max(spread, deviation)
    if far or not 1 / _RATIO < deviation / spread < _RATIO:
        said += ": far apart; give data.normalisation=train or weights"
    return said


def weights_statistics(weights: str | None, network: nn.Module) -> tuple[float, float]:
    """Return the mean and deviation of the input that weights expect: of a run its training's, else timm's.

    Args:
        weights: value of `model.weights`.
        network: network of `build_network`.
    """
    saved = None if weights is None else saved_statistics(Path(weights))
    return saved or input_statistics(network)
