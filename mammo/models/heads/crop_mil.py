"""A head with two passes: a map of the whole image, and the crops where it is highest at full resolution."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mammo.errors import ConfigError
from mammo.models.cross_view import last_features
from mammo.models.example_input import dry_run
from mammo.models.heads.map_pools import positive_evidence
from mammo.models.heads.patch_map import PatchMap
from mammo.models.nested import NestedNetwork
from mammo.models.output import Output, as_output
from mammo.models.pooling import GatedAttention, attention_weights


class CropMil(NestedNetwork):
    """Global scores of a `PatchMap`, and scores of the crops where its map is highest; their mean.

    After Shen et al. 2021, An interpretable classifier for high-resolution breast cancer screening images
    utilizing weakly supervised localization (GMIC). The crops are cut from the image that the network gets,
    encoded by a second network of the same structure, which starts as a copy, and combined by gated
    attention. In contrast to the paper, a crop is centred at the highest cell of the map instead of the
    window of the highest sum, the logits are averaged instead of fused by a third classifier, and the two
    networks have the same structure. The map is that of the positive classes against the others, or that of
    the most likely class if none is positive. Cells are taken as equal parts of the image.

    Args:
        network: network with timm's interface: `forward_features`, `forward_head` with `pre_logits`, and
            `get_classifier`, a linear layer.
        num_classes: number of classes C of the task.
        image_size: H and W of the images.
        positives: indices of the positive classes.
        top_k: number of cells whose mean are the global logits, or below 1 their share.
        reduce: factor by which the image of the first pass is smaller, by averages of squares.
        crop: side of the crops, pixels of the image.
        crops: number K of crops, which do not overlap.
        hidden: number of hidden units of the attention.

    Raises:
        ConfigError: see `PatchMap`; or the crops are larger than the image, or too small for the network.
    """

    image_networks = ("network.network", "crop_network.network")

    def __init__(
        self,
        *,
        network: nn.Module,
        num_classes: int,
        image_size: tuple[int, int],
        positives: Sequence[int] = (),
        top_k: float = 0.1,
        reduce: int = 1,
        crop: int = 256,
        crops: int = 6,
        hidden: int = 128,
    ) -> None:
        super().__init__()
        height, width = image_size
        for key, value in (("crop", crop), ("reduce", reduce)):
            if value > min(image_size):
                raise ConfigError(
                    f"model.head.{key}={value}: is larger than a side of the image of {height} x {width} "
                    f"pixels; give at most {min(image_size)}"
                )
        self.network = PatchMap(
            network=network,
            num_classes=num_classes,
            image_size=(height // reduce, width // reduce),
            positives=positives,
            top_k=top_k,
        )
        self.crop_network = CropEncoder(copy.deepcopy(network), crop=crop)
        self.attention = GatedAttention(self.crop_network.classifier().in_features, hidden=hidden)
        self.positives = tuple(positives)
        self.reduce = reduce
        self.crop = crop
        self.crops = crops

    def forward(self, images: Tensor) -> Output:
        """B 1 H W to logits, B C, maps, B C h w, crops, B K 4, and crop_attention, B K.

        A crop that does not fit beside the higher ones is NaN, and its attention is 0.
        """
        output = as_output(self.network(F.avg_pool2d(images, self.reduce) if self.reduce > 1 else images))
        assert output.maps is not None
        corners, present = highest_crops(
            self._evidence(output.maps, output.logits),
            size=(images.shape[2], images.shape[3]),
            crop=self.crop,
            count=self.crops,
        )
        cut = (
            cut_crops(images, corners, crop=self.crop)
            .flatten(0, 1)
            .contiguous(memory_format=torch.channels_last)
        )
        features = self.crop_network(cut)
        features = features.reshape(-1, self.crops, features.shape[1])  # B K D
        attention = attention_weights(self.attention(features).float(), present)
        pooled = (attention.to(features)[:, :, None] * features).sum(dim=1)
        local = self.crop_network.classifier()(pooled).float()
        top_left = corners.flip(2)
        boxes = torch.cat([top_left, top_left + self.crop], dim=2).float()
        return Output(
            (output.logits + local) / 2,
            maps=output.maps,
            crops=boxes.masked_fill(~present[:, :, None], torch.nan),
            crop_attention=attention,
        )

    def _evidence(self, maps: Tensor, logits: Tensor) -> Tensor:
        """Return where the map is to be seen at full resolution, B h w."""
        maps = maps.detach()
        if not self.positives:
            return maps[torch.arange(maps.shape[0], device=maps.device), logits.argmax(dim=1)]
        return positive_evidence(maps, positives=self.positives)


class CropEncoder(nn.Module):
    """The features of crops that the classifier of a network gets.

    Args:
        network: see `CropMil`.
        crop: side of the crops, pixels.

    Raises:
        ConfigError: the network gives no features that a linear classifier gets, or the crops are too small.
    """

    def __init__(self, network: nn.Module, *, crop: int) -> None:
        super().__init__()
        self.network = network
        name = type(network).__name__
        try:
            features = dry_run(self, torch.empty(1, 1, crop, crop)).shape[1]
        except Exception as error:  # networks refuse a size by errors of any type
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise ConfigError(
                f"model.head.crop={crop}: {name} does not encode crops of {crop} x {crop} pixels ({reason}); "
                "give another model.head.crop or another network"
            ) from error
        classifier = getattr(network, "get_classifier", lambda: None)()
        if not isinstance(classifier, nn.Linear) or classifier.in_features != features:
            raise ConfigError(
                f"model/head=mil: the classifier of {name} is no linear layer of its pooled features; give "
                "model/head=patch_map or another network"
            )

    def forward(self, crops: Tensor) -> Tensor:
        """N 1 H W to N D."""
        network: Any = self.network
        features: Tensor = network.forward_head(last_features(network, crops), pre_logits=True)
        return features.flatten(1)

    def classifier(self) -> nn.Linear:
        """Return the linear layer of N D to N C logits."""
        network: Any = self.network
        classifier: nn.Linear = network.get_classifier()
        return classifier


def highest_crops(evidence: Tensor, *, size: tuple[int, int], crop: int, count: int) -> tuple[Tensor, Tensor]:
    """Choose the crops around the highest cells, one after another, each beside those before it.

    Args:
        evidence: B h w; of equal cells the first one is chosen.
        size: H and W of the images.
        crop: side of a crop, pixels; a crop at the edge of the image is moved inside.
        count: number K of crops.

    Returns:
        corners: B K 2, top and left of each crop, pixels.
        present: B K, False for a crop that would overlap with one before it.
    """
    cells = [
        (((torch.arange(cells, device=evidence.device) + 0.5) * pixels / cells) - crop / 2)
        .round()
        .clamp(0, pixels - crop)
        .long()
        for pixels, cells in zip(size, evidence.shape[1:], strict=True)
    ]
    down, across = cells
    corner_of = torch.stack(
        [down.repeat_interleave(across.shape[0]), across.repeat(down.shape[0])], dim=1
    )  # hw 2
    left_over = evidence.flatten(1)
    corners, present = [], []
    for _ in range(count):
        height, cell = left_over.max(dim=1)
        corners.append(corner_of[cell])
        present.append(height > -torch.inf)
        apart = (corner_of[None] - corners[-1][:, None]).abs().amax(dim=2) >= crop  # B hw
        left_over = left_over.masked_fill(~apart, -torch.inf)
    return torch.stack(corners, dim=1), torch.stack(present, dim=1)


def cut_crops(images: Tensor, corners: Tensor, *, crop: int) -> Tensor:
    """Return the squares of images at the given corners, B K 1 crop crop.

    Args:
        images: B 1 H W.
        corners: B K 2, top and left, pixels.
        crop: side of a square, pixels.
    """
    steps = torch.arange(crop, device=images.device)
    rows, columns = (corners[:, :, axis, None] + steps for axis in (0, 1))  # B K crop
    image = torch.arange(images.shape[0], device=images.device)[:, None, None, None]
    return images[:, 0][image, rows[:, :, :, None], columns[:, :, None, :]][:, :, None]
