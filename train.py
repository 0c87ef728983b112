"""Trains a network: python train.py [group=choice ...] [key=value ...], see conf/train.yaml."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from mammo.command import hydra_main
from mammo.errors import ConfigError
from mammo.imports import quick_imports
from mammo.resume import is_finished, reopen
from mammo.runs import dated
from mammo.sweeping.launchers import register


@hydra_main("train")
def main(cfg: DictConfig) -> None:
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        launcher = HydraConfig.get().runtime.choices["hydra/launcher"]
        raise ConfigError(f"hydra/launcher={launcher}: give local or slurm")
    overrides = list(HydraConfig.get().overrides.task)
    if cfg.resume:
        run, cfg = reopen(cfg, overrides=overrides)
        if is_finished(run, cfg):
            print(f"finished before, nothing to do\n{run.summary()}")
            return
    # PyTorch and Lightning take seconds to import: an error in the config is told before
    with quick_imports():
        from mammo.evaluation.training_run import train

    trained = train(cfg, run_dir=Path(cfg.run_dir or dated(cfg.name)), overrides=overrides)
    if trained is not None:
        print(trained.summary())


if __name__ == "__main__":
    register()  # of the jobs of a multirun, -m
    main()
