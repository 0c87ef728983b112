"""Black and white of each kind of file of a data set, from the stored values of its images."""

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mammo.atomic_files import write_atomically
from mammo.data.images.dicom import read_kind, read_values
from mammo.data.images.display import Display, Range, needs_range, range_of
from mammo.data.progress_bar import progress
from mammo.data.worker_pool import completed_results, in_own_process
from mammo.errors import DataError
from mammo.runs import RunFolder

# Kind, smallest and largest value of an image, and those that its file can have; None if it does not count.
UsedRange = tuple[str, Range, Range] | None


def known_ranges(kinds: Mapping[str, Mapping[str, Any]]) -> dict[str, Range | None]:
    """Return black and white of the kinds of files in the manifest of a store, None for a kind without."""
    return {
        name: None if kind["white"] is None else (kind["black"], kind["white"])
        for name, kind in kinds.items()
    }


def ranges_of_run(run: RunFolder) -> dict[str, Range | None] | None:
    """Return black and white of the kinds of files that a run was trained on; None if it does not say."""
    kinds = run.facts().get("kinds")
    return None if kinds is None else known_ranges(kinds)


def measure_ranges(
    paths: Sequence[Path], display: Display, *, cache: Path, workers: int
) -> dict[str, Range | None]:
    """Return black and white of each kind of file, see `range_of`; None for a kind that needs none.

    Kinds that `display` knows keep their range.

    With `white=auto`, the files of a kind are decoded until their values need all bits of the file, which
    most often is after the first one; those of a kind with unused bits are all decoded.

    Args:
        paths: Files of the images.
        display: Choices of the display.
        cache: File for the result; if it exists, its content is the result.
        workers: Number of parallel processes, 0 for this process.
    """
    if not cache.is_file():
        found = KindRanges()
        add_ranges(found, paths, display, workers=workers, is_known=cache.is_file)
        if not cache.is_file():  # no other process was faster
            write_atomically(cache, json.dumps(found.ranges()), durable=True)
    ranges: dict[str, Any] = json.loads(cache.read_text())
    found_here = {kind: None if ends is None else (ends[0], ends[1]) for kind, ends in ranges.items()}
    return found_here | dict(display.kinds or {})


def add_ranges(
    found: "KindRanges",
    paths: Sequence[Path],
    display: Display,
    *,
    workers: int,
    is_known: Callable[[], bool] = lambda: False,
) -> None:
    """Measure the ranges of files whose values can change those of their kind, see `measure_ranges`.

    The processes are kept for the preparation of the images.

    Args:
        found: Ranges of the images seen so far, which get those of the files.
        paths: Files.
        display: Choices of the display.
        workers: Number of parallel processes, 0 for this process.
        is_known: Function that returns whether the result has become known, so that the rest is not read.
    """
    with progress(total=len(paths), done=0, what="white points", after_seconds=2) as advance:
        calls = _calls(paths, display, found, is_known, advance)
        for used in completed_results(calls, workers=workers, retry=lambda call: call(alone=True), keep=True):
            found.add(used)
            advance(1)


class KindRanges:
    """The ranges of values of the images seen so far, by kind of file."""

    def __init__(self) -> None:
        self.kinds: dict[str, tuple[Range, Range] | None] = {}

    def add(self, used: UsedRange) -> None:
        """Add an image."""
        if used is None:
            return
        kind, values, full = used
        if (known := self.kinds.get(kind)) is not None:
            values = (min(values[0], known[0][0]), max(values[1], known[0][1]))
            full = (min(full[0], known[1][0]), max(full[1], known[1][1]))
        self.kinds[kind] = values, full

    def are_decided(self, kind: str) -> bool:
        """Return whether no further image can change the range of a kind."""
        known = self.kinds.get(kind)
        return known is not None and range_of(*known) == known[1]

    def ranges(self) -> dict[str, Range | None]:
        """Return black and white of each kind, see `range_of`; None for a kind that needs none."""
        return {
            kind: None if known is None else range_of(*known) for kind, known in sorted(self.kinds.items())
        }


def _calls(
    paths: Sequence[Path],
    display: Display,
    found: KindRanges,
    is_known: Callable[[], bool],
    advance: Any,
) -> Iterator["functools.partial[UsedRange]"]:
    """Yield a call for each file that has to be decoded."""
    for path in paths:
        if is_known():
            return
        try:
            kind, full = read_kind(path)
        except DataError:  # reported when the image is prepared
            advance(1)
            continue
        found.kinds.setdefault(kind, None)
        known = kind in (display.kinds or {}) or found.are_decided(kind)
        if display.white == "auto" and full[0] == 0 and full[1] <= 255 and not known:
            found.add((kind, full, full))
        elif display.white == "auto" and not known:
            yield functools.partial(_used, path, display)
            continue
        advance(1)


def _used(path: Path, display: Display, *, alone: bool = False) -> UsedRange:
    """Return the kind and range of values of an image; in a process of its own if it is to be alone."""
    call = functools.partial(_used_here, path, display)
    try:
        return in_own_process(call) if alone else call()
    except DataError:
        return None


def _used_here(path: Path, display: Display) -> UsedRange:
    stored = read_values(path)
    return (stored.kind, stored.used(), stored.full) if needs_range(stored, display) else None
