"""A whole training: fit with pictures for the loggers, curves, and the report on the validation images."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from pytorch_lightning import Callback

from mammo.evaluation.mining.hard_negatives import HardNegatives
from mammo.evaluation.validation_pictures import ValidationPictures
from mammo.runs import RunFolder
from mammo.runs.run_lock import RunLock
from mammo.training.fit import fit
from mammo.training.optional_output import OptionalOutput


def train(
    cfg: DictConfig,
    *,
    run_dir: Path,
    overrides: list[str],
    callbacks: Sequence[Callback] = (),
    part_of: Path | None = None,
    searched: Sequence[str] | None = None,
    take_over: bool = False,
) -> RunFolder | None:
    """Train, and write the report on the validation images; see `fit`.

    Args:
        cfg: checked configuration.
        run_dir: folder of the run.
        overrides: overrides of the command line.
        callbacks: callbacks added to those of every training.
        part_of: folder of the multirun or search that the run belongs to.
        searched: keys and groups in which the runs of the multirun or search differ; see `fit`.
        take_over: whether this process is known to replace the one that trained the run before.

    Returns:
        Folder of the finished run; None in all processes of a distributed training except the first.
    """
    every = cfg.trainer.picture_epochs
    pictures = [ValidationPictures(every=every)] if cfg.report or every is not None else []
    hard = cfg.data.get("patch") and cfg.data.patch.get("hard_negatives")
    mined = [HardNegatives(cfg)] if hard else []
    with RunLock(run_dir, take_over=take_over) as lock:
        run = fit(
            cfg,
            run_dir=run_dir,
            overrides=overrides,
            callbacks=[*mined, *pictures, *callbacks],
            part_of=part_of,
            searched=searched,
            lock=lock,
        )
        if run is not None:
            # Matplotlib and Jinja are imported late: the first step does not wait for them
            from mammo.evaluation.run_evaluation import write_training_report

            with OptionalOutput("curves and report"):
                write_training_report(run, report=cfg.report and not cfg.trainer.fast_dev_run)
    return run
