"""Hard negatives: patches without a lesion in which the network of a finished run sees one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig

from mammo.data.loading.datamodule import datamodule_of
from mammo.data.loading.patch_dataset import PatchDataset
from mammo.data.samples import sample_size
from mammo.data.store.fingerprint import PREPARATION_KEYS
from mammo.data.store.store import Store
from mammo.data.tasks import Task
from mammo.data.windows import Size, Windows, grid_windows, hard_negative_windows
from mammo.errors import ConfigError
from mammo.evaluation.scoring import Scorer, as_images, open_scorer
from mammo.models.heads.map_pools import positive_evidence
from mammo.runs import RunFolder

_OVERLAP = 0.5  # of the patches that a run of patches scores


@dataclass(frozen=True)
class Alarms:
    """Places of an image where a network sees a lesion.

    Attributes:
        windows: M 2, x and y of the corners, pixels.
        size: height and width of the windows.
        scores: M, the higher the more a lesion.
    """

    windows: Windows
    size: Size
    scores: NDArray[np.float32]


AlarmsOf = Callable[[Store, int], Alarms]  # the alarms of the image in a row of a store


class HardNegatives(pl.Callback):
    """Finds the hard negatives of the training images before a training of patches begins.

    Args:
        cfg: configuration with `data.patch.hard_negatives`, a run of patches, or of images whose network has
            a map.

    Raises:
        ConfigError: the run is no such run, or was trained on images of another size.
    """

    def __init__(self, cfg: DictConfig) -> None:
        path = Path(cfg.data.patch.hard_negatives)
        run = RunFolder(path)
        config = run.config()
        data = config["data"]
        for key in PREPARATION_KEYS:
            if data[key] != cfg.data[key]:
                raise ConfigError(
                    f"data.patch.hard_negatives={path}: was trained with data.{key}={data[key]}; give that "
                    "too, or another run"
                )
        task, scorer = Task.of(config["task"]), open_scorer(run)
        self.alarms_of: AlarmsOf
        if data.get("sample_unit") == "patch":
            background = task.classes.index(task.background or "")
            self.alarms_of = PatchAlarms(scorer, size=sample_size(data), background=background)
        elif data.get("sample_unit", "image") == "image" and task.positive and _has_map(scorer, data):
            self.alarms_of = MapAlarms(scorer, positives=task.positives)
        else:
            raise ConfigError(
                f"data.patch.hard_negatives={path}: is neither a run of patches nor one of images with a map "
                "of a positive class (model/head=patch_map); give one"
            )

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        dataset = datamodule_of(trainer).train
        assert isinstance(dataset, PatchDataset)
        dataset.set_hard_negatives(hard_negatives(self.alarms_of, dataset))


class PatchAlarms:
    """The patches of a regular grid that a network of patches calls less probably background than not.

    Args:
        scorer: scorer of the network.
        size: height and width of its patches.
        background: index of the class of patches without a lesion.
    """

    def __init__(self, scorer: Scorer, *, size: Size, background: int) -> None:
        self.scorer = scorer
        self.size = size
        self.background = background

    def __call__(self, store: Store, row: int) -> Alarms:
        image = (store.images.shape[1], store.images.shape[2])
        grid = grid_windows(size=self.size, image=image, overlap=_OVERLAP)
        pixels = store.read_windows(np.full(len(grid), row), *grid.T, size=self.size)
        parts = np.array_split(pixels, max(1, len(pixels) // self.scorer.batch_size))
        background = [self.scorer(as_images(part)).probability[:, self.background] for part in parts]
        scores = 1 - torch.cat(background).numpy()
        alarms = scores > 0.5
        return Alarms(grid[alarms], self.size, scores[alarms])


class MapAlarms:
    """The cells of a network's own map with more evidence for the positive classes than against them.

    Args:
        scorer: scorer of the network.
        positives: indices of the positive classes.
    """

    def __init__(self, scorer: Scorer, *, positives: Sequence[int]) -> None:
        self.scorer = scorer
        self.positives = tuple(positives)

    def __call__(self, store: Store, row: int) -> Alarms:
        pixels = store.read(np.array([row]))
        maps = self.scorer.maps(as_images(pixels))
        assert maps is not None
        evidence = positive_evidence(maps[0], positives=self.positives)[0].numpy()  # of the only view
        y, x = np.nonzero(evidence > 0)
        size = (pixels.shape[1] // evidence.shape[0], pixels.shape[2] // evidence.shape[1])
        corners = np.stack(
            [x * pixels.shape[2] // evidence.shape[1], y * pixels.shape[1] // evidence.shape[0]], 1
        )
        return Alarms(corners, size, evidence[y, x])


def hard_negatives(alarms_of: AlarmsOf, dataset: PatchDataset) -> Sequence[Windows]:
    """Return the false alarms of a network in each image of a dataset, the highest score first.

    A false alarm is a patch of the dataset that is centred at an alarm and overlaps no lesion.

    Args:
        alarms_of: the alarms of an image.
        dataset: dataset of patches.
    """
    own = np.array(dataset.settings.size)
    found = []
    for row, boxes in dataset.lesions_of_images():
        alarms = alarms_of(dataset.store, row)
        centred = alarms.windows + ((alarms.size - own) // 2)[::-1]
        found.append(
            hard_negative_windows(
                centred.clip(0, np.subtract(dataset.image, own)[::-1]),
                alarms.scores,
                boxes,
                size=dataset.settings.size,
                count=dataset.settings.per_image // 2,
            )
        )
    return found


def _has_map(scorer: Scorer, data: Mapping[str, Any]) -> bool:
    """Return whether the network gives a map of an image."""
    height, width = data["height"], data["width"]
    return scorer.maps(torch.zeros(1, 1, height, width)) is not None
