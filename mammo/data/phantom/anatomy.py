"""A synthetic film mammogram: breast outline and tissue, as pure functions of a random generator.

Breast and tissue are defined in millimetres on a grid of 0.5 mm, then enlarged to the pixels of the film.
Detail finer than the grid, lesions, markers and grain are added to the pixels. A patient therefore looks the
same at every image size, and the work on the grid does not grow with the film.
Parenchyma is Gaussian noise with a power spectrum of 1 / f^3:
Burgess, "Mammographic structure: data preparation and spatial statistics analysis", Proc SPIE 3661 (1999);
Burgess, Jacobson and Judy, "Human observer detection experiments with mammograms and power-law noise", Med
Phys 28(4):419 (2001).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mammo.data.phantom.lesions import Lesion

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
View = Literal["CC", "MLO"]

FILM_HEIGHT_MM = 240.0
GRID_MM = 0.5
OUTER_SCALE_MM = 100.0  # the spectrum is flat beyond this scale, so the variance is finite
GLANDULAR_SHARE = {1: 0.07, 2: 0.25, 3: 0.5, 4: 0.78}  # share of the area of the breast, by BI-RADS density
FAT, GLAND, PECTORAL, STRAND, SKIN = 0.33, 0.44, 0.50, 0.13, 0.03  # exposures; 1 is nearly white film
STRETCH = 3.5  # length over width of fibres, which run from chest wall to nipple
DENSE_HILL = 3.0  # height of a hill of dense tissue, in standard deviations of the noise
SOFTNESS = 0.42  # softness of the borders of glands, in standard deviations of the noise


@dataclass(frozen=True)
class Anatomy:
    """One breast on the film, with the chest wall at x = 0; lengths are in millimetres."""

    density: int
    depth_mm: float  # distance from chest wall to nipple
    half_height_mm: float
    droop: float  # 0 round .. 1 hanging
    pectoral_mm: tuple[float, float]  # width at the upper edge, length down the chest wall


@dataclass(frozen=True)
class Outline:
    """The breast on the grid."""

    inside: Bools
    skin_distance_mm: Floats  # distance to the skin line, within the breast
    pectoral_distance_mm: Floats  # positive inside the muscle; -inf everywhere in a CC view
    nipple_mm: tuple[float, float]  # x, y


def power_law_noise(
    *,
    shape: tuple[int, int],
    step_mm: float,
    rng: np.random.Generator,
    stretch: float = 1.0,
    above: float = 0.0,
) -> Floats:
    """Returns periodic Gaussian noise with a 2-D power spectrum of 1 / f^3 and a variance of about 1.

    Args:
        shape: rows and columns.
        step_mm: distance between samples; the spectrum does not depend on it where the frequencies overlap.
        rng: source of the noise.
        stretch: ratio of the length of structures along x to that along y.
        above: lowest frequency of the noise, cycles per mm.
    """
    white = rng.standard_normal(shape, dtype=np.float32)
    gain = _gain(shape, step_mm, stretch, above)
    return np.fft.irfft2(np.fft.rfft2(white) * gain, s=shape).astype(np.float32, copy=False)


@lru_cache(maxsize=4)
def _gain(shape: tuple[int, int], step_mm: float, stretch: float, above: float) -> Floats:
    """Returns the square root of the spectrum of `power_law_noise` at the frequencies of `rfft2`."""
    fy = np.fft.fftfreq(shape[0], step_mm)[:, None] / np.sqrt(stretch)
    fx = np.fft.rfftfreq(shape[1], step_mm)[None, :] * np.sqrt(stretch)
    f = np.hypot(fy, fx)
    variance = 3 * np.pi * OUTER_SCALE_MM  # the integral of the spectrum over the plane
    gain = np.maximum(f, 1 / OUTER_SCALE_MM) ** -1.5 / (step_mm * np.sqrt(variance)) * (f >= above)
    gain[0, 0] = 0.0
    return np.asarray(gain, np.float32)


def sample_anatomy(*, density: int, width_mm: float, rng: np.random.Generator) -> Anatomy:
    """Draws a breast that fits on a film `width_mm` wide."""
    depth, height, droop, muscle_width, muscle_length = rng.random(5).tolist()
    return Anatomy(
        density=density,
        depth_mm=min(70 + 45 * depth, 0.72 * width_mm),
        half_height_mm=72 + 28 * height,
        droop=droop,
        pectoral_mm=(min(32 + 26 * muscle_width, 0.4 * width_mm), 90 + 70 * muscle_length),
    )


def outline(*, anatomy: Anatomy, view: View, width_mm: float, rng: np.random.Generator) -> Outline:
    """Places the breast on the film: half an ellipse in CC, a drooping shape below the axilla in MLO."""
    shift, power, tip = float(rng.normal(0.0, 4.0)), rng.uniform(1.7, 2.3), rng.uniform(0.0, 3.0)
    rows, columns = int(FILM_HEIGHT_MM / GRID_MM), int(width_mm / GRID_MM)
    y = (np.arange(rows, dtype=np.float32) + 0.5) * GRID_MM
    x = (np.arange(columns, dtype=np.float32) + 0.5) * GRID_MM
    a, b = anatomy.depth_mm, anatomy.half_height_mm
    if view == "CC":
        nipple_y = 0.5 * FILM_HEIGHT_MM + shift
        reach = a * np.clip(1 - np.abs((y - nipple_y) / b) ** power, 0, 1) ** 0.6
        muscle = np.full((rows, columns), -np.inf, np.float32)
    else:
        nipple_y = (0.52 + 0.08 * anatomy.droop) * FILM_HEIGHT_MM + shift
        width, length = anatomy.pectoral_mm
        top = min(width + 8, 0.8 * a)
        up = np.clip(y / nipple_y, 0, 1)
        bulge = np.sqrt(1 - (1 - up) ** 2)
        axilla = np.clip((up - 0.15) / 0.85, 0, 1) ** 1.5
        hollow = 0.65 + 0.3 * anatomy.droop
        rise = (1 - hollow) * bulge + hollow * axilla * (2 - axilla)
        down = np.clip((y - nipple_y) / (0.9 * b), 0, 1)
        reach = np.where(y < nipple_y, top + (a - top) * rise, a * (1 - down**power) ** 0.6)
        edge = width * (1 - np.clip(y / length, 0, 1) ** 1.25)  # slightly convex
        muscle = ((edge[:, None] - x) * (length / np.hypot(width, length))).astype(np.float32)
    reach = reach + tip * np.exp(-(((y - nipple_y) / 5.0) ** 2))
    inside = x < reach[:, None]
    return Outline(inside, _depth_mm(inside), np.where(inside, muscle, -np.inf), (a, nipple_y))


def _depth_mm(region: Bools) -> Floats:
    """Returns the distance to the nearest grid point outside the region, in millimetres."""
    import cv2

    distance = cv2.distanceTransform(region.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # The last bit of a distance depends on the address of the array; its square is a whole number.
    return np.sqrt(np.rint(distance**2)) * np.float32(GRID_MM)


def tissue(
    *,
    breast: Outline,
    density: int,
    rng: np.random.Generator,
    dense: Sequence[tuple[float, float, float]] = (),
) -> tuple[Floats, Floats]:
    """Returns the exposure of the breast on the grid, and the amplitude of detail finer than the grid.

    Args:
        breast: outline of the breast.
        density: BI-RADS density, 1 to 4.
        rng: source of the noise.
        dense: places where the tissue is glandular: x, y and radius in millimetres.
    """
    rows, columns = breast.inside.shape
    even = power_law_noise(shape=(512, 512), step_mm=GRID_MM, rng=rng)
    long = power_law_noise(shape=(512, 512), step_mm=GRID_MM, rng=rng, stretch=STRETCH)
    # Half a period is longer than the outer scale, so a field shifted by it serves as an independent field.
    clumps, texture, strands, fibres = (
        repeat(np.roll(noise, shift, axis=(0, 1)), rows=rows, columns=columns)
        for noise in (even, long)
        for shift in (0, 256)
    )
    strands, fibres = (_towards_nipple(noise, breast.nipple_mm) for noise in (strands, fibres))
    gland = _glandular(
        breast=breast, density=density, clumps=_smooth(clumps), strands=strands, dense=dense, rng=rng
    )
    ligaments = np.exp(-((_smooth(strands) / 0.06) ** 2)) + 0.7 * np.exp(-((_smooth(fibres) / 0.06) ** 2))
    ligaments *= np.clip(0.5 + 0.6 * clumps, 0.1, 1.3)
    thickness = np.sqrt(1 - (1 - np.clip(breast.skin_distance_mm / 30, 0, 1)) ** 2)
    modulation = thickness * (0.03 + 0.1 * gland)
    exposure = thickness * (FAT + GLAND * gland + STRAND * ligaments)
    exposure += modulation * np.maximum(0.5 * texture + fibres, -2)
    exposure += SKIN * np.exp(-(((breast.skin_distance_mm - 1.2) / 0.7) ** 2)) * breast.inside
    muscle = np.clip(breast.pectoral_distance_mm / 5, 0, 1)
    exposure += muscle * (FAT + PECTORAL + 0.05 * strands + 0.03 * texture - exposure)
    # Finer noise changes the texture and the borders of the glands.
    detail = np.hypot(modulation, thickness * GLAND * gland * (1 - gland) / SOFTNESS)
    return exposure.astype(np.float32), (detail * breast.inside).astype(np.float32)


def _glandular(
    *,
    breast: Outline,
    density: int,
    clumps: Floats,
    strands: Floats,
    dense: Sequence[tuple[float, float, float]],
    rng: np.random.Generator,
) -> Floats:
    """Returns the share of glandular tissue, 0..1.

    Tissue is glandular where the sum of noise, a cone behind the nipple and a hill at each place of `dense`
    exceeds a threshold, which depends on the density.
    """
    rows, columns = breast.inside.shape
    nipple_x, nipple_y = breast.nipple_mm
    y = (np.arange(rows, dtype=np.float32)[:, None] + 0.5) * GRID_MM - nipple_y
    x = (np.arange(columns, dtype=np.float32)[None, :] + 0.5) * GRID_MM
    cone = -(((x - 0.62 * nipple_x) / (0.55 * nipple_x)) ** 2) - (y / (0.7 * nipple_x)) ** 2
    subcutaneous = np.clip((breast.skin_distance_mm - 3) / 12, 0, 1) + np.exp(-np.hypot(x - nipple_x, y) / 12)
    field = 0.8 * clumps + 0.6 * strands + 0.9 * cone + 1.5 * np.minimum(subcutaneous, 1)
    for centre_x, centre_y, radius in dense:
        field += DENSE_HILL * np.exp(-((np.hypot(x - centre_x, y + nipple_y - centre_y) / radius) ** 2))
    breast_only = breast.inside & (breast.pectoral_distance_mm < 0)
    share = np.clip(GLANDULAR_SHARE[density] + rng.normal(0, 0.03), 0.03, 0.9)
    threshold = float(np.quantile(field[breast_only], 1 - share))
    return 1 / (1 + np.exp(-(field - threshold) / SOFTNESS))  # type: ignore[no-any-return]


def repeat(noise: Floats, *, rows: int, columns: int) -> Floats:
    """Repeats periodic noise until it covers rows x columns."""
    times = (-(-rows // noise.shape[0]), -(-columns // noise.shape[1]))
    return np.tile(noise, times)[:rows, :columns]


def _smooth(noise: Floats) -> Floats:
    """Removes detail finer than 1 mm, so that lines of equal value are single lines."""
    import cv2

    return cv2.GaussianBlur(noise, (0, 0), 1.2 / GRID_MM)  # type: ignore[return-value]


def _towards_nipple(noise: Floats, nipple_mm: tuple[float, float]) -> Floats:
    """Bends structures along x so that they converge at the nipple, as ducts and ligaments do."""
    import cv2

    rows, columns = noise.shape
    x, y = np.meshgrid(np.arange(columns, dtype=np.float32), np.arange(rows, dtype=np.float32))
    nipple_x, nipple_y = nipple_mm[0] / GRID_MM, nipple_mm[1] / GRID_MM
    narrowing = np.maximum(1 - 0.65 * np.clip(x / nipple_x, 0, 1) ** 2, 0.3)
    source_y = (nipple_y + (y - nipple_y) / narrowing).astype(np.float32)
    return cv2.remap(noise, x, source_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)  # type: ignore[return-value]


def place_lesions(*, lesions: tuple[Lesion, ...], view: View, breast: Outline) -> list[tuple[float, float]]:
    """Returns the centres (x, y) of the lesions in this view, in millimetres.

    A centre is moved as little as possible, until the lesion is inside the breast, outside the muscle and
    away from the lesions before it.
    """
    free = breast.inside & (breast.pectoral_distance_mm < 0)
    room = _depth_mm(np.pad(free, 1))[1:-1, 1:-1]
    rows, columns = free.shape
    y = (np.arange(rows)[:, None] + 0.5) * GRID_MM
    x = (np.arange(columns)[None, :] + 0.5) * GRID_MM
    placed: list[tuple[float, float]] = []
    for lesion in lesions:
        wanted_x = breast.nipple_mm[0] * (1 - lesion.depth)
        column = np.flatnonzero(free[:, int(wanted_x / GRID_MM)]) * GRID_MM
        wanted_y = column[0] + lesion.across[view] * (column[-1] - column[0])
        cost = np.hypot(x - wanted_x, y - wanted_y)
        cost += 1e4 * np.clip(min(0.5 * lesion.diameter_mm + 4, 0.95 * float(room.max())) - room, 0, None)
        for other, (other_x, other_y) in zip(lesions, placed, strict=False):
            apart = 0.6 * (lesion.diameter_mm + other.diameter_mm)
            cost += 1e2 * np.clip(apart - np.hypot(x - other_x, y - other_y), 0, None)
        row, col = np.unravel_index(int(np.argmin(cost)), cost.shape)
        placed.append((float(x[0, col]), float(y[row, 0])))
    return placed
