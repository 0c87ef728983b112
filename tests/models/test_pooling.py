from typing import Any

import pytest
import torch
from helpers.networks import build_model
from torch import Tensor, nn

from mammo.errors import ConfigError
from mammo.models.backbones import build_network
from mammo.models.custom_cnn import CustomCNN
from mammo.models.pooling import POOLS, AttentionPool, GeM, OtherPool

MAP = torch.rand(2, 8, 5, 3) + 0.1  # B C H W, positive


def with_p(p: float) -> GeM:
    pool = GeM()
    nn.init.constant_(pool.p, p)
    return pool


def test_gem_runs_from_the_mean_to_the_maximum() -> None:
    torch.testing.assert_close(with_p(1)(MAP), MAP.mean(dim=(2, 3)))
    torch.testing.assert_close(GeM()(MAP), (MAP**3).mean(dim=(2, 3)) ** (1 / 3))
    torch.testing.assert_close(with_p(200)(MAP), MAP.amax(dim=(2, 3)), rtol=0.02, atol=0)


def test_gem_learns_its_exponent_and_stays_finite() -> None:
    pool = GeM()
    features = torch.tensor([0.0, -3.0, 5.0, 1e4], requires_grad=True).view(1, 1, 2, 2)
    features.retain_grad()
    pool(features).sum().backward()
    assert pool.p.grad is not None
    assert pool.p.grad.isfinite().all()
    assert pool.p.grad.item() != 0
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_gem_keeps_half_precision_in_range() -> None:
    pooled = GeM()(torch.full((1, 2, 4, 4), 100.0, dtype=torch.float16))
    torch.testing.assert_close(pooled, torch.full((1, 2), 100.0, dtype=torch.float16))


def test_attention_is_the_papers_sum() -> None:
    """Position by position: a_k = exp(w·tanh(V h_k)) / sum, z = sum a_k h_k."""
    pool = AttentionPool(channels=8, hidden=4)
    for sample, pooled in zip(MAP, pool(MAP), strict=True):
        positions = [sample[:, row, column] for row in range(5) for column in range(3)]
        hidden, bias = pool.hidden.weight, pool.hidden.bias
        scores = torch.stack([pool.score.weight[0] @ torch.tanh(hidden @ h + bias) for h in positions])
        weights = scores.exp() / scores.exp().sum()
        expected = sum(weight * h for weight, h in zip(weights, positions, strict=True))
        torch.testing.assert_close(pooled, expected)


def test_attention_without_a_preference_is_the_mean_and_with_one_finds_the_place() -> None:
    pool = AttentionPool(channels=8)
    nn.init.zeros_(pool.score.weight)
    torch.testing.assert_close(pool(MAP), MAP.mean(dim=(2, 3)))
    with torch.no_grad():
        pool.hidden.weight.zero_()
        pool.hidden.weight[0, 0] = 100.0  # the first channel decides
        pool.hidden.bias.zero_()
        pool.hidden.bias[0] = -150.0
        pool.score.weight[0, 0] = 50.0
    features = MAP.clamp(max=1.0)
    features[:, 0, 3, 1] = 2.0
    torch.testing.assert_close(pool(features), features[:, :, 3, 1])


@pytest.mark.parametrize("pool", [GeM, AttentionPool])
def test_layouts_agree(pool: type) -> None:
    first = pool(channels=8) if pool is AttentionPool else pool()
    options = {"channels": 8} if pool is AttentionPool else {}
    for layout, features, shape in (
        ("NCHW", MAP, (2, 8, 1, 1)),
        ("NHWC", MAP.permute(0, 2, 3, 1), (2, 1, 1, 8)),
    ):
        for flatten in (True, False):
            other = pool(flatten=flatten, layout=layout, **options)
            other.load_state_dict(first.state_dict())
            pooled = other(features)
            assert pooled.shape == ((2, 8) if flatten else shape)
            torch.testing.assert_close(pooled.flatten(1), first(MAP))


@pytest.mark.parametrize("pool", ["gem", "attention"])
@pytest.mark.parametrize(
    "name",  # flat, with kept dimensions, channels last, a pool before wider layers
    ["resnet18", "convnext_atto", "swin_tiny_patch4_window7_224", "mobilenetv3_small_050", "custom_cnn"],
)
def test_own_pools_take_the_place_of_timms(name: str, pool: str) -> None:
    options = {} if name == "custom_cnn" else {"image_size": (64, 48)}
    plain = build_model(name=name, num_classes=2, **options)
    model = build_model(name=name, num_classes=2, pool=pool, **options)
    own = [f"{path}." for path, module in model.named_modules() if isinstance(module, POOLS)]
    assert len(own) == 1
    assert {key for key in model.state_dict() if not key.startswith(own[0])} == set(plain.state_dict())

    model.train()(torch.rand(2, 1, 64, 48)).sum().backward()
    assert all(p.grad is not None for path, p in model.named_parameters() if path.startswith(own[0]))


def test_gem_at_one_is_the_average_of_a_network_of_positive_features() -> None:
    plain = build_model(name="resnet18", num_classes=2).eval()
    model = build_model(name="resnet18", num_classes=2, pool="gem").eval()
    model.load_state_dict(plain.state_dict(), strict=False)
    nn.init.ones_(model.global_pool.p)
    images = torch.rand(2, 1, 64, 48)
    with torch.no_grad():
        torch.testing.assert_close(model(images), plain(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("pool", ["gem", "attention"])
def test_a_network_without_a_feature_map_is_refused(pool: str) -> None:
    with pytest.raises(
        ConfigError,
        match=r"^model\.pool: vit_tiny_patch16_224 has no single pool of a feature map to replace by",
    ):
        build_model(name="vit_tiny_patch16_224", num_classes=2, image_size=(64, 48), pool=pool)


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_vit_takes_what_it_is_told_to_choose(pool: str) -> None:
    model = build_model(name="vit_tiny_patch16_224", num_classes=2, image_size=(64, 48), pool=pool)
    assert model(torch.rand(2, 1, 64, 48)).shape == (2, 2)


class Power(nn.Module):
    """A pooling of the user's own: the root of the mean of a power, with a weight for each channel."""

    def __init__(self, *, channels: int, power: float = 2.0) -> None:
        super().__init__()
        self.power = power
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, features: Tensor) -> Tensor:
        assert features.shape[1] == len(self.weight)
        return self.weight * features.abs().pow(self.power).mean(dim=(2, 3)).pow(1 / self.power)


POWER = {"_target_": f"{__name__}.Power", "power": 1.0}


@pytest.mark.parametrize(
    "name",
    ["resnet18", "convnext_atto", "swin_tiny_patch4_window7_224", "mobilenetv3_small_050", "custom_cnn"],
)
def test_a_pooling_of_the_user_takes_the_place_in_any_layout(name: str) -> None:
    target = "mammo.models.custom_cnn.CustomCNN"
    node: dict[str, Any] = {"_target_": target}
    if name != "custom_cnn":
        node = {"_target_": "mammo.models.backbones.timm_network", "name": name}
    model = build_network(node | {"pool": POWER}, num_classes=2, image_size=(64, 48))
    (pool,) = (module for module in model.modules() if isinstance(module, OtherPool))
    seen: list[Tensor] = []
    handles = [
        pool.register_forward_hook(lambda _, inputs, output: seen.extend([*inputs, output])),
    ]
    model.train()(torch.rand(2, 1, 64, 48)).sum().backward()
    handles[0].remove()
    features, pooled = seen
    places = (2, 3) if pool.layout == "NCHW" else (1, 2)
    torch.testing.assert_close(pooled.flatten(1), features.abs().mean(dim=places))
    assert pool.get_parameter("pool.weight").grad is not None


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        ({"_target_": "torch.nn.AdaptiveAvgPool2d", "output_size": 2}, "gives 1024 numbers for 256 channels"),
        (
            {"_target_": "torch.nn.Linear", "in_features": 7, "out_features": 2},
            "fails on features of 2 x 256 x 4",
        ),
        (
            {"_target_": "os.system"},
            "model.pool._target_=os.system: is no pooling; give a subclass of torch.nn",
        ),
        (POWER | {"powr": 1}, f"model.pool.powr: {__name__}.Power has no such argument; did you mean power?"),
    ],
)
def test_what_is_no_pooling_is_refused(node: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        CustomCNN(num_classes=2, pool=node)
    assert sentence in str(refused.value)


def test_a_module_with_the_places_kept_is_a_pooling() -> None:
    plain = CustomCNN(num_classes=2).eval()
    model = CustomCNN(num_classes=2, pool={"_target_": "torch.nn.AdaptiveAvgPool2d", "output_size": 1}).eval()
    model.load_state_dict(plain.state_dict())
    images = torch.rand(2, 1, 64, 48)
    with torch.no_grad():
        torch.testing.assert_close(model(images), plain(images))
