"""Whether an image is shown with the wrong polarity: a background that is brighter than the breast."""

import numpy as np

from mammo.data.images.formats import Pixels

_SIDE = 256  # pixels, longer side of the reduced copy
_STRIP = (
    0.03,
    0.12,
)  # place of a strip along a side, as a share of the width; the outermost part may be film edge
_UNIFORM = 0.1  # largest spread of a background, as a share of the image's range
_LEAST = 0.02  # smallest share of the image that the breast takes


def background_is_brighter(pixels: Pixels) -> bool:
    """Return whether the background is brighter than the breast; False where there is no uniform background.

    The background is the strip along the left or right side with the smaller spread of values; the breast is
    what differs from it.

    Args:
        pixels: H W, as shown.
    """
    step = max(1, max(pixels.shape) // _SIDE)
    small = pixels[::step, ::step].astype(np.float64)
    low, high = np.percentile(small, [1, 99])
    if high <= low:
        return False
    first, last = (round(share * small.shape[1]) for share in _STRIP)
    last = max(last, first + 1)
    strips = small[:, first:last], small[:, small.shape[1] - last : small.shape[1] - first]
    spreads = [np.subtract(*np.percentile(strip, [90, 10])) for strip in strips]
    if min(spreads) > _UNIFORM * (high - low):
        return False
    background = np.median(strips[int(np.argmin(spreads))])
    breast = small[np.abs(small - background) > _UNIFORM * (high - low)]
    return bool(breast.size > _LEAST * small.size and np.median(breast) < background)
