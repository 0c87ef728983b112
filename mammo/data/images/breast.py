"""The breast in a mammogram, and the transform between pixels of the file and prepared pixels."""

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mammo.data.images.dicom import Pixels

Box: TypeAlias = tuple[float, float, float, float]  # x_min, y_min, x_max, y_max; max exclusive
BOX_COLUMNS = ["x_min", "y_min", "x_max", "y_max"]  # of a box in a table

_WORKING_SIZE = 400  # longer side of the reduced copy on which the breast is sought
_SLIVER = 1e-6  # share of a prepared pixel that is no part of it but a rounding
_MARGIN = 0.02  # of each side, kept around the breast: lesions reach over the skin line


@dataclass(frozen=True)
class Transform:
    """The way from a file's pixels to the prepared ones: flip, crop, scale, pad at the right and bottom.

    Attributes:
        file_height: Rows of the file's image.
        file_width: Columns of the file's image.
        flip: Whether left and right change places, which brings the chest wall to the left edge.
        left: First column of the crop, in pixels of the flipped file, like the next three.
        top: First row of the crop.
        right: Column after the crop's last.
        bottom: Row after the crop's last.
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
        """Prepare a mask: a prepared pixel is True if any part of it was, so that small lesions survive.

        Args:
            mask: H W of the file.
            within: what `bounding_box` says of it, where that is known.
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
        if x_min < x_max and y_min < y_max:  # a lesion is small in its image
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
        """A view of the crop in an array (H W of the file), not flipped."""
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
        """A box in file pixels to prepared pixels; it is not clipped to the crop."""
        x_min, y_min, x_max, y_max = self._flipped(box)
        return (
            (x_min - self.left) * self.scale_x,
            (y_min - self.top) * self.scale_y,
            (x_max - self.left) * self.scale_x,
            (y_max - self.top) * self.scale_y,
        )

    def invert_box(self, box: Box) -> Box:
        """A box in prepared pixels to file pixels."""
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
        """The crop's first column and the one after its last, in the file as it is."""
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
        """Crop, scale, flip and pad; the flip comes after the scaling, where it costs least."""
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
        pixels: H W, dark background.
        height: Rows of the prepared image.
        width: Columns of the prepared image.
        crop: Cut to the breast with a small margin, or keep the whole image.
        aspect: Keep the shape and pad, or stretch both sides to fit.
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
    # The content is a whole number of pixels, and the scales are exactly what the resize does.
    scale_x = max(1, round((right - left) * scale_x)) / (right - left)
    scale_y = max(1, round((bottom - top) * scale_y)) / (bottom - top)
    return Transform(file_height, file_width, flip, left, top, right, bottom, scale_x, scale_y, height, width)


def bounding_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """x_min, y_min, x_max, y_max (max exclusive) of what is True in a mask (H W); None where nothing is."""
    rows = np.flatnonzero(mask.any(1))
    if not rows.size:
        return None
    y_min, y_max = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[y_min:y_max].any(0))
    return int(columns[0]), y_min, int(columns[-1]) + 1, y_max


def breast_mask(pixels: Pixels) -> NDArray[np.bool_]:
    """The breast (H W, True inside) in a mammogram with dark background; all True if no breast is found."""
    import cv2

    mask = cv2.resize(_small_mask(pixels), pixels.shape[::-1], interpolation=cv2.INTER_NEAREST)
    return mask.astype(bool)


def _small_mask(pixels: Pixels) -> NDArray[np.uint8]:
    """The breast (1) on a copy reduced to at most `_WORKING_SIZE` pixels: the largest piece of tissue."""
    import cv2

    tissue = _tissue(pixels)
    # Film edges, labels and scanner streaks are thin; opening takes them away, and off the breast too.
    radius = max(1.5, 0.03 * max(tissue.shape))
    # By distances, which take a fifth of the time of a disc moved over the image; outside there is no tissue.
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
    """The prepared pixels along a side that the file's pixels from `first` to before `last` have part in."""
    return range(math.floor(first * scale + _SLIVER), math.ceil(last * scale - _SLIVER))


def _any_of(mask: NDArray[np.bool_], cells: range, first: int, scale: float) -> NDArray[np.bool_]:
    """Whether any row of each of the `cells` is True, in a mask whose first row is `first`."""
    index = np.arange(cells.start, cells.stop)
    starts = np.floor((index + _SLIVER) / scale).astype(int) - first
    ends = np.ceil((index + 1 - _SLIVER) / scale).astype(int) - first
    pairs = np.stack([starts.clip(0), ends.clip(max=len(mask))], axis=1).ravel()
    # every second of the stretches between neighbouring numbers is a cell; the row after the last is empty
    padded = np.concatenate([mask, np.zeros_like(mask[:1])])
    return np.asarray(np.logical_or.reduceat(padded, pairs, axis=0)[::2])


def _tissue(pixels: Pixels) -> NDArray[np.uint8]:
    """Everything brighter than film or detector background (1), on a reduced copy."""
    import cv2

    # every so many pixels do, for four still share in each of the copy's, which is smoothed after
    step = math.ceil(max(pixels.shape) / (2 * _WORKING_SIZE))
    small: Any = pixels[::step, ::step]
    if max(pixels.shape) > _WORKING_SIZE:
        height, width = (max(1, side // 2) for side in small.shape)
        # of an even size, which takes a quarter of the time
        few: Any = np.ascontiguousarray(small[: 2 * height, : 2 * width])
        small = cv2.resize(few, (width, height), interpolation=cv2.INTER_AREA)
    small = small.astype(np.float32)
    # The square root spreads the dark end, where skin line and background differ.
    levels = np.sqrt(cv2.GaussianBlur(small, (0, 0), 2) / np.iinfo(pixels.dtype).max)
    grey = np.rint(levels * 255).astype(np.uint8)
    otsu, _ = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    below = np.cumsum(np.bincount(grey.ravel())[: int(otsu) + 1])
    background = np.searchsorted(below, below[-1] / 2)  # the median of what is not tissue
    # Otsu's threshold lies within the tissue; the skin line is dimmer: half the way to the background.
    return np.asarray(grey > (background + otsu) / 2, np.uint8)


def _crop_box(small: NDArray[np.uint8], file_height: int, file_width: int) -> tuple[int, int, int, int]:
    """The mask's bounding box with margin, in file pixels: left, top, right, bottom."""
    rows, columns = np.flatnonzero(small.any(1)), np.flatnonzero(small.any(0))
    height, width = small.shape
    return (
        max(0, math.floor((columns[0] / width - _MARGIN) * file_width)),
        max(0, math.floor((rows[0] / height - _MARGIN) * file_height)),
        min(file_width, math.ceil(((columns[-1] + 1) / width + _MARGIN) * file_width)),
        min(file_height, math.ceil(((rows[-1] + 1) / height + _MARGIN) * file_height)),
    )


def _hangs_right(small: NDArray[np.uint8]) -> bool:
    """Whether the chest wall is at the right: a breast narrows towards the nipple."""
    per_column = small.sum(0, dtype=np.int64)
    columns = np.flatnonzero(per_column)
    per_column = per_column[columns[0] : columns[-1] + 1]
    third = max(1, len(per_column) // 3)
    return bool(per_column[-third:].sum() > per_column[:third].sum())
