"""What a file was computed from: the record that tells a current result from that of an older checkpoint."""

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from mammo.atomic_files import write_atomically
from mammo.errors import ConfigError
from mammo.runs.run_folder import RunFolder


@dataclass(frozen=True)
class Provenance:
    """Origin of the scores of one run.

    Two records are equal if scores computed from them are; the last two fields only describe.

    Attributes:
        weights_sha256: SHA-256 of the checkpoint file of the best epoch.
        store: fingerprint of the prepared store of the images.
        split: name of the split.
        tta: test-time augmentation.
        images: number of scored images.
        seen: counts of scored images whose patients the run has seen in training, see `Seen`; None if this
            was not checked.
    """

    weights_sha256: str
    store: str
    split: str
    tta: str = "none"
    images: int | None = field(default=None, compare=False)
    seen: dict[str, int] | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain values for JSON."""
        return asdict(self)

    @classmethod
    def all_from(cls, values: Any) -> tuple[Self, ...]:
        """Create the records, one per run, from plain values; none if the values are not those of records."""
        try:
            return tuple(cls(**value) for value in values)
        except TypeError:
            return ()


def checkpoint_of(run: RunFolder) -> Path:
    """Return the checkpoint file of the best epoch.

    Raises:
        ConfigError: The file does not exist.
    """
    file = run.checkpoints / "best.ckpt"
    if not file.is_file():
        raise ConfigError(f"run={run.path}: {file} is not there; python train.py resume={run.path} writes it")
    return file


def weights_digest(run: RunFolder) -> str:
    """Return the SHA-256 of the checkpoint file of the best epoch; an unchanged file is read once.

    Raises:
        ConfigError: The run has no checkpoint of a best epoch, or it cannot be read.
    """
    checkpoint = checkpoint_of(run)
    try:
        status = checkpoint.stat()
        return _digest(checkpoint.absolute(), status.st_ino, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise ConfigError(f"run={run.path}: {checkpoint} cannot be read ({error.strerror})") from error


@functools.lru_cache(maxsize=256)
def _digest(file: Path, *_: int) -> str:
    """Return the SHA-256 of a file; the other arguments change when its content does."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def current_provenance(run: RunFolder, *, split: str, tta: str = "none") -> Provenance:
    """Return the record of scores of the run's own data that would be computed now.

    Raises:
        ConfigError: The run has no checkpoint of a best epoch.
    """
    # the last part of the path is the fingerprint, see `prepare`
    return Provenance(weights_digest(run), Path(run.facts().get("store", "")).name, split, tta)


def write_scores(file: Path, content: str, *, provenance: Sequence[Provenance]) -> None:
    """Write a table of scores and, beside it, `provenance.json` with a record of each run.

    A table whose writing is interrupted has no record.
    """
    record = _beside(file)
    record.unlink(missing_ok=True)
    write_atomically(file, content)
    if provenance:
        write_atomically(record, json.dumps([each.to_dict() for each in provenance], indent=2) + "\n")


def read_provenance(file: Path) -> tuple[Provenance, ...]:
    """Return the records of a table of scores, one per run; none if there are none."""
    record = _beside(file)
    return Provenance.all_from(read_json(record)) if file.exists() else ()


def read_json(file: Path) -> Any:
    """Return the content of a JSON file; None if it does not exist or is damaged."""
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return None


def is_current(metrics: Mapping[str, Any], provenance: Provenance) -> bool:
    """Return whether metrics were computed from one run's scores with this record."""
    return Provenance.all_from(metrics.get("provenance")) == (provenance,)


def _beside(file: Path) -> Path:
    return file.with_name("provenance.json")
