"""Download of the series of a data set that are not on the disk yet, in batches, with repeated attempts."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mammo.data.progress_bar import progress
from mammo.download.idc_series import Series
from mammo.download.series_transfer import require_server, transfer
from mammo.errors import DataError

BATCH = 48  # series; after each batch the disk and the network are looked at
ATTEMPTS = 3


def missing_series(series: Sequence[Series], root: Path) -> list[Series]:
    """Return the series that are not whole in their folders: files are counted and their bytes added up."""
    return [each for each in series if each.problem(root / each.folder) is not None]


def require_room(root: Path, needed: int, *, remedy: str) -> None:
    """Raise DataError if a disk has less free space.

    Args:
        root: Folder on the disk.
        needed: Bytes.
        remedy: What to do about it.
    """
    free = shutil.disk_usage(root).free
    if free < needed:
        raise DataError(
            f"data.root={root}: {gigabytes(needed)} are needed and {gigabytes(free)} are free; {remedy}"
        )


def gigabytes(count: int) -> str:
    """Return a number of bytes for a person.

    Example:
        >>> gigabytes(102_598_000_000), gigabytes(1_234_567)
        ('102.6 GB', '1.2 MB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def download_series(
    series: Sequence[Series], root: Path, *, endpoint: str, advance: Callable[[int], object]
) -> dict[Series, str]:
    """Download series, and those that fail again; return the series that did not come, with the reason.

    Args:
        series: Series to download.
        root: Folder of the data set.
        endpoint: Address of the server.
        advance: Function that is called with the bytes of each series that has come.

    Raises:
        DataError: The server cannot be reached, or the disk is full.
    """
    left = dict.fromkeys(series, "")
    for _ in range(ATTEMPTS):
        todo = list(left)
        for start in range(0, len(todo), BATCH):
            came = 0
            for each, problem in transfer(todo[start : start + BATCH], root, endpoint=endpoint):
                if problem is None:
                    del left[each]
                    came += 1
                    advance(each.size)
                else:
                    left[each] = problem
            if not came:
                require_server(endpoint)
    return left


@contextmanager
def megabyte_progress(
    series: Sequence[Series], missing: Sequence[Series]
) -> Iterator[Callable[[int], object]]:
    """Show the progress of a download; yield the function `advance` of `download_series`.

    Args:
        series: All series.
        missing: Those that are to be downloaded.
    """
    whole, left = (sum(each.size for each in part) for part in (series, missing))
    done = whole - left

    with progress(
        total=max(1, round(whole / 1e6)), done=round(done / 1e6), what="downloading", unit="megabyte"
    ) as advance:

        def add(count: int) -> None:
            nonlocal done
            before, done = round(done / 1e6), done + count
            advance(round(done / 1e6) - before)

        yield add
