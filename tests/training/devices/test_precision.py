import pytest
import torch
from helpers.networks import build_model
from torch import nn

from mammo.errors import ConfigError
from mammo.training.devices.precision import choose_precision, has_strided_depthwise, has_tiny_maps


@pytest.mark.parametrize(("height", "width", "tiny"), [(1, 9, True), (9, 2, True), (3, 3, False)])
def test_map_smaller_than_the_kernels_reach(height: int, width: int, tiny: bool) -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 4, 5, padding=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    assert has_tiny_maps(network, size=(height, width)) is tiny
    assert network.training


def test_network_that_shrinks_its_image_to_a_pixel_is_not_trained_in_bfloat16() -> None:
    network = build_model(name="custom_cnn", num_classes=2)
    assert choose_precision("auto", accelerator="cpu", network=network, size=(64, 48)) == "32-true"
    with pytest.raises(ConfigError, match="precision=bf16-mixed: images of 64 x 48 are too small"):
        choose_precision("bf16-mixed", accelerator="cpu", network=network, size=(64, 48))
    assert choose_precision("bf16-mixed", accelerator="cpu", network=network, size=(512, 512)) == "bf16-mixed"


@pytest.mark.parametrize(
    ("name", "slow"),
    [
        ("tf_efficientnet_lite0", True),
        ("mobilenetv3_small_100", True),
        ("convnext_atto", False),
        ("resnet18", False),
    ],
)
def test_network_that_is_slow_in_bfloat16_on_a_cpu_is_trained_in_float32(
    name: str, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mammo.training.devices.precision.cpu_computes_bfloat16", lambda: True)
    network = build_model(name=name, num_classes=2)
    assert has_strided_depthwise(network) is slow
    chosen = choose_precision("auto", accelerator="cpu", network=network, size=(256, 256))
    assert chosen == ("32-true" if slow else "bf16-mixed")
    assert choose_precision("bf16-mixed", accelerator="cpu", network=network, size=(256, 256)) == "bf16-mixed"


def test_gradients_in_bfloat16_are_whole_where_no_map_is_tiny() -> None:
    """The gradients do not depend on what the memory contained before."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(16, 32, 3, stride=2, padding=1)
    images = torch.randn(4, 16, 3, 2)
    assert not has_tiny_maps(nn.Sequential(nn.Conv2d(1, 16, 1), convolution), size=(3, 2))
    gradients = []
    for _ in range(8):
        junk = [torch.full((32 * 16 * 9,), float("nan")) for _ in range(8)]
        del junk
        convolution.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            convolution(images).float().square().sum().backward()
        gradients.append(convolution.weight.grad.clone())
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)
