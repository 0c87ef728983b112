"""Settings and final score of a run in the HParams table of TensorBoard."""

from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from mammo.config.flattening import flatten
from mammo.metrics import Estimate

# keys that describe the machine or the run folder, not the experiment
_LEFT_OUT = ("name", "run_dir", "resume", "data.root", "data.store", "data.workers", "data.loader_workers")


def write_hparams(folder: Path, *, config: dict[str, Any], score: Estimate, seconds: float) -> None:
    """Write an event file with every setting and the final validation score.

    Args:
        folder: folder of the event files of the run.
        config: resolved configuration.
        score: score of the best epoch.
        seconds: duration of the run in seconds.
    """
    for old in folder.glob("events.*"):  # written before the run was extended
        old.unlink()
    settings = {
        key: value if isinstance(value, bool | int | float | str) else str(value)  # TensorBoard's types
        for key, value in flatten(config).items()
        if key not in _LEFT_OUT
    }
    scores = {
        "score/auc": score.value,
        "score/auc_low": score.low,
        "score/auc_high": score.high,
        "score/seconds": seconds,
    }
    with SummaryWriter(folder) as writer:
        writer.add_hparams(settings, scores, run_name=".")
