from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.networks import build_model
from torch import Tensor, nn

from mammo.errors import ConfigError
from mammo.models.backbones import build_network, input_statistics
from mammo.models.classifier import Classifier
from mammo.models.heads.patch_map import PatchMap
from mammo.models.layer_depth import head_modules, layer_of_parameters
from mammo.models.output import Output
from mammo.models.weights.weight_loading import load_weights

SIZE = (96, 64)
# without a normalisation between the pool and the classifier
LINEAR = ["resnet18", "tf_efficientnet_lite0", "densenet121"]
SIZES = {
    "custom_cnn": (560, 520),
    "vit_tiny_patch16_224": (224, 192),
    "swin_tiny_patch4_window7_224": (224, 192),
}
OTHERS = ["custom_cnn", "convnext_atto", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"]


def built(
    name: str,
    *,
    head: Any = "patch_map",
    num_classes: int = 2,
    positives: Sequence[int] = (1,),
    **options: Any,
) -> Any:
    torch.manual_seed(0)
    size = SIZES.get(name, SIZE)
    model = build_model(
        name=name, num_classes=num_classes, image_size=size, positives=positives, head=head, **options
    )
    return model.eval()


def images_of(name: str) -> Tensor:
    return torch.rand(2, 1, *SIZES.get(name, SIZE), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [*LINEAR, "custom_cnn", "swin_tiny_patch4_window7_224"])
def test_the_mean_over_all_cells_is_the_network_itself(name: str, channels: int) -> None:
    options = {} if name == "custom_cnn" else {"channels": channels}
    images, whole = images_of(name), built(name, head="global", **options)
    model = built(name, **options)
    model.top_k = 10**6
    output = model(images)
    torch.testing.assert_close(output.logits, whole(images), rtol=1e-4, atol=1e-4)
    assert output.maps.shape[:2] == (2, 2)
    assert output.maps[0, 0].numel() > 1


@pytest.mark.parametrize("name", ["resnet18", *OTHERS])
def test_a_cell_is_what_the_head_makes_of_it_alone(name: str) -> None:
    model, images = built(name), images_of(name)
    network = model.network
    maps = model(images).maps
    with torch.no_grad():
        features = network.forward_features(images)
        if name.startswith("vit"):  # a class token and 14 rows of 12 patches
            cell = features[:, 1 + 12 * 1 + 0 : 1 + 12 * 1 + 1].expand(-1, 2, -1)
        elif name.startswith("swin"):
            cell = features[:, 1:2, 0:1]
        else:
            cell = features[:, :, 1:2, 0:1]
        torch.testing.assert_close(maps[:, :, 1, 0], network.forward_head(cell), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "head",
    [
        {},
        {"pool": "lse", "window": 3},
        {"pool": "noisy_or"},
        {"pool": "lesion_weighted", "window": 3, "odds_power": 2.0},
        {"pool": "positive_odds", "window": 3, "top_k": 2},
    ],
    ids=str,
)
def test_every_pool_learns_and_is_of_the_task(head: dict[str, Any]) -> None:
    model = built("resnet18", head={"name": "patch_map"} | head).train()
    output = model(images_of("resnet18"))
    assert output.logits.shape == (2, 2)
    assert output.maps.shape == (2, 2, 3, 2)
    assert output.logits.dtype == torch.float32
    nn.functional.cross_entropy(output.logits, torch.tensor([0, 1])).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.network.fc.weight.grad.any()
    assert len(model.network.fc.bias) == (
        3 if head.get("pool") in ("lesion_weighted", "positive_odds") else 2
    )


def test_the_window_smooths_what_is_pooled_and_not_the_cells_that_boxes_supervise() -> None:
    images = images_of("resnet18")
    head = {"name": "patch_map", "pool": "lesion_weighted"}
    narrow, wide = built("resnet18", head=head).eval(), built("resnet18", head=head | {"window": 5}).eval()
    wide.load_state_dict(narrow.state_dict())
    assert torch.equal(wide(images).cells, narrow(images).cells)
    # the map of 3 x 2 cells lies within every window, so all cells have the same scores
    expected = narrow(images).cells.mean(dim=(2, 3))[:, 1:]
    found = wide(images).logits
    torch.testing.assert_close(found[:, 1] - found[:, 0], expected[:, 1] - expected[:, 0])


@pytest.mark.parametrize("pool", ["top_k", "noisy_or", "lesion_weighted", "positive_odds"])
def test_the_maps_are_of_single_cells_whatever_the_window(pool: str) -> None:
    images, head = images_of("resnet18"), {"name": "patch_map", "pool": pool}
    narrow, wide = built("resnet18", head=head).eval(), built("resnet18", head=head | {"window": 3}).eval()
    wide.load_state_dict(narrow.state_dict())
    assert torch.equal(wide(images).maps, narrow(images).maps)
    assert not torch.allclose(wide(images).logits, narrow(images).logits)


def test_places_that_speak_against_a_class_have_no_heat() -> None:
    model = built("resnet18", head={"name": "patch_map", "pool": "lesion_weighted"}).eval()
    with torch.no_grad():
        model.network.fc.bias[:] = torch.tensor([0.0, 50.0, -50.0])  # benign everywhere
    maps = model(images_of("resnet18")).maps
    assert (maps[:, 0] > 0).all()
    assert (maps[:, 1] == 0).all()


@pytest.mark.parametrize("positive", [0, 1])
def test_positive_odds_are_those_of_the_highest_cell(positive: int) -> None:
    head = {"name": "patch_map", "pool": "positive_odds", "top_k": 1}
    model = built("resnet18", head=head, positives=[positive]).eval()
    output = model(images_of("resnet18"))
    chance = output.cells.softmax(dim=1)[:, 1 + positive].flatten(1)
    torch.testing.assert_close(output.logits.softmax(dim=1)[:, positive], chance.max(dim=1).values)
    torch.testing.assert_close(output.maps.softmax(dim=1)[:, positive].flatten(1), chance)


def test_a_classifier_scores_with_a_map() -> None:
    model = Classifier(network=built("resnet18"), mean=0.3, std=0.2).eval()
    images = images_of("resnet18")
    assert torch.equal(model.output(images).logits, model(images))
    assert model.output(images).maps is not None


@pytest.mark.parametrize("name", ["resnet18", "custom_cnn"])
def test_layers_are_those_of_the_network(name: str) -> None:
    model, whole = built(name), built(name, head="global")
    for coarse in (True, False):
        layers = layer_of_parameters(model, coarse=coarse)
        expected = layer_of_parameters(whole, coarse=coarse)
        assert layers == {f"network.{key}": layer for key, layer in expected.items()}
    assert head_modules(model) == tuple(f"network.{key}" for key in head_modules(whole))


@pytest.mark.parametrize("source", ["global", "patch_map"])
@pytest.mark.parametrize("target", ["global", "patch_map"])
def test_weights_of_runs_go_from_one_head_to_the_other(source: str, target: str, tmp_path: Path) -> None:
    """Also the classifier: that of patches becomes one of places."""
    file, given = tmp_path / "best.ckpt", built("resnet18", head=source)
    torch.save({"state_dict": {f"network.{key}": value for key, value in given.state_dict().items()}}, file)
    torch.manual_seed(1)
    model = build_model(
        name="resnet18", num_classes=2, image_size=SIZE, positives=[1], head=target, weights=str(file)
    )
    for one, other in zip(given.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_weights_of_timm_are_loaded_below_a_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, given = tmp_path / "w.pt", built("resnet18", head="global", num_classes=3)
    torch.save(given.state_dict(), file)
    model = built("resnet18", head={"name": "patch_map", "pool": "lesion_weighted"}, weights=str(file))
    assert torch.equal(model.network.fc.weight, given.fc.weight)  # background and two classes
    assert "122 of 123 tensors matched" in capsys.readouterr().err
    assert load_weights(given, file).unused == []


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("head", ["patch_map", {"name": "mil", "crop": 32, "crops": 2}])
def test_views_have_maps_and_start_from_a_run_of_one_view(head: Any, share: bool, tmp_path: Path) -> None:
    one = built("resnet18", head=head)
    torch.save(
        {"state_dict": {f"network.{key}": value for key, value in one.state_dict().items()}}, tmp_path / "w"
    )
    two = built("resnet18", head=head, sides=(0, 0), share_views=share, weights=str(tmp_path / "w"))
    model = Classifier(network=two, mean=0.0, std=1.0).eval()
    images = torch.rand(2, 2, 1, *SIZE)
    present = torch.tensor([[True, True], [True, False]])
    output = model.output(images, present)
    assert output.maps is not None
    assert output.maps.shape == (2, 2, 2, 3, 2)
    for sample, place in present.nonzero().tolist():
        alone = one(images[sample : sample + 1, place])
        torch.testing.assert_close(output.maps[sample, place], alone.maps[0], rtol=1e-4, atol=1e-5)
        assert output.view_logits is not None
        torch.testing.assert_close(output.view_logits[sample, place], alone.logits[0], rtol=1e-4, atol=1e-5)
        if alone.crops is not None:
            assert output.crops is not None
            assert torch.equal(output.crops[sample, place], alone.crops[0])
    assert output.maps[1, 1].isnan().all()
    layers, whole = layer_of_parameters(two, coarse=True), layer_of_parameters(one, coarse=True)
    assert set(layers.values()) == set(whole.values())


@pytest.mark.parametrize(
    "fusion", [{"fusion": "attention"}, {"fusion": "cross_view"}, {"fusion_level": "features"}], ids=str
)
def test_a_fusion_of_features_is_refused(fusion: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"needs pooled features, which PatchMap does not have"):
        built("resnet18", sides=(0, 0), **fusion)


def test_statistics_are_those_of_the_network() -> None:
    assert input_statistics(built("resnet18")) == input_statistics(built("resnet18", head="global"))


class NoMap(nn.Module):
    """A network with timm's methods whose features are a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(1, 2)

    def forward_features(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))

    def forward_head(self, features: Tensor) -> Tensor:
        scores: Tensor = self.fc(features)
        return scores

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(1, 2)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.fc(images.mean(dim=(2, 3)))
        return scores


@pytest.mark.parametrize(
    ("network", "keys", "sentence"),
    [
        (Bare, {}, "model/head: Bare has no forward_features and forward_head, which a map needs; add"),
        (NoMap, {}, "model/head: NoMap gives no map of images of 64 x 48 whose cells can be scored ("),
    ],
)
def test_a_network_without_a_map_is_refused(
    network: type[nn.Module], keys: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        PatchMap(network=network(), num_classes=2, image_size=(64, 48), **keys)
    assert str(refused.value).startswith(sentence)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"top_k": 7}, "model.head.top_k=7: the map has 3 x 2 cells; give 6 or less, or a share below 1"),
        ({"top_k": 2.5}, "model.head.top_k=2.5: give a share of the cells, or a whole number of them"),
        ({"top_k": 0}, "model.head.top_k=0: give a share of the cells"),
        ({"pool": "lse", "sharpness": 0.0}, "model.head.sharpness=0.0: must be above 0"),
        ({"window": 2}, "model.head.window=2: give an odd number of cells, such as 1 or 3"),
        ({"pool": "lesion_weighted", "odds_power": 0.0}, "model.head.odds_power=0.0: must be above 0"),
        (
            {"pool": "noisy_or"},
            "model.head.pool=noisy_or: needs two classes, one of them positive; the task has",
        ),
        ({"pool": "positive_odds"}, "model.head.pool=positive_odds: needs two classes, one of them positive"),
    ],
)
def test_keys_that_do_not_suit_are_refused(keys: dict[str, Any], sentence: str) -> None:
    classes = 3 if {"noisy_or", "positive_odds"} & set(keys.values()) else 2
    with pytest.raises(ConfigError) as refused:
        built("resnet18", head={"name": "patch_map"} | keys, num_classes=classes)
    assert str(refused.value).startswith(sentence)


def test_a_single_cell_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"the map of ResNet has a single cell for images of 32 x 32"):
        build_model(name="resnet18", num_classes=2, image_size=(32, 32), head="patch_map")


class Halved(nn.Module):
    """A head of a user's own."""

    def __init__(self, *, network: nn.Module, factor: float = 0.5) -> None:
        super().__init__()
        self.network = network
        self.factor = factor

    def forward(self, images: Tensor) -> Output:
        return Output(self.network(images) * self.factor)


def test_a_head_may_be_of_the_users_own() -> None:
    node = {"_target_": "mammo.models.backbones.timm_network", "name": "resnet18"}
    size = {"num_classes": 2, "image_size": SIZE}
    torch.manual_seed(0)
    model = build_network(node | {"head": {"_target_": f"{__name__}.Halved", "factor": 2.0}}, **size).eval()  # type: ignore[arg-type]
    whole, images = built("resnet18", head="global"), images_of("resnet18")
    assert torch.equal(model(images).logits, whole(images) * 2)
    with pytest.raises(ConfigError, match=r"model\.head\.factr: .*Halved has no such argument; did you mean"):
        build_network(node | {"head": {"_target_": f"{__name__}.Halved", "factr": 2.0}}, **size)  # type: ignore[arg-type]
