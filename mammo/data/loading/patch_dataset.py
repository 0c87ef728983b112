"""Patches of the images of a store as a dataset: drawn anew in each epoch of a training."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammo.data.images.breast import BOX_COLUMNS
from mammo.data.lesion_table import LesionTable, with_boxes
from mammo.data.loading.loader import Batch, StoreDataset
from mammo.data.patches import PatchPlaces, PatchSettings, breast_maps, patch_table
from mammo.data.samples import Samples, SampleUnit, facts_of_groups
from mammo.data.store.store import Store
from mammo.data.tasks import Task, patch_labels
from mammo.data.windows import Windows
from mammo.errors import DataError


class PatchDataset(StoreDataset):
    """Windows of images around lesions, and in the breast away from lesions, see `patch_table`.

    The number, the images and the classes of the patches are the same in all epochs; their places are not.

    Args:
        store: the prepared store.
        table: rows of the store's table that belong to the dataset.
        task: task with a class of patches without a lesion.
        settings: number and size of the patches.
        seed: seed of the places, which are drawn anew in each epoch; None for the same places in each epoch
            and in each run, so that scores can be compared.

    Attributes:
        image: height and width of the images.

    Raises:
        DataError: the store has no box of a lesion, or a lesion is in no class of the task.
    """

    def __init__(
        self,
        *,
        store: Store,
        table: pd.DataFrame,
        task: Task,
        settings: PatchSettings,
        seed: int | None = None,
    ) -> None:
        self.store = store
        self.sample_unit = "patch"
        self.views = ()
        self.side_labels = None
        self.seed = seed
        self.settings = settings
        self._background = task.classes.index(task.background or "")
        self._images = table.reset_index(drop=True)
        self._lesions = _lesions_of(store, self._images["image_id"].tolist(), task)
        rows = self._images["row"].to_numpy(dtype=np.int64)
        self.image = (store.images.shape[1], store.images.shape[2])
        self._breasts = breast_maps(store, rows)
        self.set_hard_negatives(())

    def set_hard_negatives(self, hard: Sequence[Windows]) -> None:
        """Draw the patches from hard negatives too.

        Args:
            hard: windows of each image of the dataset, the hardest first; see `PatchPlaces.of`.
        """
        rows = self._images["row"].to_numpy(dtype=np.int64)
        self._windows = PatchPlaces.of(
            rows=rows,
            image=self.image,
            lesions=self._lesions,
            breasts=self._breasts,
            settings=self.settings,
            hard=hard,
        )
        drawn = self._draw_patches(0)
        position = drawn["position"].to_numpy()
        self.rows = rows[position][:, None]
        self.labels = drawn["label"].to_numpy(copy=True)
        self.unit = np.arange(len(drawn))
        self.unit_labels = self.labels
        self.units = facts_of_groups(
            self._images, self._samples(drawn), unit="patch", own=self.store.own_columns
        )

    def _draw_patches(self, epoch: int) -> pd.DataFrame:
        drawn = patch_table(
            self._windows,
            settings=self.settings,
            background=self._background,
            seed=self.seed or 0,
            epoch=epoch,
        )
        self._position, self._x, self._y = (drawn[name].to_numpy() for name in ("position", "x", "y"))
        return drawn

    def _samples(self, drawn: pd.DataFrame) -> Samples:
        """Return each patch as a sample; its name has its number in the image and the place of its corner."""
        of_image = self._images.loc[drawn["position"], ["image_id", "patient_id", "laterality"]]
        table = of_image.reset_index(drop=True).rename(columns={"image_id": "sample_id"})
        for text in (
            "_" + drawn.groupby("position").cumcount().astype("string"),
            "_x" + drawn["x"].astype("string"),
            "_y" + drawn["y"].astype("string"),
        ):
            table["sample_id"] += text
        return Samples(table.assign(group=self.unit), drawn[["position"]].to_numpy())

    def lesions_of_images(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the row in the store and the boxes, K 4, of each image of the dataset."""
        yield from zip(self._images["row"].tolist(), self._lesions.boxes, strict=True)

    def start_epoch(self, epoch: int) -> None:
        """Draw the places of the patches of an epoch, which depend on seed and epoch only."""
        if self.seed is not None:
            self._draw_patches(epoch)

    @property
    def image_rows(self) -> NDArray[np.int64]:
        """Rows in the store of the images of all patches, each once."""
        return np.unique(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a patch, 1 1 h w."""
        return (1, 1, *self.settings.size)

    def boxes(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the boxes of the lesions that patches overlap, in pixels of the patch, B 1 K 4."""
        x, y = self._x[indices], self._y[indices]
        boxes = self._lesions.boxes[self._position[indices]] - np.stack([x, y, x, y], axis=1)[:, None]
        height, width = self.settings.size
        outside = (boxes[..., :2] >= [width, height]) | (boxes[..., 2:] <= 0)
        boxes[outside.any(axis=2)] = np.nan
        return np.asarray(boxes[:, None], np.float32)

    def box_labels(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the classes of the lesions of the images of patches, B 1 K; -1 for no class."""
        return np.asarray(self._lesions.labels[self._position[indices]][:, None])

    def read(self, indices: Sequence[int], image: Tensor) -> Batch:
        """Returns a batch of the patches at these indices, read into `image`, B 1 1 h w, as stored."""
        rows = self.rows[indices]
        self.store.read_windows(
            rows[:, 0],
            self._x[indices],
            self._y[indices],
            size=self.settings.size,
            out=image.numpy()[:, 0, 0],
        )
        return Batch(
            image=image,
            present=torch.ones(rows.shape, dtype=torch.bool),
            label=torch.from_numpy(self.labels[indices]),
            boxes=torch.from_numpy(self.boxes(indices)),
            box_label=torch.from_numpy(self.box_labels(indices)),
            row=torch.from_numpy(rows),
            unit=torch.from_numpy(self.unit[indices]),
        )


def _lesions_of(store: Store, image_ids: Sequence[str], task: Task) -> LesionTable:
    if store.lesions.dropna(subset=BOX_COLUMNS).empty:
        raise DataError(
            "data.sample_unit=patch: no lesion of the data has a box or a mask; give data with them (as by "
            "data.lesions=FILE of data=csv, or data.masks=true), or data.sample_unit=image"
        )
    known = with_boxes(store.lesions, image_ids)
    return LesionTable.of(known, patch_labels(known, task=task), image_ids)


def dataset_of(
    *,
    store: Store,
    table: pd.DataFrame,
    task: Task,
    unit: SampleUnit,
    views: Sequence[str] = (),
    patch: Mapping[str, Any] | None = None,
    seed: int | None = None,
    batch_masks: bool = False,
) -> StoreDataset:
    """Return the dataset of samples of a unit.

    Args:
        store: the prepared store.
        table: rows of the store's table that belong to the dataset.
        task: the task.
        unit: what a sample is.
        views: see `StoreDataset`.
        patch: node `data.patch`, for patches.
        seed: see `StoreDataset` and `PatchDataset`.
        batch_masks: see `StoreDataset`.
    """
    if unit != "patch":
        return StoreDataset(
            store=store, table=table, task=task, unit=unit, views=views, seed=seed, batch_masks=batch_masks
        )
    assert patch is not None
    return PatchDataset(store=store, table=table, task=task, settings=PatchSettings.of(patch), seed=seed)
