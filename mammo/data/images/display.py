"""From the stored values of a file to grey values: padding, windows, the white point, raw detector images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mammo.data.images.formats import Pixels
from mammo.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

# Stored values that become black and white.
Range: TypeAlias = tuple[int, int]

_DEPTHS = (8, 10, 12, 14, 16)  # bits that detectors and scanners use
_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
# Ratio of the range of an image's kind to that of its own values from which it is reported as dark.
_DARK = 8
# Share of the pixels of a raw image below black and above white, so that dead pixels do not set the contrast.
_RAW_TAIL = 0.001


@dataclass(frozen=True)
class Display:
    """The choices of how stored values become grey values.

    Attributes:
        white: White point of files without a window: `auto` (the least of 8, 10, 12, 14 and 16 bits that
            holds all images of the kind of file), `file` (the largest value the file can have), or a stored
            value.
        window: Explanation of the window or VOI LUT to use where a file has several; None for the first.
        for_processing: Whether to `reject` raw detector images (FOR PROCESSING), or `convert` them.
        kinds: Black and white of each kind of file of the data set, None for a kind that needs none; None for
            no data set, where the values of each image decide.
    """

    white: str | int = "auto"
    window: str | None = None
    for_processing: Literal["reject", "convert"] = "reject"
    kinds: Mapping[str, Range | None] | None = None


@dataclass(frozen=True)
class Stored:
    """The stored values of a file.

    Attributes:
        values: H W.
        full: Smallest and largest value that the file can have.
        kind: Format, bits and manufacturer; files of one kind have one white point.
        header: Header of a DICOM file.
    """

    values: NDArray[Any]
    full: Range
    kind: str
    header: "Dataset | None" = field(default=None, repr=False)

    def padding(self) -> Range | None:
        """Return the first and last stored value that mark pixels outside the image; None for no padding."""
        found = []
        for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
            value = None if self.header is None else self.header.get(keyword)
            if isinstance(value, bytes):  # unknown value representation
                value = int.from_bytes(value[:2], "little")
            if value is None or value == "":
                break
            value = int(value)
            if value > self.full[1] and self.full[0] < 0:  # a signed value, written as an unsigned one
                value -= 1 << 16
            elif value < self.full[0] == 0:
                value += 1 << 16
            found.append(value)
        return (min(found), max(found)) if found else None

    def used(self) -> Range:
        """Return the smallest and largest stored value, without padding."""
        values, padding = self.values, self.padding()
        if padding is not None:
            inside = (values < padding[0]) | (values > padding[1])
            values = values[inside] if not inside.all() else values
        return (int(values.min()), int(values.max())) if values.size else (0, 0)


def is_raw(header: "Dataset") -> bool:
    """Return whether a DICOM image is FOR PROCESSING: exposures of the detector, not meant to be shown."""
    intent = str(header.get("PresentationIntentType") or "").upper()
    # Digital Mammography and Digital X-Ray Image Storage - For Processing
    raw_classes = ("1.2.840.10008.5.1.4.1.1.1.2.1", "1.2.840.10008.5.1.4.1.1.1.1.1")
    return intent == "FOR PROCESSING" or str(header.get("SOPClassUID")) in raw_classes


def range_of(used: Range, full: Range) -> Range:
    """Return black and white: those of the least of 8, 10, 12, 14 and 16 bits that holds the values.

    Black is 0, or the smallest value if that is negative, so that the background of signed images is dark.

    Args:
        used: Smallest and largest value of the images.
        full: Smallest and largest value that a file can have.

    Example:
        >>> range_of((3, 4000), (0, 65535)), range_of((-5, 500), (-2048, 2047)), range_of((0, 9), (0, 15))
        ((0, 4095), (-5, 1018), (0, 15))
    """
    black = min(used[0], 0)
    for bits in _DEPTHS:
        white = black + (1 << bits) - 1
        if used[1] <= white < full[1]:
            return black, white
    return black, full[1]


def needs_range(stored: Stored, display: Display) -> bool:
    """Return whether the grey values of an image depend on black and white of its kind, not on its header."""
    if stored.header is None:
        return True
    if is_raw(stored.header):
        return False
    try:
        return _voi(stored, display.window, [], stored.used()) is None
    except Exception:  # a LUT that cannot be applied is reported when the image is read
        return False


def grey_values(stored: Stored, display: Display, name: str) -> tuple[Pixels, tuple[str, ...]]:
    """Map stored values to grey values of full scale, 0..255 or 0..65535, with dark background.

    All steps depend only on the stored value. They are computed for a table of the at most 65,536 possible
    values, which is then applied to the image once.

    Args:
        stored: Stored values.
        display: Choices.
        name: Name of the file, for messages.

    Returns:
        The grey values, H W, and what the user should know of them, in the same words for every image.

    Raises:
        DataError: The image is raw, and not to be converted.
    """
    notes: list[str] = []
    low, high = stored.full
    used, padding = stored.used(), stored.padding()
    values = np.arange(low, high + 1, dtype=np.int32)
    header = stored.header
    if display.kinds is not None and stored.kind not in display.kinds:
        notes.append(f"is of a kind of file that is not among the training images ({stored.kind})")
    if header is None:
        fraction = _between(values, _range(stored, used, display, notes))
    elif is_raw(header):
        if display.for_processing != "convert":
            raise DataError(
                f"{name}: is a raw image, FOR PROCESSING, which is not meant to be shown; use the image FOR "
                "PRESENTATION, or data.for_processing=convert"
            )
        fraction = _from_exposure(values, stored, padding)
    else:
        shown = _voi(stored, display.window, notes, used)
        if shown is None:
            shown = _modality_range(header, values, _range(stored, used, display, notes))
        fraction = 1 - shown if header.PhotometricInterpretation == "MONOCHROME1" else shown
    if padding is not None:
        fraction[(values >= padding[0]) & (values <= padding[1])] = 0  # background
    white, dtype = (255, np.uint8) if high - low <= 255 else (65535, np.uint16)
    table = np.rint(np.clip(fraction, 0, 1) * white).astype(dtype)
    if stored.values.dtype == dtype and np.array_equal(table, values):
        pixels: Any = stored.values  # as in the original files of CBIS-DDSM
    else:
        pixels = table[stored.values if low == 0 else stored.values.astype(np.int32) - low]
    return pixels, tuple(notes)


def _range(stored: Stored, used: Range, display: Display, notes: list[str]) -> Range:
    """Return black and white of an image without a window."""
    low, high = stored.full
    own = range_of(used, stored.full)
    if isinstance(display.white, int):
        found = own[0], min(high, display.white)
    elif display.white == "file" or (low == 0 and high <= 255):
        found = own[0], high
    elif (known := (display.kinds or {}).get(stored.kind)) is not None:
        found = known
    else:
        if display.kinds is not None:
            notes.append(f"its white point is {own[1]}, by its own values")
        return own
    if used[0] < found[0] or used[1] > found[1]:
        notes.append(f"has values outside black and white, {found[0]} and {found[1]}")
    if found[1] - found[0] >= _DARK * (own[1] - own[0]):
        notes.append(
            f"is dark, because its values need only {own[1].bit_length()} bits and white is {found[1]}"
        )
    return found


def _between(values: NDArray[Any], ends: Range) -> NDArray[np.float64]:
    return np.asarray((values.astype(np.float64) - ends[0]) / (ends[1] - ends[0]))


def _modality_range(header: "Dataset", values: NDArray[np.int32], ends: Range) -> NDArray[np.float64]:
    """Return display values from the modality LUT, which may fall, with black and white at its ends."""
    from pydicom.pixels.processing import apply_modality_lut

    modality = np.asarray(apply_modality_lut(values, header), np.float64)
    within = modality[(values >= ends[0]) & (values <= ends[1])]
    return np.asarray((modality - within.min()) / (within.max() - within.min()))


def _from_exposure(values: NDArray[np.int32], stored: Stored, padding: Range | None) -> NDArray[np.float64]:
    """Return attenuation, 0 to 1, of a raw image: the logarithm of the exposure, inverted and scaled.

    The 99.9th percentile of the exposure is black, the 0.1th white. `PixelIntensityRelationship` LOG means
    that the values are logarithms already, a `PixelIntensityRelationshipSign` of -1 that they fall with the
    exposure.
    """
    header = stored.header
    assert header is not None
    counts = np.bincount((stored.values.astype(np.int32) - stored.full[0]).ravel(), minlength=len(values))
    if padding is not None:
        counts[(values >= padding[0]) & (values <= padding[1])] = 0
    shares = np.cumsum(counts) / max(1, counts.sum())
    first, last = np.searchsorted(shares, [_RAW_TAIL, 1 - _RAW_TAIL])
    signal = (values - stored.full[0] + 1).astype(np.float64)
    if str(header.get("PixelIntensityRelationship") or "").upper() != "LOG":
        signal = np.log(signal)
    fraction = (signal[last] - signal) / max(signal[last] - signal[first], 1e-12)
    return np.asarray(1 - fraction if header.get("PixelIntensityRelationshipSign") == -1 else fraction)


def _voi(stored: Stored, name: str | None, notes: list[str], used: Range) -> NDArray[np.float64] | None:
    """Return display values by the VOI LUT, else by the window; None if the header has no usable one.

    Args:
        stored: Stored values.
        name: Explanation of the LUT or window to use; None for the first.
        notes: Receives what is wrong with LUT or window.
        used: Smallest and largest stored value of the image.
    """
    from pydicom.pixels.processing import apply_modality_lut

    header = stored.header
    assert header is not None
    values = np.arange(stored.full[0], stored.full[1] + 1, dtype=np.int32)
    luts = [str(item.get("LUTExplanation") or "") for item in header.get("VOILUTSequence") or []]
    windows, explained = _windows(header, notes)
    ways: list[tuple[str, int]] = [("VOI LUT", index) for index in range(len(luts))]
    ways += [("window", index) for index in windows]
    if name is not None and ways:
        named = [way for way in ways if _same((luts if way[0] == "VOI LUT" else explained)[way[1]], name)]
        if not named:
            notes.append(f"has no window data.window={name}; its first is used")
        ways = named or ways
    if not ways:
        return None
    modality = np.asarray(apply_modality_lut(values, header))
    for kind, index in ways:
        apply: Callable[..., NDArray[np.float64]] = _lut if kind == "VOI LUT" else _window
        try:
            shown = apply(modality, header, index)
        except Exception:  # pydicom raises many types
            notes.append(f"its {kind} cannot be applied")
            continue
        part = shown[used[0] - stored.full[0] : used[1] - stored.full[0] + 1]
        if np.isfinite(part).all() and (part.clip(0, 1).max() > part.clip(0, 1).min() or used[0] == used[1]):
            return shown
        notes.append(f"its {kind} contains none of its values")
    return None


def _same(explanation: str, name: str) -> bool:
    return explanation.strip().casefold() == name.strip().casefold()


def _windows(header: "Dataset", notes: list[str]) -> tuple[list[int], list[str]]:
    """Return the numbers of the usable windows, and the explanation of each window."""

    def several(keyword: str) -> list[Any]:
        value = header.get(keyword)
        if value is None or isinstance(value, str | int | float):
            return [] if value is None or value == "" else [value]
        return list(value)

    centres, widths = several("WindowCenter"), several("WindowWidth")
    count = max(len(centres), len(widths))
    explained = [str(text) for text in several("WindowCenterWidthExplanation")]
    explained += [""] * (count - len(explained))
    if not count:
        if "WindowCenter" in header or "WindowWidth" in header:
            notes.append("its window is empty")
        return [], explained
    if "VOILUTFunction" in header and not header.VOILUTFunction:
        del header.VOILUTFunction  # empty, which pydicom does not take for LINEAR
    function = str(header.get("VOILUTFunction", "LINEAR")).upper()
    if function not in _FUNCTIONS:
        notes.append(f"its VOI LUT function {function} is not known")
        return [], explained
    usable = []
    for index in range(count):
        try:
            centre, width = float(centres[index]), float(widths[index])
        except (IndexError, TypeError, ValueError):
            notes.append("its window is empty")
            continue
        if not np.isfinite([centre, width]).all() or width <= 0 or (width < 1 and function == "LINEAR"):
            notes.append(f"its window has the width {width:g}")
        else:
            usable.append(index)
    return usable, explained


def _window(modality: NDArray[Any], header: "Dataset", index: int) -> NDArray[np.float64]:
    from pydicom.pixels.processing import apply_windowing

    with np.errstate(over="ignore"):
        # pydicom does not report black and white of the window; its output for extreme values gives them.
        black, white = apply_windowing(np.array([-1e9, 1e9]), header, index)
        shown = apply_windowing(modality, header, index)
    return np.asarray((np.asarray(shown, np.float64) - black) / (white - black))


def _lut(modality: NDArray[Any], header: "Dataset", index: int) -> NDArray[np.float64]:
    from pydicom.pixels.processing import apply_voi

    full = (1 << header.VOILUTSequence[index].LUTDescriptor[2]) - 1
    shown = apply_voi(np.rint(modality).astype(np.int32), header, index)
    # some LUTs have entries of 12 bits and say 16; the first and last entry hold for all values outside
    entries = apply_voi(np.arange(-1 << 15, 1 << 16, dtype=np.int32), header, index)
    return np.asarray(shown, np.float64) / range_of((0, int(entries.max())), (0, full))[1]
