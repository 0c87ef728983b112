"""`python -m mammo.train`: trains a network; see `conf/train.yaml`."""

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from mammo.api.configured_training import train_as_configured
from mammo.config.calls.first_trainings import second_step
from mammo.config.calls.next_steps import call, ending, tensorboard
from mammo.config.command import hydra_main
from mammo.errors import ConfigError
from mammo.runs import RunFolder
from mammo.sweeping.jobs.launchers import register


@hydra_main("train")
def _train(cfg: DictConfig) -> None:
    launcher = HydraConfig.get().runtime.choices["hydra/launcher"]
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise ConfigError(f"hydra/launcher={launcher}: give local or slurm")
    overrides = list(HydraConfig.get().overrides.task)
    run, was_finished = train_as_configured(cfg, overrides=overrides, launcher=launcher)
    if was_finished:
        print("already finished, nothing to do")
    if run is not None:
        print(f"{run.summary()}\n{_ending(run, overrides)}")


def _ending(run: RunFolder, overrides: list[str]) -> str:
    report = run.evaluation / "val" / "report.html"
    written = {"run folder": run.path} | ({"report": report} if report.exists() else {})
    if run.config()["trainer"]["fast_dev_run"]:
        # the folder is that of the short run now
        ours = ("trainer.fast_dev_run", "run_dir")
        whole = [each for each in overrides if each.lstrip("+").partition("=")[0] not in ours]
        return ending(written, call("train", *whole), call("train", *whole, "--cfg", "job"))
    curves = (
        tensorboard(run.path.parent) if run.tensorboard.exists() else call("runs", folder=run.path.parent)
    )
    split = "test" if run.has_test_images() else "val"
    then = second_step(run.facts().get("overrides", []), run.path)
    return ending(written, curves, then or call("evaluate", run=run.path, split=split))


def main() -> None:
    """Run the training of the command line; with `-m`, run each combination of values as a job."""
    register()
    _train()


if __name__ == "__main__":
    main()
