"""Heat on the pixels of the file that an image was prepared from."""

import cv2
import numpy as np
from numpy.typing import NDArray

from mammo.data.images.breast import Transform


def to_file_pixels(heat: NDArray[np.float32], transform: Transform) -> NDArray[np.float32]:
    """Map the heat of a prepared image to the pixels of its file, with 0 outside the crop.

    Args:
        heat: H W.
        transform: transform of the image, from `Store.transform`.

    Returns:
        Heat, `file_height` x `file_width`, with bilinear interpolation.
    """
    height, width = transform.bottom - transform.top, transform.right - transform.left
    rows, columns = transform.content_shape
    content = cv2.resize(heat[:rows, :columns], (width, height), interpolation=cv2.INTER_LINEAR)
    flipped = np.zeros((transform.file_height, transform.file_width), np.float32)
    flipped[transform.top : transform.bottom, transform.left : transform.right] = content
    return np.ascontiguousarray(flipped[:, ::-1]) if transform.flip else flipped
