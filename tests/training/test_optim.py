from typing import Any

import pytest
import torch
from helpers.networks import build_model
from torch import nn

from mammo.errors import ConfigError
from mammo.models.layer_depth import layer_of_parameters
from mammo.training.optim import (
    build_optimizer,
    first_trained_layer,
    parameter_groups,
)


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("Adam", {"betas": [0.8, 0.99]}, torch.optim.Adam),
        ("SGD", {"momentum": 0.9, "nesterov": True}, torch.optim.SGD),
        ("RMSprop", {"momentum": 0.5}, torch.optim.RMSprop),
        ("RAdam", {"decoupled_weight_decay": True}, torch.optim.RAdam),
    ],
)
def test_each_optimiser_gets_its_settings(
    name: str, options: dict[str, Any], kind: type[torch.optim.Optimizer]
) -> None:
    network = build_model(name="custom_cnn", num_classes=2)
    node = {"_target_": f"torch.optim.{name}", "lr": 0.1, "weight_decay": 0.01} | options
    optimizer = build_optimizer(network, node=node)
    assert type(optimizer) is kind
    assert {group["lr"] for group in optimizer.param_groups} == {0.1}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.01, 0.0}
    for key, value in options.items():
        assert optimizer.param_groups[0][key] == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        (
            {"_target_": "torch.optim.SGD", "momentum": 0.0, "nesterov": True},
            "refuses its arguments: Nes",
        ),
        ({"_target_": "torch.optim.Adam", "betas": [1.5, 0.9]}, "refuses its arguments: Invalid beta"),
        ({"_target_": "torch.optim.Adam", "amsgard": True}, "no such argument; did you mean amsgrad"),
        ({"_target_": "torch.nn.Linear"}, "is no optimiser"),
        ({"_target_": "torch.optim.Adam", "lr": "fast"}, "optim.lr=fast: torch.optim.Adam takes"),
    ],
)
def test_a_wrong_optimiser_is_refused_in_one_sentence(node: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build_optimizer(nn.Linear(2, 2), node={"lr": 0.1} | node)


@pytest.mark.parametrize("key", [{"head_lr": 0.1}, {"layer_decay": 0.5}, {"freeze_epochs": 1}])
def test_layers_without_names_cannot_learn_apart(key: dict[str, Any]) -> None:
    node = {"_target_": "torch.optim.SGD", "lr": 1.0}
    assert len(build_optimizer(nn.Linear(2, 2), node=node).param_groups) == 1
    with pytest.raises(ConfigError, match="the network does not name its layers"):
        build_optimizer(nn.Linear(2, 2), node=node | key)


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
