"""Scores of samples from the classifier of a finished run; nothing else runs a network for its scores."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mammo.config.instantiation import part_name
from mammo.data.freed_memory import keep_freed_memory
from mammo.data.images.dicom import Pixels
from mammo.data.loading.loader import Batch, StoreDataset, scaled
from mammo.data.samples import sample_settings, sample_size, sides_of
from mammo.data.tasks import Task
from mammo.errors import ConfigError
from mammo.evaluation.explain.heatmaps import Heatmaps
from mammo.metrics.epoch_scores import average_units
from mammo.models.backbones import build_network
from mammo.models.box_head import pixel_boxes
from mammo.models.classifier import Classifier
from mammo.models.example_input import dry_run, example_input
from mammo.models.output import Output
from mammo.runs import RunFolder
from mammo.training.checkpoints import is_whole
from mammo.training.devices.precision import choose_precision

Tta = Literal["none", "flips", "scales", "flips_scales"]

# first parts of the names of the checkpoint's tensors that a prediction needs
_OWN = ("network", "mean", "std")
_DTYPE = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
_FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))  # flipped axes; the first are the images
_SCALES = (1.0, 0.9, 1.1)  # factors of height and width


@dataclass(frozen=True)
class Scores:
    """Probabilities of N samples, or of B samples of a batch, float32.

    Attributes:
        probability: N C.
        parts: N P C, of each view by itself and, of exams, of each side, NaN where it is missing; None for a
            network of one view.
    """

    probability: Tensor
    parts: Tensor | None = None

    @classmethod
    def of(cls, output: Output) -> Self:
        """Return the probabilities of the output of a network."""
        parts = output.part_logits
        return cls(
            output.logits.detach().softmax(dim=1), None if parts is None else parts.detach().softmax(dim=-1)
        )

    @classmethod
    def joined(cls, scores: Sequence[Self], join: Callable[[list[Tensor]], Tensor]) -> Self:
        """Return the scores whose tensors `join` makes of those of several scores."""
        parts = [each.parts for each in scores if each.parts is not None]
        return cls(join([each.probability for each in scores]), join(parts) if parts else None)


@dataclass(frozen=True)
class ScoredBatch:
    """Results of one pass over a batch.

    Attributes:
        scores: probabilities of the B samples.
        heat: B V H W, or B H W for images without the axis of the views, see `Heatmaps`.
        boxes: B 4, x_min, y_min, x_max, y_max in pixels, predicted by the box head for the images without
            augmentation; None without a box head.
        crops: B V K 4 and B V K, crops and their attention of the images without augmentation, see `Output`;
            None for a network without crops.
    """

    scores: Scores
    heat: NDArray[np.float32]
    boxes: Tensor | None
    crops: tuple[NDArray[np.float32], NDArray[np.float32]] | None


def open_classifier(run: RunFolder) -> Classifier:
    """Return the network of a run's best epoch, in evaluation mode.

    Raises:
        ConfigError: the checkpoint of the best epoch is missing, damaged or of another network.
    """
    file, config = run.checkpoints / "best.ckpt", run.config()
    if not is_whole(file):
        what = "is damaged" if file.exists() else "is not there"
        raise ConfigError(f"run={run.path}: {file} {what}; python train.py resume={run.path} writes it")
    size = sample_size(config["data"])
    task = Task.of(config["task"])
    network = build_network(
        config["model"],
        num_classes=len(task.classes),
        image_size=size,
        sides=sides_of(**sample_settings(config["data"])),
        positives=task.positives,
        untrained=True,
    )
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
    """Computes the probabilities of samples, on a GPU if there is one, in the number format of the training.

    Args:
        classifier: classifier of a run.
        size: H, W of the images.
        precision: see `trainer.precision`.
        batch_size: number of samples per forward pass.
        tta: `flips` averages over the image and its flips along each axis and along both; `scales` over the
            image and the image resized to 0.9 and 1.1 times its size; `flips_scales` over all flips of all
            three sizes.

    Raises:
        ConfigError: the network takes images of one size only, which scales need not have.
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
        if not on_gpu:
            keep_freed_memory()
        kind = choose_precision(
            precision, accelerator="gpu" if on_gpu else "cpu", network=classifier.network, size=size
        )
        self.device = torch.device("cuda" if on_gpu else "cpu")
        self.dtype = _DTYPE.get(kind)
        self.classifier = classifier.to(self.device)
        self.batch_size = batch_size
        self.passes = [
            (axes, scale)
            for scale in (_SCALES if tta in ("scales", "flips_scales") else (1.0,))
            for axes in (_FLIPS if tta in ("flips", "flips_scales") else ((),))
        ]
        for _, scale in self.passes:
            if scale != 1:
                _check_scale(classifier.network, size, scale, tta=tta)

    def __call__(self, images: Tensor, present: Tensor | None = None) -> Scores:
        """Return the probabilities of samples.

        Args:
            images: B V 1 H W in [0, 1], or B 1 H W for samples of one image.
            present: B V, whether the sample has the image; None if it has all.
        """
        images, present = self._moved(images, present)
        with torch.inference_mode(), self._number_format():
            plain = Scores.of(self.classifier.output(images, present))
        return _mean([plain, *self._augmented(images, present)])

    def with_heat(
        self,
        images: Tensor,
        heatmaps: Heatmaps,
        *,
        classes: Sequence[int],
        present: Tensor | None = None,
    ) -> ScoredBatch:
        """Return the probabilities, as `__call__` does, and the heat of the images without augmentation.

        One pass computes both. The heat is computed in the number format of the probabilities, but for
        occlusion in float32, because the changes of probability that occlusion measures are small.

        Args:
            images: B V 1 H W in [0, 1], or B 1 H W for samples of one image.
            heatmaps: heatmaps of the same classifier.
            classes: indices of classes; the heat is that of the most likely one.
            present: B V, whether the sample has the image; None if it has all.
        """
        images, present = self._moved(images, present)
        augmented = self._augmented(images, present)
        found: list[Scores] = []
        boxes: list[Tensor] = []
        crops: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []

        def forward() -> tuple[Output, Tensor]:
            with self._number_format():
                output = self.classifier.output(images, present)
            if output.boxes is not None:
                size = (images.shape[-2], images.shape[-1])
                boxes.append(pixel_boxes(output.boxes.detach(), size).cpu())
            if output.crops is not None and output.crop_attention is not None:
                seen, weights = (part.detach().float() for part in (output.crops, output.crop_attention))
                crops.append((seen.cpu().numpy(), weights.cpu().numpy()))
            found.append(_mean([Scores.of(output), *augmented]))
            among = torch.tensor(classes)
            chosen = among[found[0].probability[:, among].argmax(dim=1)]
            return output, chosen.to(self.device)

        heat = heatmaps.of_pass(images, forward, present=present)
        return ScoredBatch(found[0], heat, boxes[0] if boxes else None, crops[0] if crops else None)

    def maps(self, images: Tensor) -> Tensor | None:
        """Return the network's own maps, B V C h w; None if it has none.

        Args:
            images: B V 1 H W in [0, 1], or B 1 H W for samples of one image.
        """
        with torch.inference_mode(), self._number_format():
            found = self.classifier.output(images.to(self.device)).maps
        return None if found is None else found.float().cpu()

    def _moved(self, images: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return images.to(self.device), None if present is None else present.to(self.device)

    def _augmented(self, images: Tensor, present: Tensor | None) -> list[Scores]:
        """Return the probabilities of each pass of the test-time augmentation but the first, the images."""
        with torch.inference_mode(), self._number_format():
            return [
                Scores.of(self.classifier.output(_resized(images, scale).flip(axes), present))
                for axes, scale in self.passes[1:]
            ]

    def _number_format(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None)

    def of_dataset(self, dataset: StoreDataset) -> Scores:
        """Return the scores of the units of a dataset, see `of_units`, with one batch in memory at a time."""
        scores = [self(scaled(batch)["image"], batch["present"]) for batch in self.batches(dataset)]
        return of_units(dataset.unit, scores)

    def batches(self, dataset: StoreDataset) -> Iterator[Batch]:
        """Yield the samples of a dataset in their order, with images as stored."""
        for start in range(0, len(dataset), self.batch_size):
            yield dataset.stored(range(start, min(start + self.batch_size, len(dataset))))


def of_units(unit: NDArray[np.int64], scores: Sequence[Scores]) -> Scores:
    """Return the scores of units, the means over the samples of a unit.

    Args:
        unit: N, unit of each sample.
        scores: scores of the N samples, in batches.
    """

    def averaged(batches: list[Tensor]) -> Tensor:
        values = torch.cat(batches)
        flat, _, _ = average_units(values.flatten(1).numpy(), unit, unit)
        return torch.from_numpy(flat).reshape(len(flat), *values.shape[1:])

    return Scores.joined(scores, averaged)


def _scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return round(scale * size[0]), round(scale * size[1])


def _resized(images: Tensor, scale: float) -> Tensor:
    """Return images, ... H W, resized by a factor."""
    if scale == 1:
        return images
    height, width = _scaled_size((images.shape[-2], images.shape[-1]), scale)
    flat = images.flatten(0, -4)  # B 1 H W
    found = F.interpolate(flat, size=(height, width), mode="bilinear", antialias=True)
    return found.reshape(*images.shape[:-2], height, width)


def _check_scale(network: nn.Module, size: tuple[int, int], scale: float, *, tta: Tta) -> None:
    height, width = _scaled_size(size, scale)
    try:
        dry_run(network, *example_input(network, (height, width)))
    except Exception as error:  # networks refuse sizes by errors of any type
        raise ConfigError(
            f"tta={tta}: the network takes no images of {height} x {width} beside {size[0]} x {size[1]}; "
            "give tta=flips"
        ) from error


def _mean(parts: Sequence[Scores]) -> Scores:
    """Return the mean over passes, on the CPU."""
    return Scores.joined(parts, lambda tensors: torch.stack(tensors).mean(dim=0).cpu())


def open_scorer(run: RunFolder, *, batch_size: int = 16, tta: Tta = "none") -> Scorer:
    """Return the scorer of a run's best epoch, with the image size and the number format of the training.

    Raises:
        ConfigError: see `open_classifier`.
    """
    config = run.config()
    return Scorer(
        open_classifier(run),
        size=sample_size(config["data"]),
        precision=config["trainer"]["precision"],
        batch_size=batch_size,
        tta=tta,
    )


def as_images(pixels: Pixels) -> Tensor:
    """Convert pixels, B H W, uint8 or uint16 of full range, to images, B 1 H W in [0, 1]."""
    return torch.from_numpy(pixels[:, None]).float() / np.iinfo(pixels.dtype).max
