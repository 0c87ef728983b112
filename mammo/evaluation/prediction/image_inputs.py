"""Images that a program gives to be scored: files, folders, patterns and arrays."""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mammo.data.images.breast import Transform
from mammo.data.images.dicom import Mammogram, Pixels, read_mammogram, refuse_blank
from mammo.data.store.store_building import Settings, prepare_mammogram
from mammo.errors import DataError
from mammo.evaluation.prediction.input_files import (
    UNREADABLE,
    Files,
    Row,
    empty_row,
    find_files,
    named_place,
    prepare_files,
)

# Path of a file, folder or pattern, or pixels H W: uint8 or uint16 of full scale, or float in [0, 1].
Image: TypeAlias = str | os.PathLike[str] | NDArray[Any]
# One image: the path of a file, or its pixels, H W of full scale.
OneImage: TypeAlias = str | Pixels


def list_images(images: Image | Iterable[Image]) -> list[OneImage]:
    """List images one by one.

    Args:
        images: image, folder or pattern (sorted as by the command), array N H W, or several of these.

    Raises:
        ConfigError: there is no such file.
        DataError: an array is no image.
    """
    return list(_each(images, "image"))


def only_files(images: Sequence[OneImage], *, unit: str) -> Files:
    """Return images that are all files, each once.

    Args:
        images: paths of files, and pixels.
        unit: what the run scores, for the message.

    Raises:
        DataError: one is no file.
    """
    paths = [image for image in images if isinstance(image, str)]
    if len(paths) < len(images):
        raise DataError(
            f"images: the run scores a whole {unit}, and an array has no laterality and view; give files"
        )
    return Files(Path(), list(dict.fromkeys(paths)))


def _each(images: Any, name: str) -> Iterator[OneImage]:
    if isinstance(images, str | os.PathLike):
        files = find_files(os.fspath(images))
        yield from (str(files.root / path) for path in files.paths)
    elif not hasattr(images, "__array__") or np.asarray(images).ndim == 3:  # also PyTorch's and Pillow's
        if not isinstance(images, Iterable):
            raise DataError(f"{name}: is of type {type(images).__name__}; give a path or an array H W")
        for number, image in enumerate(images):
            yield from _each(image, f"image {number}")
    else:
        yield pixels_of(images, name)


def pixels_of(image: NDArray[Any], name: str = "image") -> Pixels:
    """Convert an array to pixels of full scale, H W, uint8 or uint16.

    Args:
        image: H W; uint8 in 0..255, uint16 in 0..65535, or float in [0, 1].
        name: name of the image, for messages.

    Raises:
        DataError: the array is not of this kind.

    Example:
        >>> import numpy as np
        >>> pixels_of(np.array([[0.0, 0.5, 1.0]]))
        array([[    0, 32768, 65535]], dtype=uint16)
    """
    array = np.asarray(image)
    if array.ndim != 2 or array.size == 0:
        raise DataError(f"{name}: has the shape {array.shape}; give one grey image of H x W pixels")
    if array.dtype.kind == "f":
        if not (array.min() >= 0 and array.max() <= 1):  # also for NaN
            raise DataError(
                f"{name}: has float pixels from {array.min():g} to {array.max():g}; scale them to [0, 1]"
            )
        return np.rint(array.astype(np.float64) * 65535).astype(np.uint16)
    if array.dtype.kind != "u" or array.dtype.itemsize > 2:
        raise DataError(f"{name}: has {array.dtype} pixels; give uint8, uint16, or float in [0, 1]")
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def prepare_images(
    images: Sequence[OneImage],
    *,
    settings: Settings,
    secondary: bool = False,
    include: Collection[str] = (),
    alone: bool = False,
) -> list[tuple[Row, Pixels | None]]:
    """Decode and prepare images, as `prepare_files` does.

    Args:
        images: paths of files, and pixels.
        settings: settings of the run's store.
        secondary: see `wanted_facts`.
        include: see `wanted_facts`.
        alone: whether each file is decoded in its own process.
    """
    prepared: list[tuple[Row, Pixels | None]] = []
    for image in images:
        if isinstance(image, str):
            prepared += prepare_files(
                Path(), [image], settings=settings, secondary=secondary, include=include, alone=alone
            )
            continue
        row, pixels = empty_row(), None
        try:
            refuse_blank(image, "")
            pixels, _, _ = prepare_mammogram(Mammogram(image), (), settings)
        except DataError as error:
            row |= {"error": str(error).removeprefix(": "), "kind": UNREADABLE}
        prepared.append((row, pixels))
    return prepared


def prepare_one(image: Image, *, settings: Settings) -> tuple[Pixels, Transform, Row]:
    """Return one image as the network sees it, H W, the transform from its own pixels, and its row.

    The row has the laterality and view of header or name, None if they are not known.

    Raises:
        DataError: the image cannot be used.
    """
    row = empty_row()
    if isinstance(image, str | os.PathLike):
        mammogram = read_mammogram(Path(image), settings.display)
        by_name = named_place(Path(image))
        row["path"] = os.fspath(image)
        row["laterality"] = mammogram.laterality or by_name.laterality
        row["view"] = mammogram.view or by_name.view
    else:
        mammogram = Mammogram(pixels_of(image))
        refuse_blank(mammogram.pixels, "image")
    row["notes"] = list(mammogram.notes)
    pixels, _, facts = prepare_mammogram(mammogram, (), settings)
    return pixels, Transform(**facts["transform"]), row
