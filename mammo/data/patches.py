"""The patches of an epoch: windows of the images of a store, with their classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo.config.task.task_checks import patch_size
from mammo.data.images.breast import breast_mask
from mammo.data.lesion_table import LesionTable
from mammo.data.store.store import Store
from mammo.data.windows import (
    Size,
    Windows,
    background_places,
    background_windows,
    cell_side,
    lesion_windows,
)

KINDS = ("lesion", "background", "hard_negative")
LESION, BACKGROUND, HARD_NEGATIVE = range(3)  # indices in `KINDS`


@dataclass(frozen=True)
class PatchSettings:
    """How many windows are drawn from an image, and where.

    Attributes:
        size: height and width of a window, pixels.
        per_lesion: number of windows of each lesion.
        per_image: number of windows of each image that overlap no lesion.
        overlap: smallest share of a lesion in its windows, see `lesion_windows`.
    """

    size: Size
    per_lesion: int
    per_image: int
    overlap: float

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> Self:
        """Create the settings from the node `data.patch`, which `mammo.config.checks` has checked."""
        return cls(patch_size(node["size"]), node["per_lesion"], node["per_image"], float(node["overlap"]))


def breast_maps(store: Store, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return where the breast is in images of a store, on cells of about a hundredth of the longer side.

    Args:
        store: the prepared store; one pixel of each cell is read.
        rows: N rows of the store.

    Returns:
        N h w, True in the breast.
    """
    cell = cell_side(store.images.shape[1:])
    cells = store.images[:, ::cell, ::cell]  # a view
    maps = np.zeros((len(rows), *cells.shape[1:]), np.bool_)
    for place, row in enumerate(rows.tolist()):
        maps[place] = breast_mask(np.ascontiguousarray(cells[row]))
    return maps


@dataclass(frozen=True)
class PatchPlaces:
    """Where the windows of N images may be: what does not change from epoch to epoch.

    Attributes:
        rows: N, rows of the images in the store.
        image: height and width of the images.
        lesions: their lesions.
        background: places of all images, see `background_places`.
        ends: N, end of the places of each image in `background`; they begin at the end of the previous image.
        hard: N M 2, windows of the hard negatives of each image, -1 where there are fewer than M.
    """

    rows: NDArray[np.int64]
    image: Size
    lesions: LesionTable
    background: NDArray[np.int32]
    ends: NDArray[np.int64]
    hard: Windows

    @classmethod
    def of(
        cls,
        *,
        rows: NDArray[np.int64],
        image: Size,
        lesions: LesionTable,
        breasts: NDArray[np.bool_],
        settings: PatchSettings,
        hard: Sequence[Windows] = (),
    ) -> Self:
        """Find the places of N images.

        Args:
            rows: N, rows of the images in the store.
            image: height and width of the images.
            lesions: their lesions.
            breasts: N h w, see `breast_maps`.
            settings: size and number of the windows.
            hard: the hard negatives of each image, see `hard_negative_windows`; empty for none. At most half
                of the windows without a lesion are hard negatives.
        """
        places = [
            background_places(breast, boxes, size=settings.size, image=image)
            for breast, boxes in zip(breasts, lesions.boxes, strict=True)
        ]
        most = settings.per_image // 2
        mined = np.full((len(rows), most if len(hard) else 0, 2), -1, np.int64)
        for position, windows in enumerate(hard):
            mined[position, : len(windows)] = windows[:most]
        return cls(
            rows,
            image,
            lesions,
            np.concatenate([*places, np.empty(0, np.int32)]),
            np.cumsum([len(found) for found in places], dtype=np.int64),
            mined,
        )


def patch_table(
    places: PatchPlaces, *, settings: PatchSettings, background: int, seed: int, epoch: int
) -> pd.DataFrame:
    """Draw the windows of an epoch.

    The windows of an image depend on the seed, the epoch and its row of the store alone, so they are the same
    in a resumed run, in every process, and for any order of the images. A lesion window has the class of its
    lesion; lesions without a class have no window, but no other window overlaps them.

    Args:
        places: where the windows of N images may be.
        settings: number and size of the windows.
        background: index of the class of windows without a lesion.
        seed: seed of the run.
        epoch: number of the epoch, from 0.

    Returns:
        Table with the columns `position` (from 0 to N - 1), `x` and `y` (pixels), `kind` (index in `KINDS`)
        and `label`, in the order of the images. An image without a place for background windows has fewer.
    """
    lesions, images = places.lesions, len(places.rows)
    most, per_lesion, per_image = lesions.labels.shape[1], settings.per_lesion, settings.per_image
    # the draws of the lesions are last, so that those of an image do not depend on the others
    draws = np.empty((images, 3 * per_image + 2 * most * per_lesion))
    for of_image, row in zip(draws, places.rows.tolist(), strict=True):
        np.random.default_rng([seed, epoch, row]).random(out=of_image)
    which, shifts, around = np.split(draws, [per_image, 3 * per_image], axis=1)
    size, image = settings.size, places.image
    in_lesions = lesion_windows(
        lesions.boxes,
        around.reshape(images, most, per_lesion, 2),
        size=size,
        image=image,
        overlap=settings.overlap,
    )
    in_lesions[lesions.labels < 0] = -1
    starts = np.append(0, places.ends)[:-1]
    counts = (places.ends - starts)[:, None]
    chosen = np.where(counts, starts[:, None] + np.floor(which * counts).astype(np.int64), 0)
    found = np.append(places.background, 0)[chosen]  # the 0 is for no place at all
    away = background_windows(found, shifts.reshape(images, per_image, 2), size=size, image=image)
    mined = (places.hard[..., 0] >= 0).sum(1, keepdims=True)
    away[(np.arange(per_image) < mined) | (counts == 0)] = -1  # hard negatives replace the first ones
    windows = np.concatenate([in_lesions.reshape(images, most * per_lesion, 2), away, places.hard], axis=1)
    lengths = (most * per_lesion, per_image, places.hard.shape[1])
    kinds = np.repeat([LESION, BACKGROUND, HARD_NEGATIVE], lengths)
    labels = np.full(windows.shape[:2], background)
    labels[:, : lengths[0]] = np.repeat(lesions.labels, per_lesion, axis=1)
    position, column = np.nonzero(windows[..., 0] >= 0)
    return pd.DataFrame(
        {
            "position": position,
            "x": windows[position, column, 0],
            "y": windows[position, column, 1],
            "kind": kinds[column],
            "label": labels[position, column],
        }
    )
