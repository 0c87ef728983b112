"""Networks of several views as `build_network` makes them, their weights, and `Classifier`."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from helpers.networks import build_model
from torch import Tensor, nn

from mammo.errors import ConfigError
from mammo.models import Output
from mammo.models.backbones import build_network, input_statistics
from mammo.models.classifier import Classifier
from mammo.models.example_input import example_input
from mammo.models.view_fusion import ViewFusion
from mammo.models.weights.weight_loading import load_weights
from mammo.training.devices import batch_memory
from mammo.training.devices.batch_memory import largest_batch
from mammo.training.devices.precision import has_tiny_maps

SIZE = (40, 32)
BREAST = (0, 0)


def built(sides: tuple[int, ...] = BREAST, name: str = "custom_cnn", **options: Any) -> Any:
    size = SIZE if name == "custom_cnn" else (64, 64)
    return build_model(name=name, num_classes=3, image_size=size, sides=sides, **options)


def run_of(network: nn.Module, path: Path) -> Path:
    """The folder of a finished run, with a checkpoint like Lightning's."""
    (path / "checkpoints").mkdir(parents=True)
    state = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    state |= {"mean": torch.tensor(0.2), "std": torch.tensor(0.1)}
    torch.save({"epoch": 3, "state_dict": state}, path / "checkpoints" / "best.ckpt")
    return path


class TwoViews(nn.Module):
    """A user's network of several views."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.linear = nn.Linear(1, num_classes)

    def forward(self, images: Tensor, present: Tensor | None) -> Tensor:
        return self.linear(images.mean(dim=(1, 2, 3, 4))[:, None])


def built_own(sides: tuple[int, ...]) -> nn.Module:
    return build_network({"_target_": f"{__name__}.TwoViews"}, num_classes=3, image_size=SIZE, sides=sides)


def test_one_view_is_not_wrapped() -> None:
    one, other = built((0,)), built((0,), fusion="mean", fusion_level="logits", share_views=True)
    assert type(one).__name__ == "CustomCNN"
    assert one.state_dict().keys() == other.state_dict().keys()


def test_several_views_are_fused_by_the_keys() -> None:
    model = built((0, 0, 1, 1), fusion="attention", fusion_level="features", share_views=False)
    assert isinstance(model, ViewFusion)
    assert (model.fusion, model.level, model.shared, model.sides) == (
        "attention",
        "features",
        False,
        (0, 0, 1, 1),
    )
    default = built()
    assert (default.fusion, default.level, default.shared) == ("mean", "logits", True)
    assert input_statistics(built(name="resnet18")) == input_statistics(built((0,), name="resnet18"))


@pytest.mark.parametrize(
    ("sides", "options", "message"),
    [
        (
            (0,),
            {"fusion": "max"},
            r"model\.fusion=max: one image is one view; give data\.sample_unit=breast or exam",
        ),
        ((0,), {"fusion_level": "features"}, r"model\.fusion_level=features: one image is one view"),
        ((0,), {"share_views": False}, r"model\.share_views=false: one image is one view"),
        (BREAST, {"box_head": True}, r"model\.box_head=true: a box is in one image"),
        (BREAST, {"fusion": "middle"}, r"model\.fusion=middle: give one of mean, max, concat, attention"),
    ],
)
def test_what_does_not_go_together_is_refused(
    sides: tuple[int, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        built(sides, **options)


def test_an_own_network_of_views_is_not_wrapped() -> None:
    node = {"_target_": f"{__name__}.TwoViews"}
    assert isinstance(build_network(node, num_classes=3, image_size=SIZE, sides=BREAST), TwoViews)
    with pytest.raises(ConfigError, match=r"model\.fusion=max: .*TwoViews fuses the views itself"):
        build_network(node | {"fusion": "max"}, num_classes=3, image_size=SIZE, sides=BREAST)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize(
    ("fusion", "level", "new"),
    [
        ("mean", "logits", ()),
        ("max", "features", ()),
        ("attention", "features", ("attention",)),
        ("attention", "logits", ("attention",)),
        ("concat", "logits", ("classifier",)),
    ],
)
@torch.no_grad()
def test_the_run_of_one_view_gives_the_weights_of_each_view(
    fusion: str, level: str, new: tuple[str, ...], share: bool, tmp_path: Path
) -> None:
    one, model = built((0,)).eval(), built(fusion=fusion, fusion_level=level, share_views=share).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    loaded = load_weights(model, run_of(one, tmp_path / "run"))
    assert sorted({name.partition(".")[0] for name in loaded.missing}) == list(new)
    assert not loaded.other_shape
    for name, tensor in model.state_dict().items():
        assert name not in loaded.missing or torch.equal(tensor, before[name])
    if fusion != "concat":
        images = torch.randn(2, 2, 1, *SIZE)
        expected = torch.stack([one(images[:, place]) for place in (0, 1)], dim=1)
        torch.testing.assert_close(model(images).view_logits, expected)


def test_concat_of_features_has_a_new_classifier(tmp_path: Path) -> None:
    loaded = load_weights(
        built(fusion="concat", fusion_level="features"), run_of(built((0,)), tmp_path / "r")
    )
    assert loaded.other_shape == ["classifier.weight"]


@pytest.mark.parametrize("name", ["custom_cnn", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize(
    ("fusion", "level"),
    [("mean", "logits"), ("attention", "features"), ("attention", "logits"), ("concat", "logits")],
)
def test_the_run_of_the_same_fusion_loads_whole(
    fusion: str, level: str, share: bool, name: str, tmp_path: Path
) -> None:
    options = {"fusion": fusion, "fusion_level": level, "share_views": share, "name": name}
    source, model = built(**options), built(**options)
    for number, parameter in enumerate(source.parameters()):
        parameter.data += number
    loaded = load_weights(model, run_of(source, tmp_path / "run"))
    assert loaded.matched == loaded.total
    state = source.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())


def test_a_file_of_timm_in_the_names_of_its_authors_loads_into_each_view(tmp_path: Path) -> None:
    source = built((0,), name="vit_tiny_patch16_224")
    safetensors.torch.save_file(source.state_dict(), tmp_path / "w.safetensors")
    larger = build_model(
        name="vit_tiny_patch16_224", num_classes=3, image_size=(96, 64), sides=BREAST, share_views=False
    )
    loaded = load_weights(larger, tmp_path / "w.safetensors")
    assert loaded.reshaped == ["networks.0.pos_embed", "networks.1.pos_embed"]
    assert loaded.matched == loaded.total


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="weights of another network"):
        load_weights(built(), run_of(built((0,), name="resnet18"), tmp_path / "run"))
    with pytest.raises(ConfigError, match=r"model\.weights=.*: no such file$"):
        load_weights(built(), tmp_path)


@pytest.mark.parametrize("share", [True, False])
@torch.no_grad()
def test_classifier_normalises_all_views(share: bool) -> None:
    network = built(fusion="max", share_views=share)
    classifier = Classifier(network=network, mean=0.3, std=0.2).eval()
    images, present = torch.rand(3, 2, 1, *SIZE), torch.tensor([[True, True], [True, False], [False, True]])
    expected = network((images - 0.3) / 0.2, present)
    output = classifier.output(images, present)
    assert torch.equal(output.logits, expected.logits)
    assert torch.equal(output.view_logits[present], expected.view_logits[present])
    assert torch.equal(classifier(images, present), output.logits)
    assert torch.equal(classifier(images), network((images - 0.3) / 0.2).logits)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = classifier.output(images, present)
    assert output.logits.dtype == output.view_logits.dtype == torch.float32


@torch.no_grad()
def test_classifier_of_single_images_takes_one_view() -> None:
    classifier = Classifier(network=built((0,)), mean=0.3, std=0.2).eval()
    images = torch.rand(3, 1, *SIZE)
    assert torch.equal(classifier(images[:, None]), classifier(images))
    assert torch.equal(classifier(images[:, None], torch.ones(3, 1, dtype=torch.bool)), classifier(images))
    with pytest.raises(ValueError, match="2 views for a network of single images"):
        classifier(torch.rand(3, 2, 1, *SIZE))


@torch.no_grad()
def test_classifier_adds_the_axis_of_the_views() -> None:
    class Map(nn.Module):
        def forward(self, images: Tensor) -> Output:
            crops = torch.ones(len(images), 5, 4)
            return Output(
                images.mean(dim=(2, 3)), maps=images[..., ::4], crops=crops, crop_attention=crops[..., 0]
            )

    output = Classifier(network=Map(), mean=0.0, std=1.0).output(torch.rand(3, 1, 1, *SIZE))
    assert output.maps is not None
    assert output.maps.shape == (3, 1, 1, 40, 8)
    assert output.crops is not None
    assert output.crops.shape == (3, 1, 5, 4)
    assert output.crop_attention is not None
    assert output.crop_attention.shape == (3, 1, 5)


def test_one_image_of_a_network_of_views_is_one_view() -> None:
    classifier = Classifier(network=TwoViews(), mean=0.0, std=1.0)
    images = torch.rand(3, 1, *SIZE)
    assert torch.equal(classifier(images), classifier(images[:, None]))


@pytest.mark.parametrize(
    ("network", "shapes"),
    [
        (lambda: built((0,)), [(3, 1, *SIZE)]),
        (lambda: built(), [(3, 2, 1, *SIZE), (3, 2)]),
        (lambda: built((0, 0, 1, 1)), [(3, 4, 1, *SIZE), (3, 4)]),
        (lambda: built_own((0, 0, 1, 1)), [(3, 4, 1, *SIZE), (3, 4)]),
    ],
)
def test_the_example_of_the_inputs_suits_the_network(network: Any, shapes: list[tuple[int, ...]]) -> None:
    inputs = example_input(network(), SIZE, batch=3)
    assert [tuple(tensor.shape) for tensor in inputs] == shapes
    assert all(tensor.all() for tensor in inputs[1:])
    network()(*inputs)


def test_the_largest_batch_counts_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []

    def step(network: nn.Module, batch: int, size: tuple[int, int], device: torch.device) -> int:
        seen.append(tuple(example_input(network, size, batch=batch)[0].shape))
        return 0

    monkeypatch.setattr(batch_memory, "_peak_of_step", step)
    assert largest_batch(built(), size=SIZE, accelerator="cpu", most=5) == 4
    assert seen == [(1, 2, 1, *SIZE), (2, 2, 1, *SIZE), (4, 2, 1, *SIZE)]


def test_memory_and_number_format_are_those_of_several_views() -> None:
    network = built(fusion="attention", share_views=False)
    assert largest_batch(network, size=SIZE, accelerator="cpu", most=2) == 2
    assert has_tiny_maps(network, size=(8, 8))
    assert not has_tiny_maps(network, size=(512, 512))
