"""Searches for settings: python sweep.py sweep=NAME [train.py's groups and keys], see conf/sweep.yaml."""

import sys

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mammo.command import hydra_main
from mammo.sweeping.launchers import register
from mammo.sweeping.overrides import split_overrides

# Hydra composes the search here, and each trial's training from the rest
sys.argv[1:], OF_TRAINING = split_overrides(sys.argv[1:])


@hydra_main("sweep")
def main(cfg: DictConfig) -> None:
    from mammo.sweeping.conducting import conduct

    conduct(cfg, overrides=OF_TRAINING, launcher=HydraConfig.get().launcher)


if __name__ == "__main__":
    register()
    main()
