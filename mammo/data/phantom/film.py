"""The film of a synthetic mammogram: breast, lesions, burned-in marker, film edges and grain, as pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mammo.data.phantom.anatomy import (
    FILM_HEIGHT_MM,
    GRID_MM,
    Anatomy,
    Bools,
    Floats,
    Outline,
    View,
    outline,
    place_lesions,
    power_law_noise,
    repeat,
    tissue,
)
from mammo.data.phantom.lesions import Lesion, render_lesion

Laterality = Literal["LEFT", "RIGHT"]


@dataclass(frozen=True)
class Film:
    """A digitised film and the masks of its lesions."""

    pixels: NDArray[np.uint16]  # H W; dense tissue has high values
    masks: list[Bools]  # one H W per lesion


def expose(
    *,
    anatomy: Anatomy,
    lesions: tuple[Lesion, ...],
    laterality: Laterality,
    view: View,
    height: int,
    width: int,
    opposite: bool,
    rng: np.random.Generator,
) -> Film:
    """Generates one mammogram of `height` x `width` pixels; a film is 24 cm high.

    A left breast is at the left edge, a right breast at the right edge. `opposite` exchanges the edges, as in
    the films of a quarter of the patients of CBIS-DDSM.
    """
    structure, detail, film, grain, *shapes = rng.spawn(4 + len(lesions))
    pixel_mm = FILM_HEIGHT_MM / height
    breast = outline(anatomy=anatomy, view=view, width_mm=width * pixel_mm, rng=structure)
    places = place_lesions(lesions=lesions, view=view, breast=breast)
    dense = [
        (x, y, lesion.diameter_mm) for lesion, (x, y) in zip(lesions, places, strict=True) if lesion.obscured
    ]
    coarse, modulation = tissue(breast=breast, density=anatomy.density, rng=structure, dense=dense)
    exposure = _enlarge(coarse, height=height, width=width)
    if pixel_mm < GRID_MM / 2:
        above = 0.5 / GRID_MM
        tile = power_law_noise(shape=(1024, 1024), step_mm=pixel_mm, rng=detail, stretch=2.0, above=above)
        fine = repeat(tile, rows=height, columns=width)
        exposure += _enlarge(modulation, height=height, width=width) * fine
    masks = _add_lesions(exposure=exposure, lesions=lesions, places=places, breast=breast, rngs=shapes)

    np.clip(exposure, 0, None, out=exposure)
    exposure += film.choice((0.0, film.uniform(0.002, 0.03)))  # the film's fog
    np.tanh(exposure, out=exposure)  # the shoulder of the film's characteristic curve
    on_right = (laterality == "LEFT") == opposite
    if on_right:
        exposure, masks = exposure[:, ::-1].copy(), [mask[:, ::-1].copy() for mask in masks]
    _burn_marker(exposure=exposure, text=laterality[0] + view, on_left=on_right, rng=film)
    _burn_edges(exposure=exposure, rng=film)
    exposure += grain.standard_normal(exposure.shape, dtype=np.float32) * np.float32(0.004)
    np.clip(exposure, 0, 1, out=exposure)
    exposure *= 65535
    return Film(np.rint(exposure, out=exposure).astype(np.uint16), masks)


def _add_lesions(
    *,
    exposure: Floats,
    lesions: tuple[Lesion, ...],
    places: Sequence[tuple[float, float]],
    breast: Outline,
    rngs: Sequence[np.random.Generator],
) -> list[Bools]:
    """Adds the lesions to the exposure, fainter near the skin, and returns their masks."""
    height, width = exposure.shape
    pixel_mm = FILM_HEIGHT_MM / height
    within = _enlarge(np.clip(breast.skin_distance_mm / 5, 0, 1), height=height, width=width)
    masks: list[Bools] = []
    for lesion, (x, y), rng in zip(lesions, places, rngs, strict=True):
        light, body = render_lesion(lesion=lesion, pixel_mm=pixel_mm, rng=rng)
        window, part = _overlap(centre=(x / pixel_mm, y / pixel_mm), side=len(light), shape=exposure.shape)
        exposure[window] += light[part] * within[window]
        masks.append(np.zeros(exposure.shape, bool))
        masks[-1][window] = body[part]
    return masks


def _enlarge(grid: Floats, *, height: int, width: int) -> Floats:
    import cv2

    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)  # type: ignore[return-value]


def _overlap(
    *, centre: tuple[float, float], side: int, shape: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Returns the region of the image under a square patch, and the part of the patch inside the image."""
    left, top = (round(c - side / 2) for c in centre)
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + side, shape[0]), min(left + side, shape[1])
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))


def _burn_marker(*, exposure: Floats, text: str, on_left: bool, rng: np.random.Generator) -> None:
    """Adds rotated lead letters in the upper corner away from the chest wall; the film edge may cut them."""
    import cv2

    height, width = exposure.shape
    canvas = np.zeros((256, 256), np.uint8)  # 44 mm
    (text_width, text_height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.6, 9)
    origin = (128 - text_width // 2, 128 + text_height // 2)
    cv2.putText(canvas, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 1.6, 255, 9, cv2.LINE_AA)
    side = max(8, round(height * 44 / FILM_HEIGHT_MM))
    turn = cv2.getRotationMatrix2D((127.5, 127.5), float(rng.uniform(-60, 60)), 1.0)
    letters = cv2.resize(cv2.warpAffine(canvas, turn, (256, 256)), (side, side), interpolation=cv2.INTER_AREA)
    from_edge = rng.uniform(8, 24) * height / FILM_HEIGHT_MM
    centre = (from_edge if on_left else width - from_edge, rng.uniform(14, 40) * height / FILM_HEIGHT_MM)
    window, part = _overlap(centre=centre, side=side, shape=exposure.shape)
    light = letters[part].astype(np.float32) * np.float32(rng.uniform(0.4, 0.9) / 255)
    exposure[window] = np.maximum(exposure[window], light)


def _burn_edges(*, exposure: Floats, rng: np.random.Generator) -> None:
    """Adds unexposed, slightly skewed strips along some edges of the film, as in digitised films."""
    pixels_per_mm = len(exposure) / FILM_HEIGHT_MM
    for side in range(4):
        present, thickness, skew = rng.random() < 0.3, rng.uniform(0.6, 3.0), rng.uniform(-1.0, 1.0)
        light = rng.uniform(0.75, 0.98)
        if not present:
            continue
        turned = np.rot90(exposure, side)  # a view: its first rows are one edge of the film
        along = np.linspace(-0.5, 0.5, turned.shape[1])
        depth = np.clip((thickness + skew * along) * pixels_per_mm, 1, None)
        band = turned[: int(depth.max()) + 1]
        band[np.arange(len(band))[:, None] < depth] = light
