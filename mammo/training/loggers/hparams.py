"""Settings and final score of a run in the HParams table of TensorBoard."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from mammo.config.flattening import flatten
from mammo.metrics import Estimate

# keys that describe the machine or the run folder, not the experiment
_LEFT_OUT = ("name", "run_dir", "resume", "data.root", "data.store", "data.workers", "data.loader_workers")


def write_hparams(
    folder: Path,
    *,
    config: dict[str, Any],
    score: Estimate,
    seconds: float,
    varied: Sequence[str] | None = None,
) -> None:
    """Write an event file with the settings and the final validation score.

    Args:
        folder: folder of the event files of the run.
        config: resolved configuration.
        score: score of the best epoch.
        seconds: duration of the run in seconds.
        varied: keys and groups that differ between the runs of a multirun or search; None for every setting.
    """
    for old in folder.glob("events.*"):  # written before the run was extended
        old.unlink()
    settings = {
        key: value if isinstance(value, bool | int | float | str) else str(value)  # TensorBoard's types
        for key, value in flatten(config).items()
        if key not in _LEFT_OUT and (varied is None or _is_part(key, varied))
    }
    scores = {
        "score/auc": score.value,
        "score/auc_low": score.low,
        "score/auc_high": score.high,
        "score/seconds": seconds,
    }
    with SummaryWriter(folder) as writer:
        writer.add_hparams(settings, scores, run_name=".")


def _is_part(key: str, names: Sequence[str]) -> bool:
    parts = [name.replace("/", ".") for name in names]  # the node of the group model/pool is model.pool
    return any(key == part or key.startswith(f"{part}.") for part in parts)
