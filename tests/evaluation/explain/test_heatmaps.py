"""Heatmaps equal hand calculations and those of the package `grad-cam`, for every network family."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.networks import build_model
from torch import Tensor, nn

from mammo.errors import ConfigError
from mammo.evaluation.explain import heatmaps as heatmaps_module
from mammo.evaluation.explain.heatmaps import Heatmaps, Method
from mammo.models.backbones import build_network
from mammo.models.classifier import Classifier
from mammo.models.feature_maps import last_map
from mammo.models.pooling import AVERAGE, make_pool
from mammo.models.receptive_field import CellCentres, cell_centres

CAMS: list[Method] = ["gradcam", "gradcam++", "layercam", "eigencam"]


class Tiny(nn.Module):
    """A convolution, average pooling and a linear layer, named as in timm."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, channels, 3, stride=2, padding=1), nn.ReLU(inplace=True))
        self.global_pool = make_pool(AVERAGE, channels=channels)
        self.fc = nn.Linear(channels, 2)
        self.unused = nn.Linear(1, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.global_pool(self.features(images)))
        return logits


def classifier(network: nn.Module) -> Classifier:
    return Classifier(network=network, mean=0.3, std=0.2).eval()


def lesion_classifier() -> Classifier:
    """A ResNet-18 whose head scores background, benign and malignant in each of 3 x 2 cells."""
    torch.manual_seed(0)
    head = {"name": "patch_map", "pool": "positive_odds", "window": 3}
    network = build_model(name="resnet18", num_classes=2, image_size=(96, 64), positives=[1], head=head)
    return Classifier(network=network, mean=0.3, std=0.2).eval()


@pytest.fixture
def tiny() -> Classifier:
    torch.manual_seed(3)
    return classifier(Tiny())


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 1, 16, 12, generator=torch.Generator().manual_seed(5))


def equal_cells(*_: object, size: tuple[int, int], cells: tuple[int, int], **__: object) -> CellCentres:
    return replace(CellCentres.equal(cells, size), measured=True)


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal cells in place of measured centres, because measuring takes longer than most of these tests."""
    monkeypatch.setattr(heatmaps_module, "cell_centres", equal_cells)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, unmeasured: None) -> None:
    monkeypatch.setattr(heatmaps_module, "cell_centres", cell_centres)


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch, unmeasured: None) -> None:
    """Exact centres of the cells of `Tiny`."""
    exact_centres = CellCentres((0.5, 0.5), (2.0, 2.0))
    monkeypatch.setattr(heatmaps_module, "cell_centres", lambda *_, **__: exact_centres)


def by_hand(raw: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Raw maps (B h w) of `Tiny` after ReLU, scaled to the range 0 to 1, with cell k at pixel 2 k."""
    grid = nn.functional.affine_grid(torch.eye(2, 3)[None].repeat(len(raw), 1, 1), [len(raw), 1, *size], True)
    cells = torch.stack(
        [torch.arange(size[1]).expand(size) / 2, torch.arange(size[0])[:, None].expand(size) / 2], -1
    )
    grid[:] = 2 * cells / torch.tensor([raw.shape[2] - 1, raw.shape[1] - 1]) - 1
    raw = scaled(raw.relu())
    heat = nn.functional.grid_sample(raw[:, None], grid, padding_mode="zeros", align_corners=True)[:, 0]
    return scaled(heat).detach().numpy()


def scaled(maps: Tensor) -> Tensor:
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low)


@pytest.mark.usefixtures("exact")
def test_gradcam_of_an_average_is_the_features_weighted_by_the_linear_layer(
    tiny: Classifier, images: Tensor
) -> None:
    network: Any = tiny.network
    features = network.features((images - 0.3) / 0.2)
    targets = torch.tensor([0, 1, 1])
    raw = torch.einsum("bc,bchw->bhw", network.fc.weight[targets], features)
    heat = Heatmaps(tiny)(images, targets)
    assert heat.shape == (3, 16, 12)
    assert heat.dtype == np.float32
    np.testing.assert_allclose(heat, by_hand(raw, (16, 12)), atol=1e-5)


@pytest.mark.usefixtures("exact")
def test_layercam_and_gradcam_plus_plus_of_an_average_by_hand(tiny: Classifier, images: Tensor) -> None:
    network: Any = tiny.network
    features = network.features((images - 0.3) / 0.2)
    # the gradient is the same at each of the 8 x 6 positions
    gradient = network.fc.weight[1] / 48
    layer = torch.einsum("c,bchw->bhw", gradient.relu(), features)
    np.testing.assert_allclose(
        Heatmaps(tiny, method="layercam")(images, 1), by_hand(layer, (16, 12)), atol=1e-5
    )
    alpha = 1 / (2 + features.sum((2, 3)) * gradient)
    plus = torch.einsum("bc,bchw->bhw", 48 * alpha * gradient.relu(), features)
    np.testing.assert_allclose(
        Heatmaps(tiny, method="gradcam++")(images, 1), by_hand(plus, (16, 12)), atol=1e-5
    )


@pytest.mark.parametrize("method", CAMS)
@pytest.mark.parametrize(("name", "layer"), [("resnet18", "layer4"), ("custom_cnn", "features.8")])
def test_agrees_with_the_package(method: Method, name: str, layer: str) -> None:
    package = pytest.importorskip("pytorch_grad_cam", reason="the extra `dev` brings the reference")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection_with_sign_correction

    torch.manual_seed(0)
    network: Any = build_model(name=name, num_classes=2)
    # large gradients: the package adds 1e-6 to squared gradients in Grad-CAM++
    network.get_classifier().weight.data *= 1e4
    model = classifier(network)
    pictures = torch.rand(2, 1, 96, 64)
    targets = [ClassifierOutputTarget(1), ClassifierOutputTarget(0)]
    kinds = {
        "gradcam": package.GradCAM,
        "gradcam++": package.GradCAMPlusPlus,
        "layercam": package.LayerCAM,
        "eigencam": package.EigenCAM,
    }
    cam = kinds[method](model, [model.network.get_submodule(layer)])
    if method == "eigencam":  # its sign is arbitrary; the package corrects it only for another method
        cam.get_cam_image = lambda *arguments: get_2d_projection_with_sign_correction(arguments[3])
    expected = cam(pictures, targets)
    heat = Heatmaps(model, method=method, layer=layer)(pictures, torch.tensor([1, 0]))
    # the package divides the image into equal cells and continues the outermost ones to the border
    inner = np.s_[:, 16:-16, 16:-16]
    found, wanted = (scaled(torch.tensor(one[inner])).numpy() for one in (heat, expected))
    np.testing.assert_allclose(found, wanted, atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("method", CAMS)
@pytest.mark.parametrize(
    ("name", "size", "last", "layer"),
    [
        ("resnet18", (64, 48), "layer4", "layer2"),
        ("resnet34", (64, 48), "layer4", "layer2"),
        ("resnet50", (64, 48), "layer4", "layer2"),
        ("inception_resnet_v2", (128, 112), "conv2d_7b", "repeat_1"),
        ("custom_cnn", (128, 96), "features", "features.11"),
        ("efficientnet_b0", (64, 48), "bn2", "blocks.2"),
        ("convnext_atto", (64, 48), "norm_pre", "stages.1"),
        ("densenet121", (64, 48), "features", "features.transition2.conv"),
        ("swin_tiny_patch4_window7_224", (112, 56), "norm", "layers.2"),
        ("vit_tiny_patch16_224", (64, 48), "blocks.11.norm1", "blocks.11.norm1"),
    ],
)
def test_every_family_of_networks(
    method: Method,
    name: str,
    size: tuple[int, int],
    last: str,
    layer: str,
    networks: Callable[..., Classifier],
) -> None:
    model = networks(name, size)
    heatmaps = Heatmaps(model, method=method)
    images = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(1))
    heat = heatmaps(images, torch.tensor([0, 1]))
    assert last_map(model, images[:1, None]) == last
    assert heatmaps.layer == layer  # the deepest stage of at least 4 x 4 cells
    assert (layer in heatmaps.placement(size)) == (layer != last)
    assert heat.shape == (2, *size)
    assert np.isfinite(heat).all()
    for one in heat:
        assert one.min() == 0
        assert one.max() in (0, 1)


@pytest.fixture(scope="module")
def networks() -> Callable[..., Classifier]:
    known: dict[str, Classifier] = {}

    def built(name: str, size: tuple[int, int]) -> Classifier:
        if name not in known:
            torch.manual_seed(0)
            known[name] = classifier(build_model(name=name, num_classes=2, image_size=size))
        return known[name]

    return built


@pytest.mark.parametrize("pool", ["avg", "max", "gem", "attention"])
def test_every_pool(pool: str) -> None:
    torch.manual_seed(0)
    heatmaps = Heatmaps(classifier(build_model(name="resnet18", num_classes=2, pool=pool)))
    assert heatmaps(torch.rand(1, 1, 128, 128), 1).shape == (1, 128, 128)
    assert heatmaps.layer == "layer4"


def test_a_pool_of_the_user() -> None:
    pool = {"_target_": "torch.nn.AdaptiveAvgPool2d", "output_size": 1}
    node = {"_target_": "mammo.models.backbones.timm_network", "name": "resnet18", "pool": pool}
    heatmaps = Heatmaps(classifier(build_network(node, num_classes=2, image_size=(64, 48))))
    assert heatmaps(torch.rand(1, 1, 128, 128), 1).shape == (1, 128, 128)
    assert heatmaps.layer == "layer4"


def looks_at_the_corner() -> Classifier:
    """The second class's logit is the mean grey of the last 8 x 8 pixels, whatever the other pixels are."""

    class Corner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Conv2d(1, 1, 4, stride=4, bias=False)
            nn.init.constant_(self.features.weight, 1 / 16)
            self.pool = make_pool(AVERAGE, channels=1)

        def forward(self, images: Tensor) -> Tensor:
            features = self.features(images)
            window = torch.zeros_like(features)
            window[..., -2:, -2:] = 1
            seen = self.pool(features * window)
            return torch.cat([-9 * seen, 9 * seen], dim=1)

    return Classifier(network=Corner(), mean=0.0, std=1.0)


@pytest.mark.parametrize("method", ["layercam", "occlusion"])
def test_a_network_that_looks_at_one_corner_is_found_out(method: Method) -> None:
    options = {"patch": 8, "stride": 4} if method == "occlusion" else {}
    model = looks_at_the_corner()
    pictures = torch.rand(2, 1, 32, 24, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.5
    # the pictures are brighter than the patches
    heat = Heatmaps(model, method=method, **options)(pictures, 1)  # type: ignore[arg-type]
    for one in heat:
        row, column = np.unravel_index(one.argmax(), one.shape)
        assert row >= 24
        assert column >= 16
        assert one[:16, :12].max() == 0


def test_occlusion_of_one_patch_by_hand() -> None:
    model = looks_at_the_corner()
    picture = torch.full((1, 1, 16, 16), 0.5)
    heat = Heatmaps(model, method="occlusion", patch=8, stride=8)(picture, 1)
    expected = np.zeros((16, 16))
    expected[8:, 8:] = 1
    np.testing.assert_array_equal(heat[0], expected)
    np.testing.assert_array_equal(Heatmaps(model, method="occlusion", patch=8, stride=8)(picture, 0), 0)


def test_occlusion_finds_the_evidence_of_a_certain_prediction() -> None:
    model = looks_at_the_corner()
    picture = torch.full((1, 1, 16, 16), 1.0)
    weight: Any = model.network.get_submodule("features").weight
    weight.data *= 50  # the probability is 1 in float32, with and without the other pixels
    picture[..., :8, :] = 0.5
    before = model(picture).softmax(1)[0, 1]
    picture_without = picture.clone()
    picture_without[..., 8:12, 8:] = 0
    assert before == model(picture_without).softmax(1)[0, 1] == 1
    heat = Heatmaps(model, method="occlusion", patch=4, stride=4)(picture, 1)[0]
    assert heat[8:, 8:].min() == 1
    assert heat[:8].max() == heat[:, :8].max() == 0


def test_the_number_of_passes_of_occlusion_does_not_grow_with_the_image() -> None:
    seen: list[int] = []

    class Counting(nn.Module):
        def forward(self, pictures: Tensor) -> Tensor:
            seen.append(len(pictures))
            return torch.cat([pictures.mean((2, 3)), pictures.mean((2, 3)) * 0], dim=1)

    model = Classifier(network=Counting(), mean=0.0, std=1.0)
    for size in [(224, 224), (448, 336), (48, 36)]:
        seen.clear()
        heatmaps = Heatmaps(model, method="occlusion")
        assert heatmaps(torch.ones(1, 1, *size), 0).shape == (1, *size)
        assert 300 < sum(seen) < 800
    assert "24 x 24 pixels, in steps of 8" in heatmaps.placement((224, 224))


def test_occlusion_covers_every_pixel_and_passes_over_the_background(images: Tensor) -> None:
    seen: list[int] = []

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, pictures: Tensor) -> Tensor:
            seen.append(len(pictures))
            return torch.cat([pictures.mean((2, 3)), pictures.mean((2, 3)) * 0], dim=1)

    model = Classifier(network=Counting(), mean=0.0, std=1.0)
    heat = Heatmaps(model, method="occlusion", patch=5, stride=3)(images, 0)
    assert (heat.max(axis=(1, 2)) == 1).all()
    places = len([0, 3, 6, 9, 11]) * len([0, 3, 6, 7])
    assert sum(seen) == 3 + 3 * places
    seen.clear()
    half = images[:1].clone()
    half[..., 5:, :] = 0
    Heatmaps(model, method="occlusion", patch=5, stride=5)(half, 0)
    assert sum(seen) == 1 + 3  # only the first row of patches


@pytest.mark.parametrize("method", [*CAMS, "occlusion"])
def test_a_map_without_differences_is_zero(tiny: Classifier, method: Method) -> None:
    black = torch.zeros(1, 1, 16, 12)
    nn.init.zeros_(tiny.network.get_submodule("fc").weight)  # type: ignore[arg-type]
    nn.init.zeros_(tiny.network.get_submodule("features.0").weight)  # type: ignore[arg-type]
    for picture in (black, black + 0.7):
        np.testing.assert_array_equal(Heatmaps(tiny, method=method)(picture, 1), 0)


@pytest.mark.parametrize("method", ["map", "lesion"])
def test_an_own_map_without_differences_is_zero(method: Method) -> None:
    model = lesion_classifier()
    with torch.no_grad():
        model.network.network.fc.weight.zero_()  # type: ignore[union-attr]
        model.network.network.fc.bias[:] = torch.tensor([5.0, 0.0, -5.0])  # type: ignore[union-attr,index]
    np.testing.assert_array_equal(Heatmaps(model, method=method)(torch.rand(2, 1, 96, 64), 1), 0)


def test_lesions_are_found_whatever_their_class() -> None:
    images, model = torch.rand(2, 1, 96, 64), lesion_classifier()
    classifier = model.network.network.fc  # type: ignore[union-attr]
    found = Heatmaps(model, method="lesion")(images, 1)
    assert np.array_equal(Heatmaps(model, method="lesion")(images, 0), found)
    with torch.no_grad():  # benign becomes malignant, and malignant benign
        for parameter in classifier.parameters():
            parameter[1:] = parameter[1:].flip(0)
        np.testing.assert_allclose(Heatmaps(model, method="lesion")(images, 1), found, atol=1e-5)
        assert not np.allclose(Heatmaps(model, method="map")(images, 1), found, atol=0.1)
        classifier.bias[1] = -1e4  # no place is benign, so the lesions are the malignant places
    lesions, malignant = (Heatmaps(model, method=each)(images, 1) for each in ("lesion", "map"))  # type: ignore[arg-type]
    np.testing.assert_allclose(lesions, malignant, atol=1e-5)


@pytest.mark.parametrize("method", [*CAMS, "occlusion"])
def test_leaves_the_classifier_as_it_was(tiny: Classifier, images: Tensor, method: Method) -> None:
    network: Any = tiny.network
    tiny.train()
    network.fc.eval()
    network.features[0].weight.requires_grad_(False)
    network.fc.bias.grad = torch.ones(2)
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    with torch.inference_mode():
        Heatmaps(tiny, method=method)(images, 1)
    assert tiny.training
    assert network.features.training
    assert not network.fc.training
    assert [p.requires_grad for p in network.parameters()] == [False] + [True] * 5
    assert [p.grad is None for p in network.parameters()] == [True, True, True, False, True, True]
    assert network.fc.bias.grad.tolist() == [1, 1]
    assert all(torch.equal(value, before[name]) for name, value in tiny.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in tiny.modules())


def test_restores_after_a_failure(tiny: Classifier) -> None:
    tiny.train()
    with pytest.raises(RuntimeError):
        Heatmaps(tiny)(torch.rand(1, 2, 8, 8), 1)
    assert tiny.training
    assert all(parameter.requires_grad for parameter in tiny.parameters())
    assert not any(module._forward_hooks for module in tiny.modules())


@pytest.mark.parametrize("method", CAMS)
def test_a_map_of_a_single_cell_shows_no_place(method: Method) -> None:
    torch.manual_seed(0)
    model = classifier(build_model(name="custom_cnn", num_classes=2))
    heatmaps = Heatmaps(model, method=method, layer="features")
    np.testing.assert_array_equal(heatmaps(torch.rand(1, 1, 128, 96), 1), 0)
    assert heatmaps.placement((128, 96)) == "The feature map has a single cell, which shows no place."


@pytest.mark.usefixtures("measured")
def test_cells_are_drawn_where_the_network_sees(tiny: Classifier) -> None:
    """A pixel of a multiple of 8 is at the centre of a cell; an equal division draws it 3.5 pixels away."""
    network: Any = tiny.network
    network.features[0] = nn.Conv2d(1, 4, 3, stride=8, padding=1)
    with torch.no_grad():
        network.features[0].weight.zero_()[:, 0, 1, 1] = torch.tensor([1.0, 2.0, 4.0, 8.0])
        network.features[0].bias.fill_(100)  # no cell is dead
        network.fc.weight[:] = torch.tensor([[-1.0], [1.0]])
    picture = torch.full((1, 1, 64, 48), 0.3)
    picture[..., 24, 16] = 1
    heatmaps = Heatmaps(tiny)
    heat = heatmaps(picture, 1)[0]
    np.testing.assert_allclose(
        np.indices(heat.shape).reshape(2, -1) @ heat.ravel() / heat.sum(), [24, 16], atol=1
    )
    assert re.search(
        r"row k at pixel \S+ \+ 8.0 k, column k at pixel \S+ \+ 8.0 k", heatmaps.placement((64, 48))
    )


@pytest.mark.usefixtures("measured")
def test_heat_that_cannot_be_placed_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    class Constant(Tiny):
        def __init__(self) -> None:
            super().__init__()
            nn.init.zeros_(self.features[0].weight)  # type: ignore[arg-type]

    heatmaps = Heatmaps(classifier(Constant()))
    heatmaps(torch.rand(1, 1, 16, 12), 1)
    assert "cannot be measured; the heat is drawn as 8 x 6 equal cells" in capsys.readouterr().err
    assert "drawn as equal parts" in heatmaps.placement((16, 12))


def test_images_of_a_batch_do_not_touch(tiny: Classifier, images: Tensor) -> None:
    for method in CAMS:
        heatmaps = Heatmaps(tiny, method=method)
        together = heatmaps(images, torch.tensor([0, 1, 0]))
        alone = [heatmaps(images[i : i + 1], target)[0] for i, target in enumerate((0, 1, 0))]
        np.testing.assert_allclose(together, np.stack(alone), atol=1e-5)


def test_an_early_layer_can_be_named_even_where_the_network_goes_on_in_place() -> None:
    torch.manual_seed(0)
    model = classifier(build_model(name="resnet18", num_classes=2))
    for layer in ("layer2.1.bn2", "conv1", "maxpool"):
        assert Heatmaps(model, layer=layer)(torch.rand(1, 1, 64, 48), 1).shape == (1, 64, 48)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": "featurs"}, "heatmap_layer=featurs: no such module; the nearest are features"),
        (
            {"layer": "zzz"},
            "heatmap_layer=zzz: no such module; the nearest are features, global_pool, fc, unused",
        ),
        ({"layer": "fc"}, "heatmap_layer=fc: its output of shape 2 is not a feature map"),
        ({"layer": "unused"}, "heatmap_layer=unused: the network uses it 0 times"),
        ({"method": "occlusion", "layer": "fc"}, "heatmap=occlusion uses no layer"),
        ({"method": "map"}, "heatmap=map: the network has no map of its own; give model/head=patch_map"),
        ({"method": "lesion"}, "heatmap=lesion: the network has no class of the background; give model/head"),
        ({"method": "scorecam"}, "heatmap method scorecam: give one of gradcam"),
        (
            {"method": "occlusion", "patch": 8, "stride": 9},
            "heatmap stride 9: give 1 to 8 pixels, the side of the patch",
        ),
    ],
)
def test_refusals(tiny: Classifier, images: Tensor, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Heatmaps(tiny, **arguments)(images, 1)


def test_a_network_without_a_pool_is_explained_by_its_last_map_or_asks_for_a_layer(images: Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 14 * 10, 2))
    model = Classifier(network=network, mean=0.0, std=1.0)
    assert np.array_equal(Heatmaps(model)(images, 1), Heatmaps(model, layer="0")(images, 1))
    flat = Classifier(network=nn.Sequential(nn.Flatten(), nn.Linear(16 * 12, 2)), mean=0.0, std=1.0)
    with pytest.raises(ConfigError, match="Sequential has no feature map before its pool; name a layer"):
        Heatmaps(flat)(images, 1)
