"""A store that is filled in parts, whose image files need not stay on the disk after their part."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mammo.atomic_files import write_atomically
from mammo.data.store.fingerprint import PREPARATION_VERSION, recorded_settings
from mammo.data.store.store_building import (
    CHUNK,
    ImageJob,
    Settings,
    allocate_arrays,
    marker,
    report_full_disk,
    run_chunks,
)
from mammo.data.store.white_points import KindRanges, add_ranges
from mammo.errors import DataError

RANGES = "ranges.json"  # what is known of the grey values; the file marks the folders of this class


class GradualStore:
    """An unfinished store, which is filled in parts, a chunk of images or more at a time.

    The rows of all images are fixed before the first part. A killed process loses its unfinished chunks only.

    Args:
        store: Folder of all stores.
        images: Ids of the images of the store, in the order of their rows.
        settings: Settings of the store.

    Attributes:
        folder: Folder of the unfinished store.
    """

    def __init__(self, store: Path, images: Sequence[str], settings: Settings) -> None:
        self.settings = settings
        self.total = len(images)
        content = json.dumps([PREPARATION_VERSION, recorded_settings(settings), list(images)])
        self.folder = store / f"gradual-{hashlib.sha256(content.encode()).hexdigest()[:16]}.partial"

    def open_chunks(self) -> list[range]:
        """Return the rows of each chunk that is not prepared."""
        chunks = range(math.ceil(self.total / CHUNK))
        return [
            range(chunk * CHUNK, min((chunk + 1) * CHUNK, self.total))
            for chunk in chunks
            if not marker(self.folder, chunk).is_file()
        ]

    def allocate(self) -> None:
        """Make the folder and its arrays; raise DataError if the disk has too little space."""
        (self.folder / "chunks").mkdir(parents=True, exist_ok=True)
        allocate_arrays(self.folder, self.settings, total=self.total)

    def fill(
        self,
        jobs: Sequence[ImageJob],
        chunks: Sequence[range],
        *,
        workers: int,
        max_rejected: float,
        advance: Callable[[int], object],
    ) -> None:
        """Prepare chunks, whose image files are there.

        Args:
            jobs: Job of each image of the store; of other chunks, the files may be missing.
            chunks: Rows of each chunk.
            workers: Number of parallel processes, 0 for this process.
            max_rejected: Largest share of the images of the store that may be unreadable.
            advance: Function that is called with the number of images done since its last call.

        Raises:
            DataError: The disk is full, too many images are unreadable, or the images change the white
                point of those that are prepared.
        """
        self.allocate()
        paths = [path for chunk in chunks for row in chunk if (path := jobs[row].path) is not None]
        found = self._measured()
        before = found.ranges()
        add_ranges(found, paths, self.settings.display, workers=workers)
        for kind, ends in found.ranges().items():
            if (known := before.get(kind)) is not None and ends != known:
                bits = ((ends or known)[1] + 1).bit_length() - 1
                raise DataError(
                    f"data.white={self.settings.display.white}: files of the kind '{kind}' need {bits} bits, "
                    f"more than those that are prepared; give data.white={bits} and start again"
                )
        with report_full_disk(self.folder, self.settings, self.total):
            write_atomically(self._ranges, json.dumps(found.kinds), durable=True)
        display = replace(self.settings.display, kinds=found.ranges())
        measured = replace(self.settings, display=display)
        numbers = [chunk.start // CHUNK for chunk in chunks]
        for _ in run_chunks(self.folder, jobs, measured, workers=workers, chunks=numbers, advance=advance):
            pass
        self._refuse_rejected(jobs, max_rejected)

    def hand_over(self, fingerprint: str) -> None:
        """Give the folder to the store with a fingerprint, for `prepare`; all chunks are prepared."""
        write_atomically(
            self.folder / "white_points.json", json.dumps(self._measured().ranges()), durable=True
        )
        target = self.folder.with_name(f"{fingerprint}.partial")
        shutil.rmtree(target, ignore_errors=True)  # of an earlier attempt, without the pixels
        self.folder.rename(target)

    def _refuse_rejected(self, jobs: Sequence[ImageJob], most: float) -> None:
        records = [
            record
            for file in sorted((self.folder / "chunks").glob("*.json"))
            for record in json.loads(file.read_text())
            if record["rejected"]
        ]
        if len(records) > most * self.total:
            first = records[0]
            reason = f"{jobs[first['row']].path}: {first['rejected']}"
            raise DataError(
                f"{len(records)} of {self.total} images cannot be used, and data.max_rejected={most:g}; the "
                f"first is {reason}; raise data.max_rejected"
            )

    @property
    def _ranges(self) -> Path:
        return self.folder / RANGES

    def _measured(self) -> KindRanges:
        found = KindRanges()
        if self._ranges.is_file():
            known: dict[str, Any] = json.loads(self._ranges.read_text())
            for kind, pair in known.items():
                found.kinds[kind] = None if pair is None else ((*pair[0],), (*pair[1],))
        return found
