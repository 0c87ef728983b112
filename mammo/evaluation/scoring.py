"""Scores of images from the classifier of a finished run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammo.config.instantiation import part_name
from mammo.data.images.dicom import Pixels
from mammo.data.store.store import Store
from mammo.data.tasks import CLASSES
from mammo.errors import ConfigError
from mammo.evaluation.explain.heatmaps import Heatmaps
from mammo.models.backbones import build_network
from mammo.models.box_head import pixel_boxes
from mammo.models.classifier import Classifier
from mammo.runs import RunFolder
from mammo.training.checkpoints import is_whole
from mammo.training.precision import choose_precision

Tta = Literal["none", "flips"]

# first parts of the names of the checkpoint's tensors that a prediction needs
_OWN = ("network", "mean", "std")
_DTYPE = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_FLIPS = ((3,), (2,), (2, 3))


@dataclass(frozen=True)
class ScoredBatch:
    """Results of one pass over a batch.

    Attributes:
        probability: B C, float32.
        heat: B H W, see `Heatmaps`.
        boxes: B 4, x_min, y_min, x_max, y_max in pixels, predicted by the box head for the images without
            flips; None without a box head.
    """

    probability: Tensor
    heat: NDArray[np.float32]
    boxes: Tensor | None


def open_classifier(run: RunFolder) -> Classifier:
    """Return the network of a run's best epoch, in evaluation mode.

    Raises:
        ConfigError: the checkpoint of the best epoch is missing, damaged or of another network.
    """
    file, config = run.checkpoints / "best.ckpt", run.config()
    if not is_whole(file):
        what = "is damaged" if file.exists() else "is not there"
        raise ConfigError(f"run={run.path}: {file} {what}; python train.py resume={run.path} writes it")
    size = (config["data"]["height"], config["data"]["width"])
    classes = CLASSES[config["task"]["name"]]
    network = build_network(config["model"], num_classes=len(classes), image_size=size, untrained=True)
    classifier = Classifier(network=network, mean=0.0, std=1.0)
    weights = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
    own = {name: value for name, value in weights.items() if name.partition(".")[0] in _OWN}
    try:
        classifier.load_state_dict(own)
    except RuntimeError as error:
        raise ConfigError(
            f"run={run.path}: {file} holds another network than the {part_name(config['model'])} of "
            "config.yaml; restore the run's own files"
        ) from error
    return classifier.eval()


class Scorer:
    """Computes the probabilities of images, on a GPU if there is one, in the number format of the training.

    Args:
        classifier: classifier of a run.
        size: H, W of the images.
        precision: see `trainer.precision`.
        batch_size: number of images per forward pass.
        tta: `flips` averages over the image and its flips along each axis and along both.
    """

    def __init__(
        self,
        classifier: Classifier,
        *,
        size: tuple[int, int],
        precision: str = "auto",
        batch_size: int = 16,
        tta: Tta = "none",
    ) -> None:
        on_gpu = torch.cuda.is_available()
        kind = choose_precision(
            precision, accelerator="gpu" if on_gpu else "cpu", network=classifier.network, size=size
        )
        self.device = torch.device("cuda" if on_gpu else "cpu")
        self.dtype = _DTYPE.get(kind)
        self.classifier = classifier.to(self.device)
        self.batch_size = batch_size
        self.tta = tta

    def __call__(self, images: Tensor) -> Tensor:
        """Return the probabilities, B C float32, of images B 1 H W in [0, 1]."""
        images = images.to(self.device)
        with torch.inference_mode(), self._number_format():
            plain = self.classifier(images).softmax(dim=1)
        return self._mean([plain, *self._flipped(images)]).cpu()

    def with_heat(self, images: Tensor, heatmaps: Heatmaps, *, classes: Sequence[int]) -> ScoredBatch:
        """Return the probabilities, as `__call__` does, and the heat of the images without flips.

        One pass computes both. The heat is computed in the number format of the probabilities, but for
        occlusion in float32, because the changes of probability that occlusion measures are small.

        Args:
            images: B 1 H W in [0, 1].
            heatmaps: heatmaps of the same classifier.
            classes: indices of classes; the heat is that of the most likely one.
        """
        images = images.to(self.device)
        flipped = self._flipped(images)
        found: list[Tensor] = []
        boxes: list[Tensor] = []

        def forward() -> tuple[Tensor, Tensor]:
            with self._number_format():
                output = self.classifier.output(images)
            logits = output.logits
            if self.classifier.has_boxes and output.boxes is not None:
                size = (images.shape[2], images.shape[3])
                boxes.append(pixel_boxes(output.boxes.detach(), size).cpu())
            found.append(self._mean([logits.detach().softmax(dim=1), *flipped]))
            among = torch.tensor(classes, device=self.device)
            return logits, among[found[0][:, among].argmax(dim=1)]

        heat = heatmaps.of_pass(images, forward)
        return ScoredBatch(found[0].cpu(), heat, boxes[0] if boxes else None)

    def _flipped(self, images: Tensor) -> list[Tensor]:
        """Return the probabilities, B C, of each flip of the test-time augmentation."""
        with torch.inference_mode(), self._number_format():
            return [
                self.classifier(images.flip(axes)).softmax(dim=1)
                for axes in (_FLIPS if self.tta == "flips" else ())
            ]

    @staticmethod
    def _mean(parts: list[Tensor]) -> Tensor:
        return torch.stack(parts).mean(dim=0)

    def _number_format(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None)

    def of_store(self, store: Store, rows: Sequence[int]) -> NDArray[np.float32]:
        """Return the probabilities, N C, of rows of a store, with one batch in memory at a time."""
        scores = []
        for start in range(0, len(rows), self.batch_size):
            scores.append(self(images_of(store, rows[start : start + self.batch_size])).numpy())
        return np.concatenate(scores)


def images_of(store: Store, rows: Sequence[int]) -> Tensor:
    """Return rows of a store as images, B 1 H W in [0, 1]."""
    return as_images(store.read(rows))


def as_images(pixels: Pixels) -> Tensor:
    """Convert pixels, B H W, uint8 or uint16 of full range, to images, B 1 H W in [0, 1]."""
    return torch.from_numpy(pixels[:, None]).float() / np.iinfo(pixels.dtype).max
