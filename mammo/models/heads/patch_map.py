"""A head that scores every cell of the feature map with the network's own classifier."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mammo.config.choices import WITH_BACKGROUND
from mammo.errors import ConfigError
from mammo.models.cross_view import last_features
from mammo.models.example_input import dry_run
from mammo.models.feature_maps import rows_of_tokens
from mammo.models.heads.map_pools import (
    lesion_weighted,
    log_mean_exp,
    noisy_or,
    positive_evidence,
    positive_odds,
    top_k_mean,
    window_mean,
)
from mammo.models.nested import NestedNetwork
from mammo.models.output import Output

MapPool = Literal["top_k", "lse", "noisy_or", "lesion_weighted", "positive_odds"]


class PatchMap(NestedNetwork):
    """Scores of the cells of a network's feature map, pooled to scores of the image.

    The layers of the network above its feature map are applied to each cell as if it were the whole map. So
    there is no new layer, and the classifier of patches or of whole images becomes one of places. Cells
    outside the breast are scored too. A window averages what is pooled; the maps are of single cells, because
    averaged ones point past small lesions.

    - `top_k`: mean of the highest cells of each class.
    - `lse`: see `log_mean_exp`.
    - `noisy_or`: probability that at least one cell is positive.
    - `lesion_weighted`: see `lesion_weighted`; the network has one class more, the background, as the first.
      The logits are multiplied by a learned scale, which begins at 1. The maps are the evidence for each
      class, and 0 where it is against the class.
    - `positive_odds`: mean of the log odds of the positive class in its highest cells; the network has the
      background as its first class. Scale and offset are learned, and begin at 1 and 0.

    Args:
        network: network with timm's methods `forward_features` and `forward_head`.
        num_classes: number of classes C of the task.
        image_size: H and W of the images.
        positives: indices of the positive classes.
        pool: pooling of the map, as above.
        top_k: number of cells of `top_k` and `positive_odds`, or below 1 their share.
        sharpness: r of `lse`.
        window: side of the square of cells, odd, over which the scores are averaged before they are pooled.
        odds_power: see `lesion_weighted`.

    Raises:
        ConfigError: the network gives no map, or the pooling does not suit the task or the map.
    """

    image_networks = ("network",)

    def __init__(
        self,
        *,
        network: nn.Module,
        num_classes: int,
        image_size: tuple[int, int],
        positives: Sequence[int] = (),
        pool: MapPool = "top_k",
        top_k: float = 0.1,
        sharpness: float = 5.0,
        window: int = 1,
        odds_power: float = 1.0,
    ) -> None:
        super().__init__()
        if top_k <= 0 or (top_k > 1 and top_k != int(top_k)):
            raise ConfigError(
                f"model.head.top_k={top_k}: give a share of the cells, or a whole number of them"
            )
        if sharpness <= 0:
            raise ConfigError(f"model.head.sharpness={sharpness}: must be above 0; give 5 as in the paper")
        if window < 1 or window % 2 == 0:
            raise ConfigError(f"model.head.window={window}: give an odd number of cells, such as 1 or 3")
        if odds_power <= 0:
            raise ConfigError(f"model.head.odds_power={odds_power}: must be above 0; give 1, or more")
        if pool in ("noisy_or", "positive_odds") and (num_classes, len(positives)) != (2, 1):
            raise ConfigError(
                f"model.head.pool={pool}: needs two classes, one of them positive; the task has "
                f"{num_classes} classes, {len(positives)} of them positive; give model.head.pool=top_k or "
                "another task"
            )
        self.network = network
        self.positives = tuple(positives)
        self.pool = pool
        self.top_k = top_k
        self.sharpness = sharpness
        self.window = window
        self.odds_power = odds_power
        if pool in WITH_BACKGROUND:
            self.scale = nn.Parameter(torch.ones(()))
        if pool == "positive_odds":
            self.offset = nn.Parameter(torch.zeros(()))
        self._check(num_classes, image_size)

    def forward(self, images: Tensor) -> Output:
        """B 1 H W to logits, B C, maps, B C h w, and with a background also cells, B C + 1 h w."""
        cells = cell_scores(self.network, images)
        pooled = cells if self.window == 1 else window_mean(cells, window=self.window)
        if self.pool == "lesion_weighted":
            logits, evidence = lesion_weighted(pooled, odds_power=self.odds_power)
            if self.window > 1:
                _, evidence = lesion_weighted(cells, odds_power=self.odds_power)
            # without those places that speak against a class: beside them, all others would look hot
            return Output(self.scale * logits, maps=(self.scale * evidence).relu(), cells=cells)
        if self.pool == "positive_odds":
            odds = positive_odds(pooled, positive=self.positives[0], top_k=self.top_k)
            places = positive_evidence(cells, positives=[1 + self.positives[0]])
            return Output(
                self._classes(self.scale * odds + self.offset),
                maps=self._classes(self.scale * places + self.offset),
                cells=cells,
            )
        if self.pool == "noisy_or":
            return Output(noisy_or(pooled, positive=self.positives[0]), maps=cells)
        if self.pool == "lse":
            return Output(log_mean_exp(pooled, sharpness=self.sharpness), maps=cells)
        return Output(top_k_mean(pooled, top_k=self.top_k), maps=cells)

    def _classes(self, odds: Tensor) -> Tensor:
        """Return the scores of two classes, B 2 ..., with the log odds B ... of the positive one."""
        half = odds / 2
        return torch.stack([-half, half] if self.positives[0] == 1 else [half, -half], dim=1)

    def _check(self, num_classes: int, image_size: tuple[int, int]) -> None:
        """Refuse a network without a map, and more cells than the map has."""
        name, (height, width) = type(self.network).__name__, image_size
        if not all(hasattr(self.network, method) for method in ("forward_features", "forward_head")):
            raise ConfigError(
                f"model/head: {name} has no forward_features and forward_head, which a map needs; add these "
                "methods of timm to it, or give model/head=global"
            )
        try:
            maps = dry_run(self, torch.empty(1, 1, *image_size)).maps
        except Exception as error:  # networks refuse the cells by errors of any type
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise ConfigError(
                f"model/head: {name} gives no map of images of {height} x {width} whose cells can be scored "
                f"({reason}); give model/head=global or another network"
            ) from error
        classes, rows, columns = maps.shape[1:]
        if classes != num_classes:
            raise ConfigError(
                f"model/head: {name} gives {classes} scores of each cell for {num_classes} classes; "
                "give model/head=global or another network"
            )
        if rows * columns == 1:
            raise ConfigError(
                f"model/head: the map of {name} has a single cell for images of {height} x {width}, which "
                "shows no place; give a larger image, another network or model/head=global"
            )
        if self.top_k > rows * columns:
            raise ConfigError(
                f"model.head.top_k={self.top_k}: the map has {rows} x {columns} cells; give "
                f"{rows * columns} or less, or a share below 1"
            )


def cell_scores(network: nn.Module, images: Tensor) -> Tensor:
    """Return the logits of each cell of a network's feature map, B C h w, float32.

    Args:
        network: network with timm's methods `forward_features` and `forward_head`.
        images: B 1 H W.
    """
    features: Tensor = last_features(network, images)
    if features.dim() == 3:
        prefix = getattr(network, "num_prefix_tokens", 0)
        tokens = features[:, prefix:]
        rows = rows_of_tokens(tokens.shape[1], (images.shape[2], images.shape[3]))
        columns = tokens.shape[1] // rows
        # the token in the place of the class token too, so that any pool of tokens returns it
        cells = tokens.reshape(-1, 1, tokens.shape[2]).expand(-1, 1 + prefix, -1)
    elif getattr(network, "output_fmt", "NCHW") == "NHWC":
        rows, columns = features.shape[1], features.shape[2]
        cells = features.reshape(-1, 1, 1, features.shape[3])
    else:
        rows, columns = features.shape[2], features.shape[3]
        cells = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1], 1, 1)
    head: Any = network  # timm's interface, which nn.Module does not declare
    scores: Tensor = head.forward_head(cells)
    return scores.float().reshape(-1, rows, columns, scores.shape[1]).permute(0, 3, 1, 2)
