"""The run's settings and final score in TensorBoard's HParams table."""

from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from mammo.config.flattening import flatten
from mammo.metrics import Estimate

# of the machine or of the run's name, not of the experiment
_LEFT_OUT = ("name", "run_dir", "resume", "data.root", "data.store", "data.workers", "data.loader_workers")


def write_hparams(folder: Path, *, config: dict[str, Any], score: Estimate, seconds: float) -> None:
    """Writes an event file that holds every setting and the final validation score.

    Args:
        folder: of the run's event files.
        config: the resolved config.
        score: of the best epoch.
        seconds: of the whole run.
    """
    for old in folder.glob("events.*"):  # of an earlier end, before the run was let grow
        old.unlink()
    settings = {
        key: value if isinstance(value, bool | int | float | str) else str(value)  # TensorBoard has no other
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
