"""A whole training: fit with figures in TensorBoard, curves, and the report on the validation images."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from pytorch_lightning import Callback

from mammo.evaluation.validation_pictures import ValidationPictures
from mammo.runs import RunFolder
from mammo.training.fit import fit


def train(
    cfg: DictConfig,
    *,
    run_dir: Path,
    overrides: list[str],
    callbacks: Sequence[Callback] = (),
    part_of: Path | None = None,
) -> RunFolder | None:
    """Trains and concludes, see `fit`.

    Args:
        cfg: the checked config.
        run_dir: folder of the run.
        overrides: what the user chose.
        callbacks: besides those of every training.
        part_of: folder of the multirun or search that the run belongs to.

    Returns:
        The finished run; None in the processes of a distributed training but the first.
    """
    pictures = ValidationPictures(folder=run_dir / "tensorboard" / "val", every=cfg.trainer.picture_epochs)
    run = fit(cfg, run_dir=run_dir, overrides=overrides, callbacks=[pictures, *callbacks], part_of=part_of)
    if run is not None:
        # Matplotlib, Jinja and all else that the first step need not wait for
        from mammo.evaluation.run_evaluation import write_training_report

        write_training_report(run, report=cfg.report and not cfg.trainer.fast_dev_run)
    return run
