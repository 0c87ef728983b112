"""Trains a network: python train.py [group=choice ...] [key=value ...], see conf/train.yaml."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from mammo.command import hydra_main
from mammo.errors import ConfigError
from mammo.runs import dated


@hydra_main("train")
def main(cfg: DictConfig) -> float | None:
    job = HydraConfig.get()
    many = job.mode == RunMode.MULTIRUN
    if many and cfg.run_dir:
        raise ConfigError(f"run_dir={cfg.run_dir}: is for a single run; give hydra.sweep.dir with -m")

    # PyTorch and Lightning take seconds to import: an error in the config is told before
    from mammo.evaluation.plots import draw_curves
    from mammo.training.fit import fit

    run_dir = Path(job.runtime.output_dir if many else cfg.run_dir or dated(cfg.name))
    run = fit(cfg, run_dir=run_dir, overrides=list(job.overrides.task))
    draw_curves(run)
    print(run.summary())
    return run.score


if __name__ == "__main__":
    main()
