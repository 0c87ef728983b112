"""What the header and the pixels of each image file say."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mammo.data.images.dicom import as_mammogram, open_header, read_kind, read_values
from mammo.data.images.display import Display, Range, is_raw, needs_range, range_of
from mammo.data.images.formats import format_of
from mammo.data.images.header_places import place_of
from mammo.data.inspection.polarity import background_is_brighter
from mammo.data.progress_bar import progress
from mammo.data.worker_pool import completed_results, in_own_process
from mammo.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset


@dataclass
class FileFacts:
    """What a file says.

    Attributes:
        path: The file.
        kind: Format, bits and manufacturer.
        properties: Words for each property that is counted, such as `photometric interpretation`.
        used: Smallest and largest stored value, where they decide on black and white; else None.
        full: Smallest and largest value that the file can have, where `used` is known.
        notes: What is to be known of the grey values.
        bright_background: Whether the background is brighter than the breast.
        error: Why the file cannot be used, or None.
    """

    path: Path
    kind: str = ""
    properties: dict[str, str] = field(default_factory=dict)
    used: Range | None = None
    full: Range | None = None
    notes: tuple[str, ...] = ()
    bright_background: bool = False
    error: str | None = None


def survey(paths: Sequence[Path], *, display: Display, pixels: bool, workers: int) -> list[FileFacts]:
    """Inspect image files.

    Args:
        paths: Files.
        display: Choices of how they are shown.
        pixels: Whether to decode the files too, not only to read their headers.
        workers: Number of processes; 0 for this one.

    Returns:
        The facts of each file, in the order of the paths.
    """
    found: dict[Path, FileFacts] = {}
    calls = (functools.partial(inspect_file, path, display, pixels=pixels) for path in paths)
    # a process takes as long to start as it takes to read hundreds of headers, which no decoder can end
    workers = min(workers, len(paths) if pixels else len(paths) // 500)
    with progress(total=len(paths), done=0, what="inspecting", unit="file", after_seconds=2) as advance:
        for facts in completed_results(calls, workers=workers, retry=lambda call: call(alone=True)):
            found[facts.path] = facts
            advance(1)
    return [found[path] for path in paths]


def inspect_file(path: Path, display: Display, *, pixels: bool, alone: bool = False) -> FileFacts:
    """Inspect one file, see `survey`; in a process of its own if it is to be alone."""
    facts = FileFacts(path)
    try:
        if alone:
            return in_own_process(functools.partial(inspect_file, path, display, pixels=pixels))
        format_name = format_of(path)
        if format_name == "DICOM":
            facts.properties = _header_properties(open_header(path, pixels=False))
        else:
            facts.properties = {"format": format_name}
        facts.kind, (low, high) = read_kind(path)
        facts.properties.setdefault("bits", f"{(high - low).bit_length()}")
        if pixels:
            _add_pixels(facts, display)
    except DataError as error:
        facts.error = " ".join(str(error).removeprefix(f"{path}: ").split())
    return facts


def _add_pixels(facts: FileFacts, display: Display) -> None:
    stored = read_values(facts.path)
    if needs_range(stored, display):
        facts.used, facts.full = stored.used(), stored.full
        black, white = range_of(facts.used, facts.full)
        facts.properties["bits that the values need"] = f"{(white - black).bit_length()}"
    mammogram = as_mammogram(stored, display, facts.path)
    facts.notes = mammogram.notes
    facts.bright_background = background_is_brighter(mammogram.pixels)


def _header_properties(header: "Dataset") -> dict[str, str]:
    """Return the properties of a DICOM header in words; an empty tag is `none`."""
    place = place_of(header)
    syntax = getattr(header, "file_meta", {}).get("TransferSyntaxUID")
    luts, centre = header.get("VOILUTSequence") or [], header.get("WindowCenter")
    several = 0 if centre is None else 1 if isinstance(centre, str | float | int) else len(centre)
    words = ("no window", "1 window", f"{several} windows")[min(several, 2)]
    windows = [f"{len(luts)} VOI LUT"] * bool(luts) + [words] * bool(several)
    intent = _word(header, "PresentationIntentType")
    padding = "range" if "PixelPaddingRangeLimit" in header else "value"
    return {
        "format": "DICOM",
        "transfer syntax": "none" if syntax is None else syntax.name,
        "photometric interpretation": _word(header, "PhotometricInterpretation"),
        "presentation intent": "FOR PROCESSING" if is_raw(header) else intent,
        "bits": f"{_word(header, 'BitsStored')} of {_word(header, 'BitsAllocated')}",
        "pixel padding": padding if "PixelPaddingValue" in header else "none",
        "windows": ", ".join(windows) or "none",
        "implant": _word(header, "BreastImplantPresent"),
        "laterality": _from(place.laterality, place.laterality_from_text),
        "view": _from(place.view, place.view_from_text),
        "manufacturer": _word(header, "Manufacturer"),
    }


def _word(header: "Dataset", keyword: str) -> str:
    value = header.get(keyword)
    return "none" if value is None or value == "" else " ".join(str(value).split())


def _from(value: str | None, text: bool) -> str:
    return "none" if value is None else f"{value} (from free text)" if text else value
