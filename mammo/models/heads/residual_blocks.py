"""A head of residual blocks above the feature map of a network, such as a classifier of patches."""

import torch
from torch import Tensor, nn

from mammo.errors import ConfigError
from mammo.models.cross_view import last_features
from mammo.models.example_input import dry_run
from mammo.models.layer_depth import head_modules
from mammo.models.nested import NestedNetwork


class ResidualBlocks(NestedNetwork):
    """Residual blocks on the last feature map of a network, global average pooling, and a linear classifier.

    Shen et al. 2019, Deep learning to improve breast cancer detection on screening mammography: a classifier
    of patches becomes one of whole images. The classifier of the network is not used.

    Args:
        network: network with timm's method `forward_features`, of B 1 H W to B F h w.
        num_classes: number of classes C of the task.
        image_size: H and W of the images.
        blocks: number of blocks; each halves the height and width of the map.
        hidden: number of channels within a block.
        out: number of channels that a block returns.

    Raises:
        ConfigError: the network gives no map.
    """

    image_networks = ("network",)

    def __init__(
        self,
        *,
        network: nn.Module,
        num_classes: int,
        image_size: tuple[int, int],
        blocks: int = 2,
        hidden: int = 512,
        out: int = 1024,
    ) -> None:
        super().__init__()
        channels = _map_channels(network, image_size)
        for name in head_modules(network):
            network.set_submodule(name, nn.Identity())
        self.network = network
        widths = [channels, *[out] * blocks]
        self.blocks = nn.Sequential(*(Bottleneck(width, hidden=hidden, out=out) for width in widths[:-1]))
        self.classifier = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """B 1 H W to logits, B C."""
        maps: Tensor = self.blocks(last_features(self.network, images))
        logits: Tensor = self.classifier(maps.mean(dim=(2, 3)))
        return logits


class Bottleneck(nn.Module):
    """A residual block of convolutions of 1 x 1, 3 x 3 and 1 x 1, which halves height and width.

    He et al. 2016, Deep residual learning for image recognition.

    Args:
        channels: number of input channels.
        hidden: number of channels of the first two convolutions.
        out: number of output channels.
    """

    def __init__(self, channels: int, *, hidden: int, out: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride=2, bias=False), nn.BatchNorm2d(out))

    def forward(self, maps: Tensor) -> Tensor:
        """B channels h w to B out h/2 w/2, each rounded up."""
        found: Tensor = (self.branch(maps) + self.shortcut(maps)).relu()
        return found


class _Features(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = last_features(self.network, images)
        return features


def _map_channels(network: nn.Module, image_size: tuple[int, int]) -> int:
    """Return the number of channels of the last feature map; refuse a network without one."""
    features = None
    if hasattr(network, "forward_features"):
        features = dry_run(_Features(network), torch.empty(1, 1, *image_size))
    if features is None or features.dim() != 4 or getattr(network, "output_fmt", "NCHW") != "NCHW":
        raise ConfigError(
            f"model/head=residual_blocks: {type(network).__name__} gives no feature map of B C h w; give "
            "model/head=global or another network"
        )
    return int(features.shape[1])
