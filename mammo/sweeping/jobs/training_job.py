"""A training in its own process, which resumes where an earlier process of the same job was stopped."""

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mammo.config.composition import compose_train
from mammo.config.resume import is_finished, reopen
from mammo.errors import MammoError
from mammo.fast_imports import quick_imports
from mammo.runs import RunFolder
from mammo.runs.heartbeat import heartbeat
from mammo.runs.run_lock import RunTakenError
from mammo.sweeping.jobs.code_snapshot import require_frozen
from mammo.sweeping.jobs.device_slots import bind_cores
from mammo.sweeping.jobs.job_process import HEARTBEAT_SECONDS
from mammo.sweeping.jobs.multirun import TRACEBACK, Multirun
from mammo.sweeping.jobs.slurm import RequeuedJob

if TYPE_CHECKING:
    from pytorch_lightning import Callback


class TrainingJob(RequeuedJob):
    """Run one training of a multirun.

    Slurm starts the same job again after a preemption, a time limit or the loss of a node.

    Args:
        folder: folder of the multirun.
        number: number of the job, from 0.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self.number = number

    def __call__(self) -> None:
        """Train, or resume the training.

        Raises:
            MammoError: this process does not run the copy of the code.
            Exception: any error of the training, after its traceback was written to the run's folder.
        """
        require_frozen(self.folder)
        bind_cores()
        multirun = Multirun(self.folder)
        job = multirun.jobs[self.number]
        run_dir = Path(job.run_dir)
        (run_dir / TRACEBACK).unlink(missing_ok=True)
        try:
            train_or_resume(job.overrides, run_dir=run_dir, part_of=self.folder, searched=multirun.searched())
        except RunTakenError:
            raise  # the folder is another process's
        except Exception:
            write_traceback(run_dir)
            raise


def train_or_resume(
    overrides: list[str],
    *,
    run_dir: Path,
    part_of: Path,
    searched: Sequence[str],
    callbacks: "tuple[Callback, ...]" = (),
    take_over: bool = False,
) -> RunFolder | None:
    """Train, or resume the run in the folder; a finished run stays as it is.

    Args:
        overrides: overrides of train.py.
        run_dir: folder of the run.
        part_of: folder of the multirun or search.
        searched: keys and groups of the overrides in which its runs differ.
        callbacks: callbacks in addition to those of every training.
        take_over: whether this process is known to replace the one that trained the run before.

    Returns:
        The finished run; None in all processes of a distributed training except the first.
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

    return train(
        cfg,
        run_dir=run_dir,
        overrides=overrides,
        callbacks=callbacks,
        part_of=part_of,
        searched=searched,
        take_over=take_over,
    )


def write_traceback(run_dir: Path) -> None:
    """Write the traceback of the exception that is being handled to the run's folder."""
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / TRACEBACK).write_text(traceback.format_exc())


if __name__ == "__main__":
    folder, number = Path(sys.argv[1]), int(sys.argv[2])
    record = folder / "jobs" / f"{number}.json"
    try:
        with heartbeat(record, seconds=HEARTBEAT_SECONDS):
            TrainingJob(folder, number)()
    except MammoError as error:
        sys.exit(f"error: {error}")
