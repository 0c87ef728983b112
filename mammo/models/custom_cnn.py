"""The custom network of the 2019 study."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

Activation = Literal["relu", "prelu", "elu", "leaky_relu"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "prelu": nn.PReLU,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
}


class _Residual(nn.Module):
    def __init__(self, channels: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.between = activation()
        self.second = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.after = activation()

    def forward(self, features: Tensor) -> Tensor:
        output: Tensor = self.after(features + self.second(self.between(self.first(features))))
        return output


class CustomCNN(nn.Module):
    """Three residual stages of 16, 32 and 64 channels, two convolutions to 256, average pool, linear.

    Takes B 1 H W of any size and gives B num_classes logits.

    Args:
        num_classes: of the task.
        activation: after the convolutions.
        dropout: probability before the linear layer (0.1 in the study's PReLU variant).
    """

    def __init__(self, *, num_classes: int, activation: Activation = "relu", dropout: float = 0.0) -> None:
        super().__init__()
        act = _ACTIVATIONS[activation]

        def halve(channels_in: int, channels: int) -> list[nn.Module]:
            return [nn.Conv2d(channels_in, channels, kernel_size=3, stride=2, padding=1), act()]

        def pool() -> nn.Module:
            return nn.MaxPool2d(2, ceil_mode=True)  # never to nothing, however small the image

        self.features = nn.Sequential(
            *halve(1, 16), pool(), nn.BatchNorm2d(16), _Residual(16, act),
            nn.BatchNorm2d(16), *halve(16, 32), pool(), nn.BatchNorm2d(32), _Residual(32, act),
            nn.BatchNorm2d(32), *halve(32, 64), pool(), nn.BatchNorm2d(64), _Residual(64, act),
            nn.BatchNorm2d(64), *halve(64, 128), pool(), *halve(128, 256),
        )  # fmt: skip
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(256, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """B 1 H W to B num_classes logits."""
        logits: Tensor = self.classifier(self.dropout(self.pool(self.features(images)).flatten(1)))
        return logits
