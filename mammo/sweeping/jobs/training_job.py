"""A training in a process of its own, which goes on where an earlier process of the same job was stopped."""

import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from mammo.config.composition import compose_train
from mammo.config.resume import is_finished, reopen
from mammo.errors import MammoError
from mammo.fast_imports import quick_imports
from mammo.runs import RunFolder
from mammo.sweeping.jobs.device_slots import take_cores
from mammo.sweeping.jobs.multirun import TRACEBACK, Multirun
from mammo.sweeping.jobs.slurm import Requeued

if TYPE_CHECKING:
    from pytorch_lightning import Callback


class TrainingJob(Requeued):
    """What Slurm starts, and after a preemption, a time limit or the loss of a node starts again.

    Args:
        folder: of the multirun.
        number: of the job in it.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self.number = number

    def __call__(self) -> None:
        """Trains.

        Raises:
            Exception: what the training raised, after it was written to the run's folder.
        """
        take_cores()
        job = Multirun(self.folder).jobs[self.number]
        run_dir = Path(job.run_dir)
        (run_dir / TRACEBACK).unlink(missing_ok=True)
        try:
            train_or_go_on(job.overrides, run_dir=run_dir, part_of=self.folder)
        except Exception:
            write_traceback(run_dir)
            raise


def train_or_go_on(
    overrides: list[str], *, run_dir: Path, part_of: Path, callbacks: "tuple[Callback, ...]" = ()
) -> RunFolder | None:
    """Trains, or goes on with the run in the folder, or leaves it as it is when it is finished.

    Args:
        overrides: of train.py.
        run_dir: of the run.
        part_of: folder of the multirun or search.
        callbacks: besides those of every training.

    Returns:
        The finished run; None in the processes of a distributed training but the first.
    """
    cfg = compose_train(overrides)
    if RunFolder(run_dir).facts():
        cfg.resume = str(run_dir)
        run, cfg = reopen(cfg, overrides=[])
        if is_finished(run, cfg):
            return run
    # PyTorch and Lightning take seconds to import
    with quick_imports():
        from mammo.evaluation.training_run import train

    return train(cfg, run_dir=run_dir, overrides=overrides, callbacks=callbacks, part_of=part_of)


def write_traceback(run_dir: Path) -> None:
    """Keeps the exception that is being handled in the run's folder."""
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / TRACEBACK).write_text(traceback.format_exc())


if __name__ == "__main__":
    try:
        TrainingJob(Path(sys.argv[1]), int(sys.argv[2]))()
    except MammoError as error:
        sys.exit(f"error: {error}")
