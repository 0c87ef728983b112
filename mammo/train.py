"""`python -m mammo.train`: trains a network; see `conf/train.yaml`."""

import contextlib
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from mammo.config.command import hydra_main
from mammo.config.resume import is_finished, reopen
from mammo.errors import ConfigError
from mammo.fast_imports import quick_imports
from mammo.runs import RunFolder, dated_folder
from mammo.sweeping.jobs.launchers import register


@hydra_main("train")
def _train(cfg: DictConfig) -> None:
    launcher = HydraConfig.get().runtime.choices["hydra/launcher"]
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise ConfigError(f"hydra/launcher={launcher}: give local or slurm")
    if launcher in ("slurm", "submitit_slurm"):
        raise ConfigError(
            f"hydra/launcher={launcher}: a training without -m runs in this process; add -m to submit it"
        )
    overrides = list(HydraConfig.get().overrides.task)
    if cfg.resume == "auto":
        if cfg.run_dir is None:
            raise ConfigError("resume=auto: needs the folder of the run; give run_dir=PATH")
        cfg.resume = cfg.run_dir if RunFolder(Path(cfg.run_dir)).facts() else None
    if cfg.resume:
        run, cfg = reopen(cfg, overrides=overrides)
        if is_finished(run, cfg):
            print(f"already finished, nothing to do\n{run.summary()}")
            return
    # importing PyTorch and Lightning takes seconds, so errors in the configuration are reported before
    with quick_imports():
        from mammo.evaluation.training_run import train

    own = contextlib.nullcontext(cfg.run_dir) if cfg.run_dir else dated_folder(cfg.name)
    with own as run_dir:
        trained = train(cfg, run_dir=Path(run_dir), overrides=overrides)
    if trained is not None:
        print(trained.summary())


def main() -> None:
    """Run the training of the command line; with `-m`, run each combination of values as a job."""
    register()
    _train()


if __name__ == "__main__":
    main()
