"""Side and view of images whose table has neither, from the headers of their files."""

from pathlib import Path

import pandas as pd

from mammo.data.images.dicom import read_facts
from mammo.data.sources.header_cache import cached_headers
from mammo.errors import DataError


def places_in_headers(paths: "pd.Series[str]", *, root: Path) -> pd.DataFrame:
    """Return `laterality` and `view` of files, NA where a header has none or cannot be read.

    Args:
        paths: Absolute paths.
        root: Folder of the files; the headers of unchanged files are not read again.
    """
    found = cached_headers(root.absolute(), paths.tolist(), _read, name="places")
    sides, views = zip(*(found[path] for path in paths), strict=True)
    return pd.DataFrame({"laterality": sides, "view": views}, paths.index, dtype="string")


def _read(file: str) -> tuple[str | None, str | None]:
    try:
        facts = read_facts(Path(file))
    except DataError:
        return None, None
    return facts.laterality, facts.view
