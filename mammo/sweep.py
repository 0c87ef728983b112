"""`python -m mammo.sweep`: searches for hyper-parameters; see `conf/sweep.yaml`."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mammo.config.command import hydra_main
from mammo.config.composition import config_dirs, search_in, use_config_dirs
from mammo.sweeping.command_line import split_overrides
from mammo.sweeping.jobs.launchers import register


def main() -> None:
    """Run the search of the command line.

    Hydra composes the search from the overrides of its keys; its launcher and its trainings are composed from
    the other overrides.
    """
    parts: list[list[str]] = []

    def of_search(overrides: list[str]) -> list[str]:
        parts.extend(split_overrides(overrides))
        return parts[0]

    @hydra_main("sweep", of_hydra=of_search)
    def sweep(cfg: DictConfig) -> None:
        from mammo.sweeping.search_command import run_search

        use_config_dirs(HydraConfig.get())
        if (begun := Path(cfg.sweep_dir).absolute()).is_dir():
            search_in([begun, *config_dirs()])  # the folder of a search contains the user's own choices
        of_sweep = [each for each in HydraConfig.get().overrides.task if _first_name(each) == "sweep"]
        run_search(
            cfg,
            settings=of_sweep,
            overrides=parts[2],
            launcher=parts[1],
            config_dirs=config_dirs(),
        )

    register()
    sweep()


def _first_name(override: str) -> str:
    return override.lstrip("+~").partition("=")[0].partition(".")[0]


if __name__ == "__main__":
    main()
