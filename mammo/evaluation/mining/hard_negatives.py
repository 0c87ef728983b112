"""Hard negatives: patches without a lesion in which the network of a finished run sees one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from omegaconf import DictConfig

from mammo.data.loading.datamodule import datamodule_of
from mammo.data.loading.patch_dataset import PatchDataset
from mammo.data.samples import sample_size
from mammo.data.tasks import Task
from mammo.data.windows import Windows, grid_windows, hard_negative_windows
from mammo.errors import ConfigError
from mammo.evaluation.scoring import Scorer, as_images, open_scorer
from mammo.runs import RunFolder

_OVERLAP = 0.5  # of the patches that the run scores


class HardNegatives(pl.Callback):
    """Finds the hard negatives of the training images before a training of patches begins.

    Args:
        cfg: configuration with `data.patch.hard_negatives`, a run of patches.

    Raises:
        ConfigError: the run is not one of patches, or of images of another size.
    """

    def __init__(self, cfg: DictConfig) -> None:
        path = Path(cfg.data.patch.hard_negatives)
        run = RunFolder(path)
        data = run.config()["data"]
        if data.get("sample_unit") != "patch":
            raise ConfigError(f"data.patch.hard_negatives={path}: is no run of patches; give one")
        for key in ("height", "width", "crop", "aspect"):
            if data[key] != cfg.data[key]:
                raise ConfigError(
                    f"data.patch.hard_negatives={path}: was trained with data.{key}={data[key]}; give that "
                    "too, or another run"
                )
        self.size = sample_size(data)
        self.background = _background(run.config())
        self.scorer = open_scorer(run)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        dataset = datamodule_of(trainer).train
        assert isinstance(dataset, PatchDataset)
        dataset.set_hard_negatives(
            hard_negatives(self.scorer, dataset, size=self.size, background=self.background)
        )


def hard_negatives(
    scorer: Scorer, dataset: PatchDataset, *, size: tuple[int, int], background: int
) -> Sequence[Windows]:
    """Return the false alarms of a network in each image of a dataset, the most probable first.

    The network scores a regular grid of patches, see `grid_windows`. A false alarm is a patch that overlaps
    no lesion and is less probably background than not.

    Args:
        scorer: scorer of a network of patches.
        dataset: dataset of patches.
        size: height and width of the patches of the network.
        background: index of the class of patches without a lesion.
    """
    grid = grid_windows(size=size, image=dataset.image, overlap=_OVERLAP)
    own = np.array(dataset.settings.size)
    # patches of the dataset with the same centres
    centred = (grid + (np.subtract(size, own) // 2)[::-1]).clip(0, (np.subtract(dataset.image, own))[::-1])
    found = []
    for row, boxes in dataset.lesions_of_images():
        pixels = dataset.store.read_windows(np.full(len(grid), row), *grid.T, size=size)
        scores = np.concatenate(
            [
                1 - scorer(as_images(part)).probability[:, background].numpy()
                for part in np.array_split(pixels, max(1, len(pixels) // scorer.batch_size))
            ]
        )
        alarms = scores > 0.5
        found.append(
            hard_negative_windows(
                centred[alarms],
                scores[alarms],
                boxes,
                size=dataset.settings.size,
                count=dataset.settings.per_image // 2,
            )
        )
    return found


def _background(config: dict[str, Any]) -> int:
    task = Task.of(config["task"])
    return task.classes.index(task.background or "")
