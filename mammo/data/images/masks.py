"""ROI masks: distinguished from crops by pixels and size, and rescaled to the size of their image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mammo.data.images.dicom import read_stored
from mammo.errors import DataError

MaskStatus = Literal[
    "as_is", "rescaled", "aspect_differs", "empty", "missing", "unreadable", "no_mask_among_files"
]
_ASPECT_TOLERANCE = 0.01
# Largest share of pixels between the two values, as caused by JPEG ringing around the outline.
_BETWEEN_TOLERANCE = 0.01


@dataclass(frozen=True)
class Mask:
    """The ROI mask of one lesion.

    Attributes:
        path: File that contains the mask, or None if there is none.
        pixels: H W of its image, True inside the lesion; None unless `status` is `as_is` or `rescaled`.
        status: Result of the search for the mask.
    """

    path: Path | None
    pixels: NDArray[np.bool_] | None
    status: MaskStatus


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Read an ROI mask, H W, True inside the lesion.

    Raises:
        DataError: The file cannot be read, or has more than two values and is therefore not a mask.
    """
    mask = _two_values(read_stored(path))
    if mask is None:
        raise DataError(f"{path}: is not a mask, its pixels have more than two values")
    return mask


def find_mask(candidates: Sequence[Path], *, image_shape: tuple[int, int]) -> Mask:
    """Find the mask among the files of a lesion, regardless of their names, and rescale it to the image size.

    Args:
        candidates: Files of the lesion's series: mask, crop, or both, in any order.
        image_shape: Rows and columns of the lesion's image.
    """
    # the mask is as large as the image and therefore usually the larger file
    existing = sorted((path for path in candidates if path.is_file()), key=_size, reverse=True)
    if not existing:
        return Mask(None, None, "missing")
    outcomes: list[Mask] = []
    for path in existing:
        outcomes.append(_candidate(path, image_shape))
        if outcomes[-1].status == "as_is":
            return outcomes[-1]
    order: list[MaskStatus] = ["rescaled", "empty", "aspect_differs", "unreadable", "no_mask_among_files"]
    return min(outcomes, key=lambda outcome: order.index(outcome.status))


def _size(path: Path) -> int:
    return path.stat().st_size


def _candidate(path: Path, image_shape: tuple[int, int]) -> Mask:
    try:
        pixels = _two_values(read_stored(path))
    except DataError:
        return Mask(path, None, "unreadable")
    if pixels is None:
        return Mask(None, None, "no_mask_among_files")
    aspect, wanted = pixels.shape[0] / pixels.shape[1], image_shape[0] / image_shape[1]
    if abs(aspect / wanted - 1) > _ASPECT_TOLERANCE:
        return Mask(path, None, "aspect_differs")
    fitting = pixels if pixels.shape == image_shape else _nearest(pixels, image_shape)
    if not fitting.any():
        return Mask(path, None, "empty")
    return Mask(path, fitting, "as_is" if fitting is pixels else "rescaled")


def _two_values(pixels: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return where a two-valued picture has the higher value, H W; None for any other picture."""
    import cv2

    low, high = int(pixels.min()), int(pixels.max())
    if low == high:
        return np.zeros(pixels.shape, bool)
    margin = int((high - low) / 10)
    # OpenCV on integers is several times faster than NumPy on floats
    between = cv2.countNonZero(cv2.inRange(pixels, low + margin + 1, high - margin - 1))
    if between > _BETWEEN_TOLERANCE * pixels.size:
        return None
    return np.asarray(pixels > pixels.dtype.type((low + high) // 2))


def _nearest(mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
    import cv2

    rescaled = cv2.resize(mask.view(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return rescaled.astype(bool)
