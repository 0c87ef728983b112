from pathlib import Path

import pytest
import torch

from mammo.errors import ConfigError
from mammo.models.backbones import build_model, input_statistics


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "custom_cnn"])
def test_every_model_takes_grey_images_of_any_size(name: str) -> None:
    model = build_model(name=name, num_classes=2).eval()
    for height, width in ((64, 48), (97, 33)):
        assert model(torch.rand(2, 1, height, width)).shape == (2, 2)


def test_custom_cnn_is_the_studys() -> None:
    """Counted by hand: a 3x3 convolution from a to b channels has 9ab + b weights, a norm of c has 2c."""
    model = build_model(name="custom_cnn", num_classes=2)

    def conv(a: int, b: int) -> int:
        return 9 * a * b + b

    stages = sum(2 * c + 2 * conv(c, c) for c in (16, 32, 64))
    entries = 2 * 16 + conv(16, 32) + 2 * 32 + conv(32, 64) + 2 * 64 + conv(64, 128) + conv(128, 256)
    assert sum(p.numel() for p in model.parameters()) == conv(1, 16) + stages + entries + 256 * 2 + 2


@pytest.mark.parametrize("activation", ["relu", "prelu", "elu", "leaky_relu"])
def test_activation_is_used(activation: str) -> None:
    names = {type(module).__name__.lower() for module in build_model(
        name="custom_cnn", num_classes=2, activation=activation
    ).modules()}  # fmt: skip
    assert activation.replace("_", "") in names


def test_pool_and_dropout_reach_timm() -> None:
    model = build_model(name="resnet18", num_classes=2, pool="max", dropout=0.4)
    assert model.global_pool.pool_type == "max"
    assert model.drop_rate == 0.4


def test_pretrained_without_a_network_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ConfigError, match=r"model\.pretrained=true: the weights of resnet18 cannot be downloaded"
    ):
        build_model(name="resnet18", num_classes=2, pretrained=True)


def test_statistics_of_imagenet_weights_as_grey() -> None:
    mean, std = input_statistics(build_model(name="resnet18", num_classes=2))
    assert (mean, std) == pytest.approx((0.449, 0.226), abs=1e-3)
