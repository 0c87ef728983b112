"""Counts of the facts of image files, and warnings of what makes a data set misleading."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mammo.data.images.display import Range
from mammo.data.inspection.file_survey import FileFacts
from mammo.data.store.white_points import KindRanges

# Name of the property that a survey gives the values of a file.
DEPTH = "bits that the values need"
_DARKER_BITS = 2  # fewer bits than others of the kind by which an image counts as darker
_CERTAIN = 0.001  # largest p-value of an association that is reported


def count_properties(files: Sequence[FileFacts]) -> dict[str, dict[str, int]]:
    """Return the number of files of each value of each property, the frequent ones first."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for file in files:
        for name, value in file.properties.items():
            counts[name][value] += 1
    return {name: dict(values.most_common()) for name, values in counts.items()}


def ranges_of(files: Sequence[FileFacts]) -> dict[str, Range | None]:
    """Return black and white of each kind of file, as a store of the files has them."""
    found = KindRanges()
    for file in files:
        if file.kind:
            found.kinds.setdefault(file.kind, None)
        if file.error is None and file.used is not None and file.full is not None:
            found.add((file.kind, file.used, file.full))
    return found.ranges()


def warnings_of(files: Sequence[FileFacts], labels: Mapping[Path, str] | None = None) -> list[str]:
    """Return a sentence for each thing that is wrong or suspicious, the worst first.

    Args:
        files: Facts of the files.
        labels: Label of each file, where it has one.
    """
    found = []
    if bright := [file for file in files if file.bright_background]:
        found.append(
            f"the background is brighter than the breast in {_some(bright)}; look at the contact sheet, and "
            "correct the polarity"
        )
    errors = Counter(file.error for file in files if file.error is not None)
    for error, _ in errors.most_common():
        subject = "" if error.startswith("its ") else "it "
        members = _some([file for file in files if file.error == error])
        found.append(f"not usable: {members}; {subject}{error}")
    found += _darker(files)
    found += _with_label(files, labels or {})
    notes = Counter(note for file in files for note in file.notes)
    for note, _ in notes.most_common():
        found.append(f"{_some([file for file in files if note in file.notes])}: {note}")
    return found


def _some(files: Sequence[FileFacts]) -> str:
    return f"{len(files)} {'file' if len(files) == 1 else 'files, the first is'} {files[0].path}"


def depth_group(file: FileFacts, ranges: Mapping[str, Range | None]) -> str:
    """Return the kind of a file, with the depth of its values where it is much less than that of the kind."""
    ends, depth = ranges.get(file.kind), int(file.properties.get(DEPTH, 0))
    if ends is None or not depth or (ends[1] - ends[0]).bit_length() - depth < _DARKER_BITS:
        return file.kind
    return f"{file.kind}, values of {depth} bits"


def _darker(files: Sequence[FileFacts]) -> list[str]:
    """Return warnings of images that need fewer bits than others of their kind, and are therefore darker."""
    ranges = ranges_of(files)
    groups: defaultdict[str, list[FileFacts]] = defaultdict(list)
    for file in files:
        if file.error is None and depth_group(file, ranges) != file.kind:
            groups[depth_group(file, ranges)].append(file)
    found = []
    for _, members in sorted(groups.items()):
        kind = members[0].kind
        ends = ranges[kind]
        assert ends is not None
        bits, depth = (ends[1] - ends[0]).bit_length(), int(members[0].properties[DEPTH])
        total = sum(file.kind == kind and file.error is None for file in files)
        found.append(
            f"depths are mixed: of {total} files of the kind '{kind}', {_some(members)} need only {depth} "
            f"bits, and others {bits}, so that they are up to {2 ** (bits - depth)} times darker; convert "
            "them to one depth"
        )
    return found


def _with_label(files: Sequence[FileFacts], labels: Mapping[Path, str]) -> list[str]:
    """Return a warning if the label goes together with the kind of file or the depth of its values."""
    ranges = ranges_of(files)
    pairs = Counter(
        (depth_group(file, ranges), labels[file.path])
        for file in files
        if file.error is None and file.kind and file.path in labels
    )
    groups, names = sorted({group for group, _ in pairs}), sorted({name for _, name in pairs})
    if len(groups) < 2 or len(names) < 2:
        return []
    from scipy.stats import chi2_contingency  # imported late, because it takes a second

    table = np.array([[pairs[group, name] for name in names] for group in groups])
    if chi2_contingency(table).pvalue > _CERTAIN:
        return []
    shares = "; ".join(
        f"'{group}': " + ", ".join(f"{count} {name}" for name, count in zip(names, row, strict=True))
        for group, row in zip(groups, table.tolist(), strict=True)
    )
    return [
        f"depth or kind of file and label go together, so that a network can learn the file instead of the "
        f"breast ({shares}); take both labels from files of the same kind"
    ]
