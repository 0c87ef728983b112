"""`python -m mammo.sweep`: searches for hyper-parameters; see `conf/sweep.yaml`."""

import sys

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mammo.config.command import hydra_main
from mammo.config.composition import config_dirs, use_config_dirs
from mammo.sweeping.command_line import split_overrides
from mammo.sweeping.jobs.launchers import register


def main() -> None:
    """Run the search of the command line.

    Hydra composes the search from the overrides of its keys; its launcher and its trainings are composed from
    the other overrides.
    """
    arguments = sys.argv[1:]
    sys.argv[1:], of_launcher, of_training = split_overrides(arguments)

    @hydra_main("sweep", arguments=arguments)
    def sweep(cfg: DictConfig) -> None:
        from mammo.sweeping.search_command import run_search

        use_config_dirs(HydraConfig.get())
        run_search(cfg, overrides=of_training, launcher=of_launcher, config_dirs=config_dirs())

    register()
    sweep()


if __name__ == "__main__":
    main()
