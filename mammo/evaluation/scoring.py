"""Scores of images from the classifier of a finished run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammo.data.images.dicom import Pixels
from mammo.data.store.store import Store
from mammo.data.tasks import CLASSES
from mammo.errors import ConfigError
from mammo.evaluation.explain.heatmaps import Heatmaps
from mammo.models.backbones import build_model
from mammo.models.box_head import pixel_boxes
from mammo.models.classifier import Classifier
from mammo.runs import RunFolder
from mammo.training.checkpoints import is_whole
from mammo.training.precision import choose_precision

Tta = Literal["none", "flips"]

# of the checkpoint's tensors those that a prediction needs
_OWN = ("network", "mean", "std")
_DTYPE = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_FLIPS = ((3,), (2,), (2, 3))


@dataclass(frozen=True)
class Seen:
    """What one pass over a batch gives.

    Attributes:
        probability: B C, float32.
        heat: B H W, see `Heatmaps`.
        boxes: B 4, x_min, y_min, x_max, y_max in pixels, where the network has a box head; of the plain
            images without flips.
    """

    probability: Tensor
    heat: NDArray[np.float32]
    boxes: Tensor | None


def open_classifier(run: RunFolder) -> Classifier:
    """The network of a run's best epoch, in evaluation mode.

    Raises:
        ConfigError: the run has no whole checkpoint of a best epoch, or one of another network.
    """
    file, config = run.checkpoints / "best.ckpt", run.config()
    if not is_whole(file):
        what = "is damaged" if file.exists() else "is not there"
        raise ConfigError(f"run={run.path}: {file} {what}; python train.py resume={run.path} writes it")
    options: dict[str, Any] = config["model"] | {"weights": None}
    if "pretrained" in options:
        options["pretrained"] = False
    size = (config["data"]["height"], config["data"]["width"])
    network = build_model(num_classes=len(CLASSES[config["task"]["name"]]), image_size=size, **options)
    classifier = Classifier(network=network, mean=0.0, std=1.0)
    weights = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
    own = {name: value for name, value in weights.items() if name.partition(".")[0] in _OWN}
    try:
        classifier.load_state_dict(own)
    except RuntimeError as error:
        raise ConfigError(
            f"run={run.path}: {file} holds another network than config.yaml names, {options['name']}; "
            "put the run's own files back"
        ) from error
    return classifier.eval()


class Scorer:
    """Gives images their probabilities, on the device and in the number format of the training.

    Args:
        classifier: classifier of a run.
        size: H, W of the images.
        precision: as `trainer.precision`.
        batch_size: images that go through the network at once.
        tta: `flips` takes the mean over the image and its flips on either axis and both.
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
        """B 1 H W in [0, 1] to B C probabilities, float32."""
        images = images.to(self.device)
        with torch.inference_mode(), self._number_format():
            plain = self.classifier(images).softmax(dim=1)
        return self._mean([plain, *self._flipped(images)]).cpu()

    def with_heat(self, images: Tensor, heatmaps: Heatmaps, *, classes: Sequence[int]) -> Seen:
        """The probabilities that calling it gives, and the heat of the plain images, of one pass.

        The heat is in the number format of the probabilities; that of occlusion in float32, for the falls of
        probability that it tells are small.

        Args:
            images: B 1 H W in [0, 1].
            heatmaps: heatmaps of the same classifier.
            classes: the heat is of the likeliest of these.
        """
        images = images.to(self.device)
        flipped = self._flipped(images)
        found: list[Tensor] = []
        boxes: list[Tensor] = []

        def forward() -> tuple[Tensor, Tensor]:
            with self._number_format():
                if self.classifier.has_boxes:
                    logits, fractions = self.classifier.with_boxes(images)
                    boxes.append(pixel_boxes(fractions.detach(), (images.shape[2], images.shape[3])).cpu())
                else:
                    logits = self.classifier(images)
            found.append(self._mean([logits.detach().softmax(dim=1), *flipped]))
            among = torch.tensor(classes, device=self.device)
            return logits, among[found[0][:, among].argmax(dim=1)]

        heat = heatmaps.of_pass(images, forward)
        return Seen(found[0].cpu(), heat, boxes[0] if boxes else None)

    def _flipped(self, images: Tensor) -> list[Tensor]:
        """B C probabilities of each flip that is wanted."""
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
        """N C probabilities of rows of a store, a batch in memory at a time."""
        scores = []
        for start in range(0, len(rows), self.batch_size):
            scores.append(self(images_of(store, rows[start : start + self.batch_size])).numpy())
        return np.concatenate(scores)


def images_of(store: Store, rows: Sequence[int]) -> Tensor:
    """B 1 H W in [0, 1] from rows of a store."""
    return as_images(store.read(rows))


def as_images(pixels: Pixels) -> Tensor:
    """B 1 H W in [0, 1] from B H W, uint8 or uint16 of full scale."""
    return torch.from_numpy(pixels[:, None]).float() / np.iinfo(pixels.dtype).max
