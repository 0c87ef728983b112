"""Trains a network: python train.py [group=choice ...] [key=value ...], see conf/train.yaml."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from mammo.command import hydra_main
from mammo.errors import ConfigError
from mammo.resume import is_finished, reopen
from mammo.runs import dated


@hydra_main("train")
def main(cfg: DictConfig) -> float | None:
    job = HydraConfig.get()
    many, overrides = job.mode == RunMode.MULTIRUN, list(job.overrides.task)
    if many and cfg.run_dir:
        raise ConfigError(f"run_dir={cfg.run_dir}: is for a single run; give hydra.sweep.dir with -m")
    if cfg.resume:
        run, cfg = reopen(cfg, overrides=overrides)
        if is_finished(run, cfg):
            print(f"finished before, nothing to do\n{run.summary()}")
            return run.score
    run_dir = Path(job.runtime.output_dir if many else cfg.run_dir or dated(cfg.name))
    # PyTorch and Lightning take seconds to import: an error in the config is told before
    from mammo.evaluation.pictures import ValidationPictures
    from mammo.evaluation.reviewing import conclude
    from mammo.training.fit import fit

    pictures = ValidationPictures(folder=run_dir / "tensorboard" / "val", every=cfg.trainer.picture_epochs)
    run = fit(cfg, run_dir=run_dir, overrides=overrides, callbacks=[pictures])
    conclude(run, report=cfg.report and not cfg.trainer.fast_dev_run)
    print(run.summary())
    return run.score


if __name__ == "__main__":
    main()
