"""One pass gives the same scores, heat and boxes as a separate pass for each."""

import functools
from typing import Any, get_args

import numpy as np
import pytest
import torch
from helpers.networks import build_model
from torch import Tensor, nn

from mammo.evaluation.explain.heatmaps import Heatmaps, Method
from mammo.evaluation.scoring import Scorer, Tta
from mammo.models.classifier import Classifier

SIZE = (64, 48)
NETWORKS = ["resnet18", "custom_cnn", "vit_tiny_patch16_224"]


@functools.cache  # the centres of the receptive fields are measured once for each network
def classifier_of(name: str, *, classes: int, size: tuple[int, int], box_head: bool) -> Classifier:
    torch.manual_seed(0)
    network: Any = build_model(name=name, num_classes=classes, image_size=size, box_head=box_head)
    classifier = Classifier(network=network, mean=0.4, std=0.2).eval()
    with torch.no_grad():  # the most likely class differs between images
        head = network.get_classifier()
        head.weight *= 20
        head.bias -= classifier(images_of(size, 8)).median(dim=0).values
    return classifier


def scorer_of(
    name: str, *, classes: int = 2, size: tuple[int, int] = SIZE, box_head: bool = False, **options: Any
) -> Scorer:
    classifier = classifier_of(name, classes=classes, size=size, box_head=box_head)
    return Scorer(classifier, size=size, **({"precision": "32-true"} | options))


def images_of(size: tuple[int, int] = SIZE, count: int = 5) -> Tensor:
    smooth = torch.rand(count, 1, 8, 6, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(smooth, size, mode="bilinear")


def heatmaps_of(scorer: Scorer, method: Method, **options: Any) -> Heatmaps:
    few_patches = {"patch": 18, "stride": 6} if method == "occlusion" else {}
    return Heatmaps(scorer.classifier, method=method, **few_patches, **options)


def one_by_one(scorer: Scorer, images: Tensor, heatmaps: Heatmaps, classes: list[int]) -> tuple[Tensor, Any]:
    probability = scorer(images).probability
    return probability, heatmaps(images, torch.tensor(classes)[probability[:, classes].argmax(dim=1)])


@pytest.mark.slow
@pytest.mark.parametrize("method", [method for method in get_args(Method) if method not in ("map", "lesion")])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_method_and_network(name: str, method: Method) -> None:
    scorer = scorer_of(name)
    images = images_of(count=2 if method == "occlusion" else 5)
    # the last map of the custom CNN has one pixel for images of this size
    layer = "features.8" if name == "custom_cnn" and method != "occlusion" else None
    heatmaps = heatmaps_of(scorer, method, layer=layer)
    probability, heat = one_by_one(scorer, images, heatmaps, [1])
    seen = scorer.with_heat(images, heatmaps, classes=[1])
    torch.testing.assert_close(seen.scores.probability, probability, rtol=0, atol=1e-6)
    np.testing.assert_allclose(seen.heat, heat, atol=1e-4)
    assert seen.heat.any()
    assert seen.boxes is None


@pytest.mark.slow
@pytest.mark.parametrize("tta", ["none", "flips"])
@pytest.mark.parametrize("name", NETWORKS)
def test_of_four_classes_the_likeliest_malignant_one_is_explained(name: str, tta: Tta) -> None:
    scorer = scorer_of(name, classes=4, tta=tta)
    images, heatmaps = images_of(count=8), Heatmaps(scorer.classifier, method="layercam")
    probability, heat = one_by_one(scorer, images, heatmaps, [1, 3])
    assert len(probability[:, [1, 3]].argmax(dim=1).unique()) == 2
    seen = scorer.with_heat(images, heatmaps, classes=[1, 3])
    torch.testing.assert_close(seen.scores.probability, probability, rtol=0, atol=1e-6)
    np.testing.assert_allclose(seen.heat, heat, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("tta", ["none", "flips_scales"])
@pytest.mark.parametrize("method", ["gradcam", "occlusion"])
def test_boxes_come_along(method: Method, tta: Tta) -> None:
    scorer = scorer_of("resnet18", tta=tta, box_head=True)
    images = images_of(count=2)
    seen = scorer.with_heat(images, heatmaps_of(scorer, method), classes=[1])
    with torch.no_grad():
        fractions = scorer.classifier.output(images).boxes
    assert seen.boxes is not None
    torch.testing.assert_close(seen.boxes[:, [0, 2]], fractions[:, :2].sort(dim=1).values * 48)
    torch.testing.assert_close(seen.boxes[:, [1, 3]], fractions[:, 2:].sort(dim=1).values * 64)
    torch.testing.assert_close(seen.scores.probability, scorer(images).probability, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS[::2])
def test_in_bfloat16_the_scores_are_those_of_bfloat16_and_the_heat_is_near_that_of_float32(name: str) -> None:
    size = (128, 96)
    scorer = scorer_of(name, size=size, precision="bf16-mixed")
    images, heatmaps = images_of(size), Heatmaps(scorer.classifier)
    seen = scorer.with_heat(images, heatmaps, classes=[1])
    torch.testing.assert_close(seen.scores.probability, scorer(images).probability, rtol=0, atol=1e-6)
    exact = heatmaps(images, 1)
    np.testing.assert_allclose(seen.heat, exact, atol=0.06)
    assert np.abs(seen.heat - exact).mean() < 0.01
