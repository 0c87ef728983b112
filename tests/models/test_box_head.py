import copy
from pathlib import Path

import pytest
import torch
from helpers.networks import build_model
from torch import nn

from mammo.errors import ConfigError
from mammo.models.box_head import add_box_head, box_head_of, pixel_boxes
from mammo.models.classifier import Classifier
from mammo.models.layer_depth import layer_of_parameters
from mammo.models.weights.weight_loading import load_weights

NETWORKS = ["resnet18", "custom_cnn", "convnext_atto", "tf_efficientnet_lite0"]
SIZE = (64, 48)


def built(name: str, *, box_head: bool = True, **options: object) -> nn.Module:
    return build_model(name=name, num_classes=3, image_size=SIZE, box_head=box_head, **options)


def classifier(name: str, **options: object) -> Classifier:
    torch.manual_seed(0)
    return Classifier(network=built(name, **options), mean=0.3, std=0.2).eval()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in NETWORKS),
        ("custom_cnn", {"pool": "attention", "dropout": 0.1}),
        ("resnet18", {"pool": "gem", "channels": 3, "dropout": 0.1}),
        ("inception_resnet_v2", {}),
        ("dla34", {}),  # its classifier is a convolution
    ],
)
def test_boxes_come_with_the_logits_of_forward(name: str, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    size = (96, 96) if name in ("inception_resnet_v2", "dla34") else SIZE
    network = build_model(name=name, num_classes=3, image_size=size, box_head=True, **options)
    model = Classifier(network=network, mean=0.3, std=0.2).eval()
    images = torch.rand(2, 1, *size)
    output = model.output(images)
    logits, boxes = output.logits, output.boxes
    assert torch.equal(logits, model(images))
    assert boxes.shape == (2, 4)
    assert boxes.dtype == torch.float32
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    assert not torch.equal(boxes[0], boxes[1])


@pytest.mark.parametrize("name", NETWORKS)
def test_boxes_are_of_what_the_classifier_gets(name: str) -> None:
    model = classifier(name)
    seen: list[torch.Tensor] = []
    model.network.get_classifier().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    boxes = model.output(torch.rand(2, 1, *SIZE)).boxes
    head = model.network.box_head.linear
    torch.testing.assert_close(boxes, torch.sigmoid(seen[0] @ head.weight.T + head.bias))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_copy_tells_boxes_of_its_own_features(name: str) -> None:
    model, images = classifier(name), torch.rand(2, 1, *SIZE)
    before = model.output(images).boxes  # a model can also be copied after use
    other = copy.deepcopy(model)
    assert torch.equal(other.output(images).boxes, before)
    with torch.no_grad():
        for parameter in other.network.get_submodule(first_convolution(other.network)).parameters():
            parameter.mul_(-3)
    assert not torch.equal(other.output(images).boxes, before)
    assert torch.equal(model.output(images).boxes, before)


def first_convolution(network: nn.Module) -> str:
    return next(name for name, module in network.named_modules() if isinstance(module, nn.Conv2d))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_second_head_changes_nothing_but_itself(name: str) -> None:
    torch.manual_seed(0)
    one = built(name, box_head=False)
    torch.manual_seed(0)
    two = built(name)
    assert box_head_of(one) is None
    assert one.state_dict().keys() == {key for key in two.state_dict() if not key.startswith("box_head.")}
    assert all(torch.equal(tensor, two.state_dict()[key]) for key, tensor in one.state_dict().items())
    for coarse in (True, False):
        layers, alone = (layer_of_parameters(model, coarse=coarse) for model in (two, one))
        head = {layers.pop(f"box_head.linear.{key}") for key in ("weight", "bias")}
        assert head == {max(alone.values())}
        assert layers == alone


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_go_from_one_head_to_two_and_back(name: str, tmp_path: Path) -> None:
    one, two, file = built(name, box_head=False), built(name), tmp_path / "w.pt"
    start = copy.deepcopy(two.box_head.state_dict())
    torch.save(one.state_dict(), file)
    loaded = load_weights(two, file)
    assert loaded.missing == ["box_head.linear.weight", "box_head.linear.bias"]
    assert "box_head.linear.weight, box_head.linear.bias (not in the file)" in loaded.summary()
    assert all(torch.equal(tensor, two.box_head.state_dict()[key]) for key, tensor in start.items())
    assert all(torch.equal(tensor, two.state_dict()[key]) for key, tensor in one.state_dict().items())

    torch.save({"state_dict": {f"network.{key}": tensor for key, tensor in two.state_dict().items()}}, file)
    loaded = load_weights(built(name, box_head=False), file)
    assert loaded.missing == []
    assert loaded.summary().endswith("unused: box_head.linear.weight, box_head.linear.bias")
    assert load_weights(built(name), file).unused == []


def test_a_box_head_is_no_part_of_the_share_that_must_match(tmp_path: Path) -> None:
    """Three of four tensors of a file match, which is just enough with and without box heads."""

    class Few(nn.Module):
        def __init__(self, more: int) -> None:
            super().__init__()
            for index in range(3):
                self.register_buffer(f"same{index}", torch.zeros(2))
            for index in range(more):
                self.register_buffer(f"more{index}", torch.zeros(2))
            self.fc = nn.Linear(2, 2)

        def get_classifier(self) -> nn.Module:
            return self.fc

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.fc(images)

    two, one = Few(more=1), Few(more=0)
    add_box_head(two, name="few", dry_run=lambda: two(torch.zeros(1, 2)))
    torch.save(two.state_dict(), tmp_path / "w.pt")
    assert load_weights(one, tmp_path / "w.pt").matched == 5


def test_a_classifier_of_maps_has_no_box_head() -> None:
    class OfMaps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Conv2d(1, 2, 1)

        def get_classifier(self) -> nn.Module:
            return self.fc

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.fc(images).mean(dim=(2, 3))

    model = OfMaps()
    with pytest.raises(ConfigError, match=r"model\.box_head=true: the classifier of of_maps gets no pooled"):
        add_box_head(model, name="of_maps", dry_run=lambda: model(torch.rand(1, 1, 4, 4)))
    assert not model.fc._forward_pre_hooks


def test_boxes_in_pixels_by_hand() -> None:
    """Swapped sides are put in order."""
    boxes = pixel_boxes(torch.tensor([[0.25, 0.5, 0.1, 0.9], [0.5, 0.25, 0.9, 0.1]]), (100, 80))
    torch.testing.assert_close(boxes, torch.tensor([[20.0, 10.0, 40.0, 90.0]] * 2))
