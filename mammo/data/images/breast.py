"""The breast in a mammogram, and the transform between pixels of the file and prepared pixels."""

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mammo.data.images.dicom import Pixels

Box: TypeAlias = tuple[float, float, float, float]  # x_min, y_min, x_max, y_max; max exclusive
BOX_COLUMNS = ["x_min", "y_min", "x_max", "y_max"]  # columns of a box in a table

_WORKING_SIZE = 400  # longer side of the reduced copy on which the breast is sought
_SLIVER = 1e-6  # fraction of a prepared pixel that counts as rounding error
_MARGIN = 0.02  # margin around the breast, as a fraction of each side: lesions may cross the skin line


@dataclass(frozen=True)
class Transform:
    """Transform from file pixels to prepared pixels: flip, crop, scale, pad at the right and bottom.

    Attributes:
        file_height: Rows of the file's image.
        file_width: Columns of the file's image.
        flip: Whether to mirror left and right, so that the chest wall is at the left edge.
        left: First column of the crop; this and the next three are in pixels of the flipped file.
        top: First row of the crop.
        right: Column after the last one of the crop.
        bottom: Row after the last one of the crop.
        scale_x: Prepared pixels per file pixel along a row.
        scale_y: Prepared pixels per file pixel along a column.
        height: Rows of the prepared image, padding included.
        width: Columns of the prepared image, padding included.
    """

    file_height: int
    file_width: int
    flip: bool
    left: int
    top: int
    right: int
    bottom: int
    scale_x: float
    scale_y: float
    height: int
    width: int

    def apply_image(self, pixels: Pixels) -> Pixels:
        """Prepare an image: H W to `height` x `width`; a pixel is the mean of its area, the padding is 0."""
        import cv2

        return self._apply(pixels, cv2.INTER_AREA if self._shrinks else cv2.INTER_LINEAR)

    def apply_mask(
        self, mask: NDArray[np.bool_], *, within: tuple[int, int, int, int] | None = None
    ) -> NDArray[np.bool_]:
        """Prepare a mask: a prepared pixel is True if any part of its area is, which keeps small lesions.

        Args:
            mask: H W of the file, True inside the lesion.
            within: `bounding_box` of the mask, if known.
        """
        import cv2

        if not self._shrinks:
            return self._apply(mask.view(np.uint8), cv2.INTER_NEAREST_EXACT) > 0
        prepared = np.zeros((self.height, self.width), np.bool_)
        x_min, y_min, x_max, y_max = within or bounding_box(mask) or (0, 0, 0, 0)
        left, right = self._file_columns
        # in pixels of the crop
        x_min, x_max = max(x_min, left) - left, min(x_max, right) - left
        y_min, y_max = max(y_min, self.top) - self.top, min(y_max, self.bottom) - self.top
        if x_min < x_max and y_min < y_max:  # only the box is processed: a lesion is small
            rows, across = _cells(y_min, y_max, self.scale_y), _cells(x_min, x_max, self.scale_x)
            part = self.cut(mask)[y_min:y_max, x_min:x_max]
            part = _any_of(_any_of(part, rows, y_min, self.scale_y).T, across, x_min, self.scale_x).T
            columns = slice(across.start, across.stop)
            if self.flip:
                whole = self.content_shape[1]
                columns, part = slice(whole - across.stop, whole - across.start), part[:, ::-1]
            prepared[rows.start : rows.stop, columns] = part
        return prepared

    def cut(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view of the crop of an array (H W of the file), not flipped."""
        left, right = self._file_columns
        return array[self.top : self.bottom, left:right]

    @property
    def content_shape(self) -> tuple[int, int]:
        """Rows and columns of the prepared image without its padding."""
        return (
            round((self.bottom - self.top) * self.scale_y),
            round((self.right - self.left) * self.scale_x),
        )

    def apply_box(self, box: Box) -> Box:
        """Convert a box from file pixels to prepared pixels, without clipping it to the crop."""
        x_min, y_min, x_max, y_max = self._flipped(box)
        return (
            (x_min - self.left) * self.scale_x,
            (y_min - self.top) * self.scale_y,
            (x_max - self.left) * self.scale_x,
            (y_max - self.top) * self.scale_y,
        )

    def invert_box(self, box: Box) -> Box:
        """Convert a box from prepared pixels to file pixels."""
        x_min, y_min, x_max, y_max = box
        return self._flipped(
            (
                x_min / self.scale_x + self.left,
                y_min / self.scale_y + self.top,
                x_max / self.scale_x + self.left,
                y_max / self.scale_y + self.top,
            )
        )

    @property
    def _file_columns(self) -> tuple[int, int]:
        """First column of the crop and the column after its last one, in the unflipped file."""
        if self.flip:
            return self.file_width - self.right, self.file_width - self.left
        return self.left, self.right

    @property
    def _shrinks(self) -> bool:
        return self.scale_x <= 1 and self.scale_y <= 1

    def _flipped(self, box: Box) -> Box:
        x_min, y_min, x_max, y_max = box
        return (self.file_width - x_max, y_min, self.file_width - x_min, y_max) if self.flip else box

    def _apply(self, array: NDArray[Any], interpolation: int) -> NDArray[Any]:
        """Crop, scale, flip and pad; the flip follows the scaling, because it is fastest there."""
        import cv2

        size = self.content_shape[::-1]
        content = cv2.resize(self.cut(array), size, interpolation=interpolation)
        prepared = np.zeros((self.height, self.width), array.dtype)
        rows, columns = content.shape
        prepared[:rows, :columns] = content[:, ::-1] if self.flip else content
        return prepared


def plan(
    pixels: Pixels,
    *,
    height: int,
    width: int,
    crop: Literal["breast", "none"] = "breast",
    aspect: Literal["keep", "stretch"] = "keep",
) -> Transform:
    """Plan how a mammogram (H W) becomes a prepared image of `height` x `width` pixels.

    Args:
        pixels: Mammogram, H W, with dark background.
        height: Rows of the prepared image.
        width: Columns of the prepared image.
        crop: `breast` crops to the breast with a small margin, `none` keeps the whole image.
        aspect: `keep` keeps the shape and pads, `stretch` scales each side to fit.
    """
    file_height, file_width = pixels.shape
    small = _small_mask(pixels)
    left, top, right, bottom = 0, 0, file_width, file_height
    if crop == "breast":
        left, top, right, bottom = _crop_box(small, file_height, file_width)
    flip = _hangs_right(small)
    if flip:
        left, right = file_width - right, file_width - left
    scale_x, scale_y = width / (right - left), height / (bottom - top)
    if aspect == "keep":
        scale_x = scale_y = min(scale_x, scale_y)
    # The content has a whole number of pixels; the scales are exactly those of the resize.
    scale_x = max(1, round((right - left) * scale_x)) / (right - left)
    scale_y = max(1, round((bottom - top) * scale_y)) / (bottom - top)
    return Transform(file_height, file_width, flip, left, top, right, bottom, scale_x, scale_y, height, width)


def bounding_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """Return x_min, y_min, x_max, y_max (max exclusive) of the True part of a mask (H W); None if empty."""
    rows = np.flatnonzero(mask.any(1))
    if not rows.size:
        return None
    y_min, y_max = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[y_min:y_max].any(0))
    return int(columns[0]), y_min, int(columns[-1]) + 1, y_max


def breast_mask(pixels: Pixels) -> NDArray[np.bool_]:
    """Return the breast (H W, True inside) in a mammogram with dark background; all True if none is found."""
    import cv2

    mask = cv2.resize(_small_mask(pixels), pixels.shape[::-1], interpolation=cv2.INTER_NEAREST)
    return mask.astype(bool)


def _small_mask(pixels: Pixels) -> NDArray[np.uint8]:
    """Return the breast (1), the largest piece of tissue, on a copy of at most `_WORKING_SIZE` pixels."""
    import cv2

    tissue = _tissue(pixels)
    # Film edges, labels and scanner streaks are thin; opening removes them, also where they touch the breast.
    radius = max(1.5, 0.03 * max(tissue.shape))
    # Opening by distances takes a fifth of the time of a disc kernel; outside the image there is no tissue.
    framed = cv2.copyMakeBorder(tissue, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    core = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_5) >= radius
    away = cv2.distanceTransform((~core).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]
    opened = (tissue.astype(bool) & (away < radius)).view(np.uint8) if core.any() else np.zeros_like(tissue)
    outlines, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return np.ones_like(tissue)
    largest = max(outlines, key=cv2.contourArea)
    return np.asarray(cv2.drawContours(np.zeros_like(tissue), [largest], -1, 1, cv2.FILLED), np.uint8)


def _cells(first: int, last: int, scale: float) -> range:
    """Return the prepared pixels along a side that overlap the file pixels `first` to `last` (exclusive)."""
    return range(math.floor(first * scale + _SLIVER), math.ceil(last * scale - _SLIVER))


def _any_of(mask: NDArray[np.bool_], cells: range, first: int, scale: float) -> NDArray[np.bool_]:
    """Return whether any row of each cell is True; `first` is the file row at which the mask starts."""
    index = np.arange(cells.start, cells.stop)
    starts = np.floor((index + _SLIVER) / scale).astype(int) - first
    ends = np.ceil((index + 1 - _SLIVER) / scale).astype(int) - first
    pairs = np.stack([starts.clip(0), ends.clip(max=len(mask))], axis=1).ravel()
    # every second interval between neighbouring indices is a cell; the padded last row is empty
    padded = np.concatenate([mask, np.zeros_like(mask[:1])])
    return np.asarray(np.logical_or.reduceat(padded, pairs, axis=0)[::2])


def _tissue(pixels: Pixels) -> NDArray[np.uint8]:
    """Return what is brighter than the film or detector background (1), on a reduced copy."""
    import cv2

    # Every `step`-th pixel is enough: four of them still give one pixel of the copy, which is then smoothed.
    step = math.ceil(max(pixels.shape) / (2 * _WORKING_SIZE))
    small: Any = pixels[::step, ::step]
    if max(pixels.shape) > _WORKING_SIZE:
        height, width = (max(1, side // 2) for side in small.shape)
        # resizing from an even size takes a quarter of the time
        few: Any = np.ascontiguousarray(small[: 2 * height, : 2 * width])
        small = cv2.resize(few, (width, height), interpolation=cv2.INTER_AREA)
    small = small.astype(np.float32)
    # The square root spreads the dark end, where skin line and background differ.
    levels = np.sqrt(cv2.GaussianBlur(small, (0, 0), 2) / np.iinfo(pixels.dtype).max)
    grey = np.rint(levels * 255).astype(np.uint8)
    otsu, _ = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    below = np.cumsum(np.bincount(grey.ravel())[: int(otsu) + 1])
    background = np.searchsorted(below, below[-1] / 2)  # median of the pixels that are not tissue
    # Otsu's threshold lies within the tissue; halfway to the background includes the darker skin line.
    return np.asarray(grey > (background + otsu) / 2, np.uint8)


def _crop_box(small: NDArray[np.uint8], file_height: int, file_width: int) -> tuple[int, int, int, int]:
    """Return the bounding box of the mask with margin, in file pixels: left, top, right, bottom."""
    rows, columns = np.flatnonzero(small.any(1)), np.flatnonzero(small.any(0))
    height, width = small.shape
    return (
        max(0, math.floor((columns[0] / width - _MARGIN) * file_width)),
        max(0, math.floor((rows[0] / height - _MARGIN) * file_height)),
        min(file_width, math.ceil(((columns[-1] + 1) / width + _MARGIN) * file_width)),
        min(file_height, math.ceil(((rows[-1] + 1) / height + _MARGIN) * file_height)),
    )


def _hangs_right(small: NDArray[np.uint8]) -> bool:
    """Return whether the chest wall is at the right; a breast narrows towards the nipple."""
    per_column = small.sum(0, dtype=np.int64)
    columns = np.flatnonzero(per_column)
    per_column = per_column[columns[0] : columns[-1] + 1]
    third = max(1, len(per_column) // 3)
    return bool(per_column[-third:].sum() > per_column[:third].sum())
