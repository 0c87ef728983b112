"""The run that is resumed, and its settings."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from mammo.config.checks import check
from mammo.config.flattening import flatten
from mammo.errors import ConfigError
from mammo.runs import RunFolder

# What may grow, and what changes no result.
_MAY_GROW = ("trainer.max_epochs",)
_FREE = (
    "data.store",
    "data.workers",
    "data.loader_workers",
    "trainer.checkpoint_minutes",
    "trainer.checkpoint_steps",
    "trainer.picture_epochs",
)
_NO_SETTING = ("resume", "run_dir", "name", "report")


def reopen(cfg: DictConfig, *, overrides: list[str]) -> tuple[RunFolder, DictConfig]:
    """The run that `resume` names, with the settings it began with and those that may change.

    Args:
        cfg: the composed config.
        overrides: overrides of the command line; only their keys are compared with the run.

    Raises:
        ConfigError: there is no such run, or a setting differs that may not.
    """
    run = RunFolder.find(cfg.resume)
    began = OmegaConf.create(run.config())
    asked = _chosen(cfg, overrides)
    for key, value in asked.items():
        before = OmegaConf.select(began, key)
        grown = key in _MAY_GROW and value is not None and value >= before
        if value != before and not grown and key not in _FREE:
            remedy = "may only grow" if key in _MAY_GROW else "start a new run for it"
            raise ConfigError(f"resume={cfg.resume}: the run has {key}={before}, not {value}; {remedy}")
        OmegaConf.update(began, key, value)
    began.update(resume=str(run.path), run_dir=str(run.path))
    check(began)
    return run, began


def is_finished(run: RunFolder, cfg: DictConfig) -> bool:
    """Whether nothing is left to train."""
    grown = cfg.trainer.max_epochs > run.config()["trainer"]["max_epochs"]
    return bool(run.facts()["status"] == "finished" and not grown)


def _chosen(cfg: DictConfig, overrides: list[str]) -> dict[str, Any]:
    """Each key that the overrides name, groups with all their keys, and its value."""
    chosen: dict[str, Any] = {}
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key not in _NO_SETTING:
            value = OmegaConf.select(cfg, key)
            chosen |= flatten({key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value})
    return chosen
