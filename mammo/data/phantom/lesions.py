"""Lesions of a synthetic mammogram: their properties, their shape in millimetres, and their pixels.

A mass is a section of a Gaussian random sphere with branching spicules grown from its surface, after
de Sisternes et al., "A computational model to generate simulated three-dimensional breast masses", Med Phys
42(2):1098 (2015). Calcifications follow the descriptors of the CBIS-DDSM case files: benign ones are few,
coarse and round, some with a lucent centre; malignant ones are many, fine, angular and of many sizes.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["mass", "calcification"]
Floats = NDArray[np.float32]
Points = NDArray[np.float64]  # K 2, (x, y) in millimetres from the lesion's centre

# Sizes in millimetres and contrasts in units of exposure (1 = white film): (easiest lesion, hardest lesion).
MASS_MM = (36.0, 9.5)
CLUSTER_MM = (30.0, 9.0)
COARSE_SPECK_MM = (3.6, 0.9)
FINE_SPECK_MM = (1.9, 0.25)
MASS_CONTRAST = {False: (0.40, 0.06), True: (1.00, 0.09)}  # a dense mass is more often malignant
SPECK_CONTRAST = {False: (0.80, 0.20), True: (1.20, 0.14)}
MISLEADING = 0.25  # share of lesions that look like the other class at difficulty 1
OBSCURED_CONTRAST = 0.05  # share of the contrast that is left where dense tissue hides a lesion

SHAPES = {False: ("ROUND", "OVAL", "LOBULATED"), True: ("IRREGULAR", "IRREGULAR-ARCHITECTURAL_DISTORTION")}
MARGINS = {False: ("CIRCUMSCRIBED", "OBSCURED"), True: ("SPICULATED", "ILL_DEFINED-SPICULATED")}
CALC_TYPES = {
    False: ("COARSE", "ROUND_AND_REGULAR", "LUCENT_CENTER"),
    True: ("PLEOMORPHIC", "FINE_LINEAR_BRANCHING"),
}
DISTRIBUTIONS = {False: ("N/A", "DIFFUSELY_SCATTERED"), True: ("CLUSTERED", "SEGMENTAL", "LINEAR")}


@dataclass(frozen=True)
class Lesion:
    """One lesion of one breast; lengths in millimetres.

    Contrast, subtlety and `obscured` are those of a view; the other properties are the same in both views.
    """

    kind: Kind
    malignant: bool
    suspicious: bool  # whether it looks malignant; differs from `malignant` in some hard lesions only
    diameter_mm: float
    speck_mm: float
    contrast: float
    depth: float  # position from the nipple (0) to the chest wall (1)
    across: dict[str, float]  # view -> position from the upper (0) to the lower (1) skin line
    appearance: str  # mass shape or calcification type, in the words of the case files
    extent: str  # mass margins or calcification distribution
    subtlety: int  # 1 subtle .. 5 obvious
    assessment: int  # BI-RADS 2..5
    obscured: bool = False  # whether dense tissue hides it in this view


def sample_lesion(*, kind: Kind, malignant: bool, difficulty: float, rng: np.random.Generator) -> Lesion:
    """Draws a lesion; `difficulty` in [0, 1] sets its size and its contrast to the tissue."""
    ease = float(np.clip(1.0 - difficulty + rng.normal(0.0, 0.1), 0.0, 1.0))
    suspicious = malignant != (rng.random() < MISLEADING * difficulty)

    def scale(easy_hard: tuple[float, float]) -> float:
        easy, hard = easy_hard
        return float(hard * (easy / hard) ** ease)

    is_mass = kind == "mass"
    spread = float(np.exp(np.clip(rng.normal(0.0, 0.1 + 0.25 * difficulty), -0.7, 0.7)))
    size, place = rng.random(2), rng.random(3)
    contrast = scale((MASS_CONTRAST if is_mass else SPECK_CONTRAST)[suspicious])
    appearance = (SHAPES if is_mass else CALC_TYPES)[suspicious]
    extent = (MARGINS if is_mass else DISTRIBUTIONS)[suspicious]
    return Lesion(
        kind=kind,
        malignant=malignant,
        suspicious=suspicious,
        diameter_mm=scale(MASS_MM if is_mass else CLUSTER_MM) * spread,
        speck_mm=scale(FINE_SPECK_MM if suspicious else COARSE_SPECK_MM) * (0.85 + 0.3 * size[0]),
        contrast=contrast * (0.85 + 0.3 * size[1]),
        depth=0.3 + 0.4 * place[0],
        across={"CC": 0.2 + 0.6 * place[1], "MLO": 0.3 + 0.5 * place[2]},
        appearance=str(rng.choice(appearance)),
        extent=str(rng.choice(extent)),
        subtlety=1 + round(4 * ease),
        assessment=int(rng.choice((4, 5) if suspicious else (2, 3))),
    )


def obscure(lesion: Lesion) -> Lesion:
    """Returns the lesion as it is in a view in which dense tissue hides it: very faint, subtlety 1."""
    return replace(lesion, contrast=OBSCURED_CONTRAST * lesion.contrast, subtlety=1, obscured=True)


def mass_outline(*, lesion: Lesion, rng: np.random.Generator) -> Floats:
    """Returns the radius in millimetres at 360 equidistant angles.

    The radius is log-normal around a circle or ellipse, with a power-law spectrum; a steep spectrum gives a
    smooth margin, a flat spectrum a jagged margin.
    """
    theta = np.arange(360) * (2 * np.pi / 360)
    order = np.arange(2, 25)
    deviation, decay = (0.22, 1.1) if lesion.suspicious else (0.03, 2.0)
    if lesion.appearance == "LOBULATED":
        deviation = 0.08
    power = order**-decay
    amplitude = rng.normal(0.0, deviation, order.size) * power / np.sqrt((power**2).sum() / 2)
    phase = rng.uniform(0, 2 * np.pi, order.size)
    log_radius = (amplitude[:, None] * np.cos(np.outer(order, theta) + phase[:, None])).sum(axis=0)
    aspect = rng.uniform(1.25, 1.6) if lesion.appearance == "OVAL" else rng.uniform(1.0, 1.1)
    turned = theta - rng.uniform(0, np.pi)
    ellipse = 1 / np.hypot(np.cos(turned) / np.sqrt(aspect), np.sin(turned) * np.sqrt(aspect))
    radius: Floats = (0.5 * lesion.diameter_mm * ellipse * np.exp(log_radius)).astype(np.float32)
    return radius


def spicules(*, radius_mm: Floats, rng: np.random.Generator) -> list[tuple[Points, float]]:
    """Returns branching, curved, tapering fibres as (points, width at the root), all in millimetres."""
    mean = float(radius_mm.mean())
    fibres: list[tuple[Points, float]] = []

    def grow(start: Points, angle: float, length: float, width: float, branches: int) -> None:
        turns = angle + np.cumsum(rng.normal(0.0, 0.2, 8))
        steps = np.stack([np.cos(turns), np.sin(turns)], axis=1) * (length / 8)
        points = np.vstack([start, start + np.cumsum(steps, axis=0)])
        fibres.append((points, width))
        for _ in range(branches):
            knot = int(rng.integers(2, 7))
            side = rng.choice((-1.0, 1.0)) * rng.uniform(0.3, 0.7)
            grow(points[knot], turns[knot] + side, length * 0.5, width * 0.6, 0)

    for angle in np.linspace(0, 2 * np.pi, int(rng.integers(18, 30)), endpoint=False):
        angle += rng.normal(0.0, 0.15)
        root = 0.8 * float(radius_mm[int(np.degrees(angle)) % 360])
        start = root * np.array([np.cos(angle), np.sin(angle)])
        length = mean * rng.uniform(0.3, 1.3)
        grow(start, angle, length, 0.3 + 0.07 * mean * rng.uniform(0.5, 1.5), int(rng.integers(0, 3)))
    return fibres


def specks(*, lesion: Lesion, rng: np.random.Generator) -> list[tuple[Points, float]]:
    """Returns outline, in millimetres, and relative brightness of each calcification of a cluster.

    The order is that of drawing: a lucent centre comes after its ring.
    """
    spread = 0.5 * lesion.diameter_mm
    count = int(rng.integers(40, 70)) if lesion.suspicious else int(rng.integers(2, 6))
    linear = lesion.extent == "LINEAR" or lesion.appearance == "FINE_LINEAR_BRANCHING"
    direction = rng.uniform(0, np.pi)
    axes = np.array([[np.cos(direction), np.sin(direction)], [-np.sin(direction), np.cos(direction)]])
    shrink = np.array([1.0, 0.35 if lesion.suspicious and linear else 0.85])
    found: list[tuple[Points, float]] = []
    for _ in range(count):
        offset = np.clip(rng.normal(0.0, 0.45, 2), -1.0, 1.0) * spread * shrink
        corners = int(rng.integers(5, 9)) if lesion.suspicious else 24
        jag, sigma = (0.3, 0.35) if lesion.suspicious else (0.03, 0.2)
        angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
        radius = 0.5 * lesion.speck_mm * np.exp(rng.normal(0.0, sigma) + rng.normal(0.0, jag, corners))
        outline = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        found.append((offset @ axes + outline, float(rng.uniform(0.7, 1.0))))
        if lesion.appearance == "LUCENT_CENTER":
            found.append((offset @ axes + 0.5 * outline, 0.35))
    return found


def render_lesion(
    *, lesion: Lesion, pixel_mm: float, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.bool_]]:
    """Returns the exposure that a lesion adds to the tissue, and its mask, both S x S around its centre.

    The shape is defined in millimetres before it is drawn in pixels, so it is the same at every image size.
    """
    import cv2

    finer = int(np.ceil(pixel_mm / 0.15))  # fine fibres and specks are averaged into pixels, not sampled
    reach = 1.3 if lesion.kind == "mass" and lesion.suspicious else 0.85
    side = 2 * int(np.ceil(reach * lesion.diameter_mm / pixel_mm)) + 1
    step = pixel_mm / finer
    draw = _draw_mass if lesion.kind == "mass" else _draw_cluster
    fine = draw(lesion=lesion, side=side * finer, step=step, rng=rng)
    exposure, mask = (cv2.resize(a, (side, side), interpolation=cv2.INTER_AREA) for a in fine)
    return (lesion.contrast * exposure).astype(np.float32), np.asarray(mask > 127)


def _draw_mass(
    *, lesion: Lesion, side: int, step: float, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.uint8]]:
    """Returns the projected thickness (1 in the middle) and the mask of a mass."""
    import cv2

    radius = mass_outline(lesion=lesion, rng=rng)
    fibres = spicules(radius_mm=radius, rng=rng) if lesion.suspicious else []
    axis = ((np.arange(side) - (side - 1) / 2) * step).astype(np.float32)
    distance, angle = cv2.cartToPolar(*np.meshgrid(axis, axis))
    rho = distance / np.interp(angle, np.arange(361) * (2 * np.pi / 360), np.append(radius, radius[0]))
    body = np.sqrt(np.clip(1 - rho**2, 0, 1)).astype(np.float32)
    if lesion.suspicious:
        body = cv2.GaussianBlur(body, (0, 0), max(0.04 * lesion.diameter_mm / step, 0.5))
        canvas = np.zeros((side, side), np.uint8)
        for points, width in fibres:
            _draw_fibre(canvas=canvas, points=points, width=width, step=step)
        body = np.maximum(
            body, cv2.GaussianBlur(canvas, (0, 0), max(0.2 / step, 0.5)) * np.float32(0.6 / 255)
        )
    return body, (rho <= 1).astype(np.uint8) * np.uint8(255)


def _draw_fibre(*, canvas: NDArray[np.uint8], points: Points, width: float, step: float) -> None:
    import cv2

    centre = (canvas.shape[0] - 1) / 2
    pixels = np.round((points / step + centre) * 16).astype(np.int32)  # 4 fractional bits
    for k, (a, b) in enumerate(pairwise(pixels)):
        taper = 1 - k / len(pixels)
        thickness = max(1, round(width * taper / step))
        cv2.line(canvas, a.tolist(), b.tolist(), int(255 * (0.35 + 0.65 * taper)), thickness, cv2.LINE_AA, 4)


def _draw_cluster(
    *, lesion: Lesion, side: int, step: float, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.uint8]]:
    """Returns calcifications (1 is the brightest) and the hull of their cluster with a margin of 1.5 mm."""
    import cv2

    centre = (side - 1) / 2
    exposure, corners = np.zeros((side, side), np.float32), []
    for outline, brightness in specks(lesion=lesion, rng=rng):
        pixels = np.round(outline / step + centre).astype(np.int32)
        corners.append(pixels)
        cv2.fillPoly(exposure, [pixels], brightness)
    mask = np.zeros((side, side), np.uint8)
    hull = cv2.convexHull(np.concatenate(corners))
    cv2.fillConvexPoly(mask, hull, 255)
    cv2.polylines(mask, [hull], True, 255, max(1, round(3.0 / step)))
    blurred = cv2.GaussianBlur(exposure, (0, 0), max(0.08 / step, 0.3))
    return blurred.astype(np.float32, copy=False), mask
