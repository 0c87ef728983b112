import copy
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
from helpers.networks import build_model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mammo.errors import ConfigError
from mammo.models import Output
from mammo.models.classifier import Classifier
from mammo.models.classifier_inputs import ClassifierInputs
from mammo.models.layer_depth import layer_of_parameters
from mammo.models.receptive_field import cell_centres
from mammo.models.view_fusion import ViewFusion

SIZE = (40, 32)
BREAST, EXAM = (0, 0), (0, 0, 1, 1)
EVERY = list(itertools.product(["mean", "max", "concat", "attention"], ["logits", "features"], [True, False]))
CROSS = [("cross_view", level, share) for level in ("logits", "features") for share in (True, False)]


def image_network(name: str = "custom_cnn", size: tuple[int, int] = SIZE) -> nn.Module:
    torch.manual_seed(1)
    network = build_model(name=name, num_classes=3, image_size=size)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # so that batch statistics matter
            module.running_mean.uniform_(-0.1, 0.1)
    return network.eval()


def fused(network: nn.Module, fusion: str, level: str, share: bool = True, **options: Any) -> Any:
    options = {"sides": BREAST, "num_classes": 3, "image_size": SIZE} | options
    torch.manual_seed(2)
    model = ViewFusion(network, fusion=fusion, level=level, share_views=share, **options)
    for parameter in model.parameters():
        parameter.data += 0.01 * torch.randn(parameter.shape)  # also between the copies
    return model.eval()


def samples(views: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Five samples of which some lack a view, none lacks all."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(5, views, 1, *SIZE, generator=generator)
    present = torch.rand(5, views, generator=generator) < 0.5
    present[torch.arange(5), torch.randint(views, (5,), generator=generator)] = True
    present[0], present[1] = True, torch.arange(views) == 0
    return images, present


def features_of(network: nn.Module, images: Tensor) -> Tensor:
    with ClassifierInputs(network) as inputs:
        network(images)
    return inputs.captured[0].flatten(1)


def by_hand(fusion: str, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fuse the values, n D, of the n present views of one sample."""
    if fusion == "max":
        return values.max(axis=0)
    return (weights[:, None] * values).sum(axis=0) / weights.sum()


def attention_by_hand(model: Any, features: np.ndarray) -> np.ndarray:
    v, u, w = (
        {name: t.detach().numpy().astype(float) for name, t in layer.named_parameters()}
        for layer in (model.attention.hidden, model.attention.gate, model.attention.score)
    )
    gate = 1 / (1 + np.exp(-(features @ u["weight"].T + u["bias"])))
    return np.exp((np.tanh(features @ v["weight"].T + v["bias"]) * gate) @ w["weight"][0])


@pytest.mark.parametrize(("fusion", "level", "share"), EVERY)
@torch.no_grad()
def test_logits_are_those_computed_by_hand(fusion: str, level: str, share: bool) -> None:
    model = fused(image_network(), fusion, level, share)
    images, present = samples()
    output = model(images, present)
    whole = [copy.deepcopy(model.locate(f"network{'' if share else f's.{place}'}.x")[0]) for place in (0, 1)]
    for place, network in enumerate(whole):  # with a classifier again
        if level == "features" and fusion != "concat":
            network.classifier = model.classifier
        elif level == "logits" and fusion == "attention":
            network.classifier = model.classifiers[0 if share else place]
    for row, there in enumerate(present):
        places = [place for place in (0, 1) if there[place]]
        features = np.concatenate([features_of(whole[p], images[row, p][None]).numpy() for p in places])
        logits = np.concatenate([whole[p](images[row, p][None]).numpy() for p in places])
        values = features if level == "features" else logits
        weights = attention_by_hand(model, features) if fusion == "attention" else np.ones(len(places))
        expected = by_hand(fusion, values, weights)
        if fusion == "concat":
            full = [values[places.index(p)] if p in places else expected for p in (0, 1)]
            expected = model.classifier(torch.tensor(np.concatenate(full), dtype=torch.float32))
        elif level == "features":
            expected = model.classifier(torch.tensor(expected, dtype=torch.float32))
        np.testing.assert_allclose(output.logits[row], expected, rtol=1e-4, atol=1e-5)
        if fusion == "attention":
            np.testing.assert_allclose(output.attention[row, places], weights / weights.sum(), rtol=1e-4)


@torch.no_grad()
def test_cross_attention_is_that_computed_by_hand() -> None:
    size = (64, 64)
    model = fused(image_network("resnet18", size), "cross_view", "logits", image_size=size)
    images = torch.randn(2, 2, 1, *size)
    cross, network = model.cross_view, model.network
    maps = [network.forward_features(images[:, place]) for place in (0, 1)]
    cells = [one.flatten(2).transpose(1, 2) for one in maps]  # B L C
    logits = []
    for own, other in ((0, 1), (1, 0)):
        queries = cross.queries(cross.norm(cells[own])).split(32, dim=2)
        keys = cross.keys(cross.norm(cells[other])).split(32, dim=2)
        values = cross.values(cross.norm(cells[other])).split(32, dim=2)
        heads = [
            (q @ k.transpose(1, 2) / 32**0.5).softmax(dim=2) @ v
            for q, k, v in zip(queries, keys, values, strict=True)
        ]
        changed = cells[own] + cross.output(torch.cat(heads, dim=2))
        logits.append(network.forward_head(changed.transpose(1, 2).reshape(maps[own].shape)))
    torch.testing.assert_close(model(images).logits, (logits[0] + logits[1]) / 2, rtol=1e-4, atol=1e-5)
    alone = model(images, torch.tensor([[True, False], [False, True]])).logits
    torch.testing.assert_close(alone[0], network(images[:1, 0])[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alone[1], network(images[1:, 1])[0], rtol=1e-4, atol=1e-5)


VIT = ("vit_tiny_patch16_224", (32, 48))
MODELS: dict[str, Callable[[], Any]] = {
    "attention": lambda: fused(image_network(), "attention", "features", sides=EXAM),
    "max": lambda: fused(image_network(), "max", "features", False, sides=EXAM),
    "concat": lambda: fused(image_network(), "concat", "logits", sides=EXAM),
    "own attention": lambda: fused(image_network(), "attention", "logits", False, sides=EXAM),
    "tokens": lambda: fused(image_network(*VIT), "cross_view", "features", sides=EXAM, image_size=VIT[1]),
}


@pytest.mark.parametrize("kind", MODELS)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6))
@torch.no_grad()
def test_absent_views_have_no_influence(kind: str, seed: int) -> None:
    model = MODELS[kind]()
    images, present = samples(views=4, seed=seed)
    if kind == "tokens":
        images = torch.randn(5, 4, 1, *VIT[1])
    for other in (torch.full_like(images, torch.nan), torch.randn_like(images)):
        changed = torch.where(present[:, :, None, None, None], images, other)
        for training in (False, True):
            ours, theirs = copy.deepcopy(model).train(training), copy.deepcopy(model).train(training)
            before, after = ours(images, present), theirs(changed, present)
            assert before.logits.isfinite().all()
            for name in ("logits", "view_logits", "side_logits", "attention"):
                if (value := getattr(before, name)) is not None:
                    assert torch.equal(value.nan_to_num(7.0), getattr(after, name).nan_to_num(7.0)), name
            statistics = theirs.state_dict()
            assert all(torch.equal(value, statistics[name]) for name, value in ours.state_dict().items())


@pytest.mark.parametrize(("fusion", "level", "share"), EVERY)
@torch.no_grad()
def test_the_order_of_samples_and_of_views_does_not_matter(fusion: str, level: str, share: bool) -> None:
    model = fused(image_network(), fusion, level, share)
    images, present = samples()
    logits = model(images, present).logits
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(model(images[order], present[order]).logits, logits[order])
    if share and fusion != "concat":
        torch.testing.assert_close(model(images.flip(1), present.flip(1)).logits, logits)


@pytest.mark.parametrize(("fusion", "level", "share"), [*EVERY, *CROSS])
def test_gradients_reach_all_parameters(fusion: str, level: str, share: bool) -> None:
    size = (64, 64) if fusion == "cross_view" else SIZE
    network = image_network("resnet18", size) if fusion == "cross_view" else image_network()
    model = fused(network, fusion, level, share, image_size=size).train()
    present = torch.tensor([[True, True], [True, False], [False, True]])
    model(torch.randn(3, 2, 1, *size), present).logits.square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # a bias of the keys adds the same to all scores, and one before a batch normalisation has no effect
    known = ("cross_view.keys.bias",)
    assert [name for name in without if name not in known] == []


def test_a_batch_without_a_view_gives_its_own_weights_a_gradient_of_0() -> None:
    """Distributed training waits for a gradient of each parameter."""
    model = fused(image_network(), "max", "logits", False).train()
    images, present = samples()
    present = torch.tensor([[True, False]]).expand(5, 2)
    output = model(images, present)
    output.logits.square().sum().backward()
    assert output.logits.isfinite().all()
    assert all(p.grad.any() for p in model.networks[0].parameters() if p.ndim > 1)
    assert all(p.grad is not None and not p.grad.any() for p in model.networks[1].parameters())


def test_only_present_images_enter_the_batch_statistics() -> None:
    model, alone = (fused(image_network(), "mean", "logits").train() for _ in range(2))
    images, present = samples()
    model(images, present)
    alone.network(images[present])
    expected = alone.network.state_dict()
    for name, value in model.network.state_dict().items():
        torch.testing.assert_close(value, expected[name], msg=name)


@pytest.mark.parametrize(("fusion", "level", "share"), EVERY)
@torch.no_grad()
def test_views_and_sides_are_scored_by_themselves(fusion: str, level: str, share: bool) -> None:
    model = fused(image_network(), fusion, level, share, sides=EXAM)
    images, present = samples(views=4)
    present[2] = torch.tensor([False, False, True, True])
    output = model(images, present)
    assert output.view_logits.shape == (5, 4, 3)
    assert output.side_logits.shape == (5, 2, 3)
    for mask, logits in (
        *((torch.arange(4) == place, output.view_logits[:, place]) for place in range(4)),
        *((torch.tensor(EXAM) == side, output.side_logits[:, side]) for side in (0, 1)),
    ):
        some = (present & mask).any(dim=1)
        assert logits[~some].isnan().all()
        torch.testing.assert_close(logits[some], model(images[some], (present & mask)[some]).logits)
    if fusion == "attention":
        torch.testing.assert_close(output.attention.sum(dim=1), torch.ones(5))
        assert not output.attention[~present].any()
    else:
        assert output.attention is None
    present[0] = False
    assert torch.equal(model(images, present).logits.isnan().all(dim=1), torch.arange(5) == 0)


def test_one_breast_has_no_sides() -> None:
    assert fused(image_network(), "mean", "logits")(*samples()).side_logits is None


def test_the_places_of_both_sides_share_their_weights() -> None:
    one, two = (fused(image_network(), "mean", "logits", False, sides=sides) for sides in (BREAST, EXAM))
    assert one.state_dict().keys() == two.state_dict().keys()
    assert two.index == [0, 1, 0, 1]
    images, _ = samples(views=4)
    torch.testing.assert_close(
        two(images).view_logits, two(images[:, [2, 3, 0, 1]]).view_logits[:, [2, 3, 0, 1]]
    )
    assert not torch.allclose(two(images).view_logits, two(images.flip(1)).view_logits.flip(1))


@pytest.mark.parametrize(("fusion", "level", "share"), EVERY)
def test_the_weights_survive_a_round_trip(fusion: str, level: str, share: bool) -> None:
    model, other = (fused(image_network(), fusion, level, share) for _ in range(2))
    for parameter in other.parameters():
        parameter.data.zero_()
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    torch.testing.assert_close(other(*samples()).logits, model(*samples()).logits, rtol=0, atol=0)


class Own(nn.Module):
    """A user's network, which returns a map beside its logits."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, num_classes, 3, stride=4)

    def forward(self, images: Tensor) -> Output:
        maps = self.convolution(images)
        crops = torch.ones(len(images), 5, 4)
        return Output(maps.mean(dim=(2, 3)), maps=maps, crops=crops, crop_attention=crops[..., 0] / 5)


def test_what_an_own_network_returns_gets_the_axis_of_the_views() -> None:
    model = fused(Own(), "mean", "logits")
    images, present = samples()
    output = model(images, present)
    expected = model.network(images.flatten(0, 1)).maps.unflatten(0, (5, 2))
    torch.testing.assert_close(output.maps[present], expected[present])
    assert output.maps[~present].isnan().all()
    assert output.crops[~present].isnan().all()
    assert output.crops.shape == (5, 2, 5, 4)
    assert torch.equal(output.crop_attention, present[..., None].expand(5, 2, 5) / 5)


@pytest.mark.parametrize(
    ("fusion", "level", "message"),
    [
        ("mean", "features", r"model\.fusion_level=features: Own has no method get_classifier.*=logits$"),
        ("attention", "logits", r"model\.fusion=attention: Own has no method get_classifier.*=mean$"),
        ("cross_view", "logits", r"model\.fusion=cross_view: Own has no methods forward_features"),
        ("median", "logits", r"model\.fusion=median: give one of mean, max"),
        ("mean", "pixels", r"model\.fusion_level=pixels: give one of logits, features"),
    ],
)
def test_a_fusion_that_the_network_cannot_do_is_refused(fusion: str, level: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fused(Own(), fusion, level, name="Own")


def test_two_classifiers_are_not_one() -> None:
    name = "deit_tiny_distilled_patch16_224"
    network = timm.create_model(name, num_classes=3, in_chans=1)
    with pytest.raises(ConfigError, match=f"the classifier of {name} gets no pooled features"):
        fused(network, "mean", "features", name=name, image_size=(224, 224))


def test_features_that_are_no_map_are_refused() -> None:
    name = "crossvit_9_240"
    network = build_model(name=name, num_classes=3, image_size=(240, 240))
    with pytest.raises(ConfigError, match=f"the features of {name} are no map"):
        fused(network, "cross_view", "logits", name=name, image_size=(240, 240))


def test_one_view_of_a_side_has_no_other() -> None:
    with pytest.raises(ConfigError, match=r"one view of a side has no other.*data\.views=\[CC,MLO\]"):
        fused(image_network("resnet18", (64, 64)), "cross_view", "logits", sides=(0, 1))


@torch.no_grad()
def test_cross_attention_of_grey_images_in_three_channels() -> None:
    size = (64, 64)
    network = build_model(name="resnet18", num_classes=3, image_size=size, channels=3).eval()
    model = fused(network, "cross_view", "features", image_size=size)
    images = torch.randn(2, 2, 1, *size)
    alone = model(images, torch.tensor([[True, False]]).expand(2, 2))
    expected = model.classifier(model.network(images[:, 0]))
    torch.testing.assert_close(alone.logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize(
    ("name", "fusion", "level", "share"),
    [
        *(("custom_cnn", *options) for options in EVERY[::3]),
        *(("resnet18", *options) for options in [*EVERY[::5], CROSS[1]]),
        *(("vit_tiny_patch16_224", *options) for options in [EVERY[3], CROSS[2]]),
    ],
)
def test_layers_are_those_of_the_image_network(
    name: str, fusion: str, level: str, share: bool, coarse: bool
) -> None:
    size = (64, 64)
    one = build_model(name=name, num_classes=3, image_size=size)
    expected = layer_of_parameters(one, coarse=coarse)
    model = fused(one, fusion, level, share, image_size=size)
    layers = layer_of_parameters(model, coarse=coarse)
    assert layers.keys() == dict(model.named_parameters()).keys()
    for name, layer in layers.items():
        network, inner = model.locate(name)
        assert layer == (max(expected.values()) if network is model else expected[inner]), name


def test_an_own_network_is_one_layer() -> None:
    assert set(layer_of_parameters(fused(Own(), "concat", "logits"), coarse=False).values()) == {0}


@pytest.mark.slow
def test_the_centres_of_cells_are_those_of_the_image_network() -> None:
    model = fused(image_network("resnet18", (64, 64)), "max", "features", False, image_size=(64, 64))
    network = copy.deepcopy(model.networks[1])
    expected = cell_centres(network, layer="layer2", size=(64, 64), cells=(8, 8))
    assert expected.measured
    assert cell_centres(model, layer="networks.1.layer2", size=(64, 64), cells=(8, 8)) == expected


@pytest.mark.slow
@pytest.mark.parametrize(("fusion", "level", "share"), [*EVERY, CROSS[1]])
@torch.no_grad()
def test_an_exported_program_gives_the_same_with_absent_views(fusion: str, level: str, share: bool) -> None:
    size = (64, 64) if fusion == "cross_view" else SIZE
    network = image_network("resnet18", size) if fusion == "cross_view" else image_network()
    classifier = Classifier(
        network=fused(network, fusion, level, share, image_size=size), mean=0.3, std=0.2
    ).eval()
    present = torch.tensor([[True, True], [True, False], [False, True]])
    images = torch.rand(3, 2, 1, *size)
    batch = torch.export.Dim("batch")
    program = torch.export.export(
        classifier, (images[:2], present[:2]), dynamic_shapes={"images": {0: batch}, "present": {0: batch}}
    )
    expected = classifier(images, present)
    torch.testing.assert_close(program.module()(images, present), expected, rtol=1e-4, atol=1e-5)
    traced = torch.jit.trace(classifier, (images[:2], present[:2]), check_trace=False)
    torch.testing.assert_close(traced(images, present), expected, rtol=1e-4, atol=1e-5)


def test_a_batch_with_one_image_of_a_view_trains() -> None:
    """The last map of the network has one cell, of which batch normalisation refuses a single one."""
    model = fused(image_network(), "mean", "logits", share=False).train()
    images, _ = samples()
    present = torch.tensor([[True, True], *[[True, False]] * 4])
    output = model(images, present)
    assert output.logits.isfinite().all()
    output.logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
