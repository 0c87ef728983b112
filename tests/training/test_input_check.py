"""The input of the network at the start of a training."""

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from mammo.data.loading.loader import StoreDataset
from mammo.models.classifier import Classifier
from mammo.training.input_check import input_sentence


class Images:
    """Forty images whose grey values have this mean and deviation."""

    sample_unit = "image"

    def __init__(self, mean: float, deviation: float) -> None:
        self.values = torch.tensor([mean - deviation, mean + deviation]).repeat(40, 1, 1, 8, 4)

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, places: range) -> dict[str, Tensor]:
        return {"image": self.values[list(places)]}


def images(mean: float, deviation: float) -> StoreDataset:
    return cast(StoreDataset, Images(mean, deviation))


def classifier(*, mean: float, std: float, weights: float) -> Classifier:
    network: Any = nn.Conv2d(1, 2, 1)
    network.pretrained_cfg = {"mean": (weights,) * 3, "std": (weights,) * 3}
    return Classifier(network=network, mean=mean, std=std)


def test_the_input_is_that_of_the_network() -> None:
    said = input_sentence(
        classifier(mean=0.2, std=0.1, weights=0.5), images(0.3, 0.2), normalisation="train", pretrained=False
    )
    assert (
        said == "input of the first 32 training images: mean 1.00, deviation 2.00 (data.normalisation=train)"
    )


@pytest.mark.parametrize(
    ("mean", "std", "told"), [(0.2, 0.2, False), (0.5, 0.5, False), (0.0, 20.0, True), (5.0, 0.2, True)]
)
def test_it_is_compared_with_what_the_pretrained_weights_know(mean: float, std: float, told: bool) -> None:
    model = classifier(mean=mean, std=std, weights=0.5)
    said = input_sentence(model, images(0.2, 0.2), normalisation="none", pretrained=True)
    # ImageNet's mean 0.449 and deviation 0.226 as (x - 0.5) / 0.5
    assert "; ImageNet in this network: mean -0.10, deviation 0.45" in said
    assert ("far apart; give data.normalisation=train or weights" in said) == told
