"""The custom network of the 2019 study."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from torch import Tensor, nn

from mammo.models.pooling import AVERAGE, make_pool

Activation = Literal["relu", "prelu", "elu", "leaky_relu"]
Norm = Literal["after", "before"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "prelu": nn.PReLU,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
}


class _Residual(nn.Module):
    def __init__(
        self, channels: int, activation: Callable[[], nn.Module], norm: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.between = activation()
        self.second = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.norm = norm or nn.Identity()
        self.after = activation()

    def forward(self, features: Tensor) -> Tensor:
        branch = self.norm(self.second(self.between(self.first(features))))
        output: Tensor = self.after(features + branch)
        return output


class CustomCNN(nn.Module):
    """Three residual stages of 16, 32 and 64 channels, two convolutions to 256, a pool, a linear layer.

    Maps B 1 H W of any size to B num_classes logits. A stage is a convolution of stride 2, a max
    pool and a residual block, with two batch normalisations:

    - `after` (the study's): one before and one after the residual block, each after an activation;
    - `before`: each between a convolution and its activation, as in ResNet (He et al. 2016): one at the
      stage's first convolution, one at the residual block's second, before the addition.

    Args:
        num_classes: number of classes of the task.
        activation: activation after the convolutions.
        norm: position of the batch normalisations, as described above.
        pool: node of the pool of the last feature map, see `make_pool`; the average in the study.
        dropout: probability before the linear layer (0.1 in the study's PReLU variant).
    """

    def __init__(
        self,
        *,
        num_classes: int,
        activation: Activation = "relu",
        norm: Norm = "after",
        pool: Mapping[str, Any] = AVERAGE,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        act = _ACTIVATIONS[activation]

        def halve(channels_in: int, channels: int, *normalise: nn.Module) -> list[nn.Module]:
            convolution = nn.Conv2d(channels_in, channels, kernel_size=3, stride=2, padding=1)
            return [convolution, *normalise, act()]

        def shrink() -> nn.Module:
            return nn.MaxPool2d(2, ceil_mode=True)  # at least one pixel, however small the image

        def stage(channels_in: int, channels: int) -> list[nn.Module]:
            first, second = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
            if norm == "before":
                return [*halve(channels_in, channels, first), shrink(), _Residual(channels, act, second)]
            return [*halve(channels_in, channels), shrink(), first, _Residual(channels, act), second]

        self.features = nn.Sequential(
            *stage(1, 16), *stage(16, 32), *stage(32, 64), *halve(64, 128), shrink(), *halve(128, 256)
        )
        self.pool = make_pool(pool, channels=256)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(256, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """B 1 H W to B num_classes logits."""
        return self.forward_head(self.forward_features(images))

    def forward_features(self, images: Tensor) -> Tensor:
        """B 1 H W to the last feature map, B 256 h w; timm's name for this method."""
        features: Tensor = self.features(images)
        return features

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool a feature map, B 256 h w, and classify it; timm's name for this method.

        Args:
            features: output of `forward_features`.
            pre_logits: whether to return the input of the classifier, B 256, instead of logits.
        """
        pooled: Tensor = self.dropout(self.pool(features))
        output: Tensor = pooled if pre_logits else self.classifier(pooled)
        return output

    def get_classifier(self) -> nn.Module:
        """Return the linear layer; timm's name for this method."""
        return self.classifier

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns of the layers from input to output, in timm's format; unmatched parameters come last.

        Args:
            coarse: whether a layer is a stage (the first one without its convolution, which is the stem; the
                last two convolutions form one more) rather than a convolution or residual block with the
                modules up to the next.
        """
        starts = [
            index for index, module in enumerate(self.features) if isinstance(module, nn.Conv2d | _Residual)
        ]
        if coarse:
            starts = [starts[layer] for layer in (0, 1, 2, 4, 6)]
        ends = [*starts[1:], len(self.features)]
        stem, *blocks = (
            rf"^features\.(?:{'|'.join(map(str, range(start, end)))})\."
            for start, end in zip(starts, ends, strict=True)
        )
        return {"stem": stem, "blocks": [(block, (number,)) for number, block in enumerate(blocks)]}
