"""The head of residual blocks above a classifier of patches."""

import pytest
import torch
from helpers.networks import build_model
from torch import nn
from torchvision.models.resnet import Bottleneck as Reference

from mammo.errors import ConfigError
from mammo.models.heads.residual_blocks import Bottleneck

HEAD = {"name": "residual_blocks", "hidden": 8, "out": 16}


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0", "custom_cnn"])
def test_every_weight_of_the_network_and_the_blocks_learns(name: str) -> None:
    size = (512, 512) if name == "custom_cnn" else (64, 48)
    model = build_model(name=name, num_classes=3, image_size=size, head=HEAD)
    logits = model(torch.rand(2, 1, *size))
    assert logits.shape == (2, 3)
    nn.functional.cross_entropy(logits, torch.tensor([0, 2])).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_head_is_the_blocks_and_the_classifier() -> None:
    """These are trained while `optim.freeze_epochs` freezes the rest."""
    model = build_model(name="resnet18", num_classes=2, image_size=(64, 48), head=HEAD)
    assert set(model.get_classifier()) >= {model.blocks, model.classifier}
    assert [block.branch[3].in_channels for block in model.blocks] == [8, 8]
    assert [block.branch[0].in_channels for block in model.blocks] == [512, 16]


def test_a_block_is_that_of_torchvision() -> None:
    torch.manual_seed(0)
    shortcut = nn.Sequential(nn.Conv2d(12, 32, 1, stride=2, bias=False), nn.BatchNorm2d(32))
    theirs = Reference(12, 8, stride=2, downsample=shortcut).eval()  # of 8 * 4 output channels
    ours = Bottleneck(12, hidden=8, out=32).eval()
    names = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3", "7": "bn3"}
    state = theirs.state_dict()
    ours.load_state_dict(
        {
            name: state[
                name.replace("shortcut", "downsample")
                if name.startswith("shortcut")
                else f"{names[name.split('.')[1]]}.{name.split('.')[2]}"
            ]
            for name in ours.state_dict()
        }
    )
    maps = torch.rand(2, 12, 9, 6)
    torch.testing.assert_close(ours(maps), theirs(maps))


def test_a_network_without_a_map_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"^model/head=residual_blocks: VisionTransformer gives no feature map"
    ):
        build_model(name="vit_tiny_patch16_224", num_classes=2, image_size=(64, 48), head=HEAD)
