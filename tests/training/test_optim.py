import pytest
import torch

from mammo.models.backbones import build_model
from mammo.models.layer_depth import layer_of_parameters
from mammo.training.optim import (
    build_optimizer,
    first_trained_layer,
    parameter_groups,
)


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("adam", {"beta1": 0.8}, torch.optim.Adam),
        ("adamw", {"beta2": 0.99}, torch.optim.AdamW),
        ("sgd", {"momentum": 0.9}, torch.optim.SGD),
        ("rmsprop", {"momentum": 0.5}, torch.optim.RMSprop),
    ],
)
def test_each_optimiser_gets_its_settings(
    name: str, options: dict[str, float], kind: type[torch.optim.Optimizer]
) -> None:
    network = build_model(name="custom_cnn", num_classes=2)
    optimizer = build_optimizer(network, name=name, lr=0.1, weight_decay=0.01, **options)
    assert type(optimizer) is kind
    group = optimizer.param_groups[0]
    told = dict(zip(("beta1", "beta2"), group.get("betas", ()), strict=False)) | group
    assert all(told[key] == value for key, value in options.items())


@pytest.mark.parametrize("name", ["custom_cnn", "resnet18", "convnext_atto"])
def test_norms_and_biases_do_not_decay(name: str) -> None:
    network = build_model(name=name, num_classes=2, image_size=(64, 64))
    groups = parameter_groups(network, lr=1.0, head_lr=None, layer_decay=1.0, weight_decay=0.1)
    for group in groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] == 0.1}
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))


def test_layers_learn_slower_towards_the_input_and_the_head_apart() -> None:
    network = build_model(name="resnet18", num_classes=2)
    groups = parameter_groups(network, lr=1.0, head_lr=5.0, layer_decay=0.5, weight_decay=0.0)
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    layers = layer_of_parameters(network, coarse=False)
    head = max(layers.values())
    for name, parameter in network.named_parameters():
        expected = 5.0 if layers[name] == head else 0.5 ** (head - 1 - layers[name])
        assert rate[id(parameter)] == expected
    assert (
        rate[id(network.get_parameter("conv1.weight"))]
        < rate[id(network.get_parameter("layer4.1.conv2.weight"))]
    )


def test_layers_thaw_from_the_last_to_the_first() -> None:
    def first(**options: int | None) -> list[int]:
        return [first_trained_layer(epoch=epoch, head=4, **options) for epoch in range(8)]  # type: ignore[arg-type]

    assert first() == [0] * 8
    assert first(freeze_epochs=2) == [4, 4] + [0] * 6
    assert first(freeze_epochs=1, unfreeze_every=2) == [4, 3, 3, 2, 2, 1, 1, 0]
