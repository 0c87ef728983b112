import pytest
import torch
from helpers.networks import build_model
from torch import nn

from mammo.models.layer_depth import head_modules, layer_of_parameters, within

NETWORKS = [
    ("resnet18", "avg"),
    ("resnet18", "attention"),
    ("inception_resnet_v2", "gem"),
    ("convnext_atto", "avg"),
    ("convnext_atto", "attention"),
    ("tf_efficientnet_lite0", "gem"),
    ("vit_tiny_patch16_224", "avg"),
    ("custom_cnn", "avg"),
    ("custom_cnn", "gem"),
    ("custom_cnn", "attention"),
]
SIZE = (96, 96)


def built(name: str, pool: str, **options: str) -> nn.Module:
    if name != "custom_cnn":
        options |= {"image_size": SIZE}
    return build_model(name=name, num_classes=2, pool=pool, **options)


def used_in_order(model: nn.Module) -> list[str]:
    """Names of the modules with own parameters, in the order of the forward pass."""
    names: list[str] = []
    for name, module in model.named_modules():
        if name and list(module.parameters(recurse=False)):
            module.register_forward_pre_hook(lambda *_, name=name: names.append(name))
    with torch.no_grad():
        model.eval()(torch.rand(1, 1, *SIZE))
    return names


@pytest.mark.parametrize("coarse", [True, False])
@pytest.mark.parametrize(("name", "pool"), NETWORKS)
def test_layers_rise_from_the_input_to_the_head(name: str, pool: str, coarse: bool) -> None:
    model = built(name, pool)
    layers = layer_of_parameters(model, coarse=coarse)
    parameters = dict(model.named_parameters())
    assert set(layers) == set(parameters)
    assert set(layers.values()) == set(range(max(layers.values()) + 1))

    top = head_modules(model)
    assert {layers[key] for key in layers if within(key, top)} == {max(layers.values())}

    order = [
        max(layers[key] for key in layers if key.startswith(f"{module}.")) for module in used_in_order(model)
    ]
    assert order[0] == 0
    assert order == sorted(order)


@pytest.mark.parametrize("norm", ["after", "before"])
def test_layers_of_custom_cnn_counted_by_hand(norm: str) -> None:
    model = built("custom_cnn", "avg", activation="prelu", norm=norm)
    coarse = layer_of_parameters(model, coarse=True)
    fine = layer_of_parameters(model, coarse=False)
    # coarse: stem, three stages, last two convolutions, head; fine: each convolution and block separately
    assert max(coarse.values()) == 5
    assert max(fine.values()) == 8
    wide = {key: parameter.shape for key, parameter in model.named_parameters()}
    assert coarse["features.0.weight"] == fine["features.0.weight"] == 0
    [to_128] = [key for key, shape in wide.items() if shape == (128, 64, 3, 3)]
    [to_256] = [key for key, shape in wide.items() if shape == (256, 128, 3, 3)]
    assert (coarse[to_128], coarse[to_256], fine[to_128], fine[to_256]) == (4, 4, 6, 7)


def test_coarse_layers_of_resnet_are_its_stages() -> None:
    layers = layer_of_parameters(built("resnet18", "avg"), coarse=True)
    assert layers["conv1.weight"] == 0
    assert [layers[f"layer{stage}.1.conv2.weight"] for stage in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert layers["fc.weight"] == 5
