"""Draw a mammogram with its heatmap and boxes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo.atomic_files import write_atomically
from mammo.data.images.breast import breast_mask
from mammo.data.images.dicom import Pixels
from mammo.data.loading.loader import StoreDataset
from mammo.evaluation.explain.localisation import heat_candidates

RGB = NDArray[np.uint8]  # H W 3

TRUE_COLOUR = (255, 40, 40)
PREDICTED_COLOUR = (90, 220, 255)
BOX_HEAD_COLOUR = (255, 110, 255)
CROP_COLOUR = (255, 165, 0)
# Opacity of the hottest pixel; the image below stays visible.
_OPACITY = 0.55
_MISSING = 24  # grey of a missing view
_FONT_HEIGHT = 0.045  # of the picture's width
_MOST_BYTES = 60_000
_QUALITIES = (88, 80, 70, 60, 50)


class DrawnView(NamedTuple):
    """A view with what is drawn on it, in pixels; the first four fields are arguments of `draw_overlay`.

    Attributes:
        box_head: box predicted by the network, 4; None if it has no box head.
        crops: K 4, crops that the network has looked at again, NaN for none; None if it has no crops.
        crop_attention: K, weights of the crops, written in their corners.
        marker: side and view, such as `R CC`, written in the upper corner away from the chest wall; empty for
            none.
        mirror: whether the chest wall, at the left of a prepared image, is drawn at the right.
    """

    image: Pixels
    heat: NDArray[np.float32]
    true_boxes: NDArray[np.floating[Any]]
    predicted_boxes: NDArray[np.floating[Any]]
    box_head: NDArray[np.floating[Any]] | None = None
    crops: NDArray[np.floating[Any]] | None = None
    crop_attention: NDArray[np.floating[Any]] | None = None
    marker: str = ""
    mirror: bool = False

    def mirrored(self) -> "DrawnView":
        """Return the view with image, heat and all boxes mirrored left and right."""
        width = self.image.shape[1]

        def turned(boxes: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
            left, top, right, bottom = np.moveaxis(boxes, -1, 0)
            return np.stack([width - right, top, width - left, bottom], axis=-1)

        return self._replace(
            image=self.image[:, ::-1],
            heat=self.heat[:, ::-1],
            true_boxes=turned(self.true_boxes),
            predicted_boxes=turned(self.predicted_boxes),
            box_head=None if self.box_head is None else turned(self.box_head),
            crops=None if self.crops is None else turned(self.crops),
        )


def draw_overlay(
    image: Pixels,
    heat: NDArray[np.float32],
    true_boxes: NDArray[np.floating[Any]],
    predicted_boxes: NDArray[np.floating[Any]],
    caption: str,
    *,
    width: int | None = None,
    box_head: NDArray[np.floating[Any]] | None = None,
    mirror: bool = False,
) -> RGB:
    """Draw a mammogram in grey with its heatmap on it, boxes and a caption below.

    The colour map is viridis, which is perceptually uniform and readable with colour blindness; hotter pixels
    are more opaque. True boxes are solid red lines, predicted boxes are dashed and pale blue, and the box of
    the box head is dashed and magenta.

    Args:
        image: H W, uint8 or uint16 of full scale.
        heat: H W in [0, 1].
        true_boxes: K 4 in pixels, rows of NaN for no lesion.
        predicted_boxes: M 4 in pixels.
        caption: text, wrapped to the width; characters that are not ASCII become question marks.
        width: width of the picture, pixels; None for W.
        box_head: box predicted by the network, 4, in pixels; None if it has no box head.
        mirror: see `DrawnView`.

    Returns:
        The picture, `width` columns wide, with the rows of the caption below the image.
    """
    drawn = DrawnView(image, heat, true_boxes, predicted_boxes, box_head, mirror=mirror)
    return draw_views([drawn], caption, width=width or image.shape[1])


def drawn_views(
    dataset: StoreDataset,
    sample: int,
    heat: NDArray[np.float32],
    *,
    hanging: bool = True,
    box_head: NDArray[np.floating[Any]] | None = None,
    crops: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
) -> list[DrawnView | None]:
    """Return the views of a sample with its true boxes and those of its heat; None for a missing view.

    The heat of whole images is drawn within the breast only; the boxes are those of the whole heat.

    Args:
        dataset: dataset of the sample.
        sample: index of the sample.
        heat: V H W, heat of its views.
        hanging: whether the views are drawn as mammograms hang: of each view of an exam the right breast
            before the left one, and right breasts with the chest wall at the right.
        box_head: box predicted by the network for a sample of one view, 4, in pixels; None without one.
        crops: V K 4 and V K, see `DrawnView`; None without crops.
    """
    rows, boxes = dataset.rows[sample].tolist(), dataset.boxes([sample])[0]
    facts = dataset.store.table.set_index("row")
    each = [(None, None)] * len(rows) if crops is None else list(zip(*crops, strict=True))
    views: list[DrawnView | None] = []
    for place, (row, image) in enumerate(zip(rows, dataset.pixels(sample), strict=True)):
        if row < 0:
            views.append(None)
            continue
        side, view = ("" if pd.isna(text) else str(text) for text in facts.loc[row, ["laterality", "view"]])
        of_view, attention = each[place]
        views.append(
            DrawnView(
                image,
                heat[place] if dataset.sample_unit == "patch" else within_breast(heat[place], image),
                boxes[place],
                heat_candidates(heat[place]).boxes,
                box_head,
                of_view,
                attention,
                marker=" ".join(filter(None, [side[:1], view])),
                mirror=hanging and side == "RIGHT",
            )
        )
    if hanging and dataset.sample_unit == "exam":  # the places of the left breast come first
        half = len(views) // 2
        return [view for pair in zip(views[half:], views[:half], strict=True) for view in pair]
    return views


def within_breast(heat: NDArray[np.float32], image: Pixels) -> NDArray[np.float32]:
    """Return the heat, H W, with 0 outside the breast in the image, H W."""
    return np.where(breast_mask(image), heat, np.float32(0))


def draw_views(views: Sequence[DrawnView | None], caption: str, *, width: int) -> RGB:
    """Draw the views of a sample side by side, each as `draw_overlay` does, with one caption below.

    Args:
        views: V views; None for a missing one, which is a dark area. One is not None.
        caption: text, wrapped to the width of the picture.
        width: width of each view, pixels.
    """
    drawn = [None if view is None else _draw_view(view, width=width) for view in views]
    missing = np.full_like(next(picture for picture in drawn if picture is not None), _MISSING)
    picture = np.concatenate([missing if each is None else each for each in drawn], axis=1)
    return np.concatenate([picture, _caption(caption, picture.shape[1], font_width=width)])


def _draw_view(view: DrawnView, *, width: int) -> RGB:
    import cv2

    view = view.mirrored() if view.mirror else view
    image, heat = view.image, view.heat
    scale = width / image.shape[1]
    size = (width, max(1, round(image.shape[0] * scale)))
    grey = cv2.resize(_stretched(image), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    warm = cv2.resize(np.clip(heat, 0, 1).astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    coloured = cv2.applyColorMap(np.rint(warm * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)[..., ::-1]
    opacity = _OPACITY * warm[..., None]
    picture = np.ascontiguousarray(
        np.rint((1 - opacity) * grey[..., None] + opacity * coloured).astype(np.uint8)
    )
    without_boxes = picture.copy() if view.marker else picture
    thickness = max(1, round(width / 200))
    none = np.zeros((0, 4))
    if view.crops is not None and view.crop_attention is not None:
        for crop, weight in zip(view.crops * scale, view.crop_attention, strict=True):
            if not np.isnan(crop).any():
                _write_number(picture, float(weight), crop, CROP_COLOUR)
    for boxes, colour, dashed in (
        (none if view.crops is None else view.crops, CROP_COLOUR, False),
        (view.true_boxes, TRUE_COLOUR, False),
        (view.predicted_boxes, PREDICTED_COLOUR, True),
        (none if view.box_head is None else view.box_head[None], BOX_HEAD_COLOUR, True),
    ):
        for box in boxes[~np.isnan(boxes).any(axis=1)]:
            _draw_box(picture, np.asarray(box, np.float64) * scale, colour, thickness, dashed=dashed)
    if view.marker:
        write_marker(picture, view.marker, left=view.mirror, behind=without_boxes)
    return picture


def save_picture(path: Path, rgb: RGB, width: int | None = None, *, most_bytes: int = _MOST_BYTES) -> None:
    """Write a picture of at most `most_bytes`; reduce its quality or size if needed.

    Args:
        path: file that ends with `.jpg`, `.jpeg` or `.png`.
        rgb: H W 3.
        width: maximum width; a narrower picture keeps its width.
        most_bytes: maximum size of the file, bytes.
    """
    import cv2

    target = min(width or rgb.shape[1], rgb.shape[1])
    while True:
        height = max(1, round(rgb.shape[0] * target / rgb.shape[1]))
        small = (
            rgb if target == rgb.shape[1] else cv2.resize(rgb, (target, height), None, 0, 0, cv2.INTER_AREA)
        )
        for quality in _QUALITIES if path.suffix.lower() != ".png" else (0,):
            parameters = [cv2.IMWRITE_JPEG_QUALITY, quality] if quality else [cv2.IMWRITE_PNG_COMPRESSION, 9]
            done, encoded = cv2.imencode(path.suffix.lower(), small[..., ::-1], parameters)
            assert done
            if encoded.size <= most_bytes or target < 32:
                write_atomically(path, encoded.tobytes())
                return
        target = round(target * 0.85)


def _stretched(image: Pixels) -> NDArray[np.uint8]:
    """Scale the grey values of the breast to 0-255; its brightest 0.2 % are clipped.

    The values outside the breast are not used for the scale, because labels and film edges are very bright.
    """
    brightest = max(1.0, float(np.quantile(image[breast_mask(image)], 0.998)))
    return np.rint(np.clip(image / brightest, 0, 1) * 255).astype(np.uint8)


def _draw_box(
    picture: RGB, box: NDArray[np.float64], colour: tuple[int, int, int], thickness: int, *, dashed: bool
) -> None:
    """Draw the outline of a box (4, in pixels of the picture) into the picture."""
    import cv2

    left, top, right, bottom = np.rint(box).astype(int).tolist()
    corners = [(left, top), (right - 1, top), (right - 1, bottom - 1), (left, bottom - 1)]
    for start, end in zip(corners, [*corners[1:], corners[0]], strict=True):
        for first, last in _dashes(start, end, 5 * thickness) if dashed else [(start, end)]:
            cv2.line(picture, first, last, colour, thickness)


def _write_number(
    picture: RGB, number: float, box: NDArray[np.floating[Any]], colour: tuple[int, int, int]
) -> None:
    """Write a number with two decimals into the upper left corner of a box (4, in pixels of the picture)."""
    import cv2

    font, margin = cv2.FONT_HERSHEY_SIMPLEX, max(2, picture.shape[1] // 100)
    height = max(6, round(picture.shape[1] * _FONT_HEIGHT * 0.6))
    place = (round(float(box[0])) + margin, round(float(box[1])) + margin + height)
    scale = cv2.getFontScaleFromHeight(font, height)
    cv2.putText(picture, f"{number:.2f}", place, font, scale, colour, 1, cv2.LINE_AA)


def write_marker(picture: RGB, text: str, *, left: bool, behind: RGB | None = None) -> None:
    """Write a text into the upper left or right corner, white with a dark outline.

    Args:
        picture: H W 3, changed in place.
        text: ASCII text of one line.
        left: whether the corner is the left one.
        behind: H W 3, what is seen around the letters instead of the lines of `picture`; None for `picture`.
    """
    import cv2

    font, margin = cv2.FONT_HERSHEY_SIMPLEX, max(3, picture.shape[1] // 40)
    height, line = max(8, round(picture.shape[1] * _FONT_HEIGHT)), max(1, round(picture.shape[1] / 900))
    scale = cv2.getFontScaleFromHeight(font, height)
    wide = cv2.getTextSize(text, font, scale, line)[0][0]
    across = margin if left else picture.shape[1] - margin - wide
    if behind is not None:
        area = np.s_[
            margin // 2 : height + 3 * margin // 2, max(0, across - margin // 2) : across + wide + margin // 2
        ]
        picture[area] = behind[area]
    for colour, thickness in ((0, 0, 0), 4 * line), ((255, 255, 255), line):
        cv2.putText(picture, text, (across, margin + height), font, scale, colour, thickness, cv2.LINE_AA)


def _dashes(
    start: tuple[int, int], end: tuple[int, int], length: int
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return the start and end of each dash of a line."""
    (x, y), (x_end, y_end) = start, end
    whole = max(abs(x_end - x), abs(y_end - y), 1)

    def at(place: int) -> tuple[int, int]:
        share = min(place, whole) / whole
        return round(x + share * (x_end - x)), round(y + share * (y_end - y))

    return [(at(place), at(place + length)) for place in range(0, whole, 2 * length)]


def _caption(text: str, width: int, *, font_width: int) -> RGB:
    """Return the text on white rows, in the size for pictures of `font_width` pixels."""
    import cv2

    plain = text.encode("ascii", "replace").decode()
    font, margin = cv2.FONT_HERSHEY_SIMPLEX, max(2, font_width // 60)
    height = max(8, round(font_width * _FONT_HEIGHT))
    scale = cv2.getFontScaleFromHeight(font, round(height * 0.6))
    lines: list[str] = []
    for paragraph in plain.splitlines():
        lines.append("")
        for word in paragraph.split(" "):
            longer = f"{lines[-1]} {word}" if lines[-1] else word
            if lines[-1] and cv2.getTextSize(longer, font, scale, 1)[0][0] > width - 2 * margin:
                lines.append(word)
            else:
                lines[-1] = longer
    rows = np.full((len(lines) * height + 2 * margin if lines else 0, width, 3), 255, np.uint8)
    for number, line in enumerate(lines):
        base = margin + number * height + round(height * 0.75)
        cv2.putText(rows, line, (margin, base), font, scale, (0, 0, 0), 1, cv2.LINE_AA)
    return rows
