"""The run that is resumed, and its settings."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from mammo.config.checks import check
from mammo.config.flattening import flatten
from mammo.errors import ConfigError
from mammo.runs import RunFolder

# Settings that may only increase, and settings that do not change the result.
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
    """Return the run that `resume` names, and its settings with the allowed changes.

    Args:
        cfg: the composed config.
        overrides: overrides of the command line; only their keys are compared with the run.

    Raises:
        ConfigError: there is no such run, or a setting differs that must not change.
    """
    run = RunFolder.find(cfg.resume)
    began = OmegaConf.create(run.config())
    asked = _chosen(cfg, overrides)
    for key, value in asked.items():
        before = OmegaConf.select(began, key)
        grown = key in _MAY_GROW and value is not None and value >= before
        if value != before and not grown and key not in _FREE:
            remedy = "give this value or more" if key in _MAY_GROW else "start a new run for it"
            raise ConfigError(f"resume={cfg.resume}: the run has {key}={before}, not {value}; {remedy}")
        OmegaConf.update(began, key, value)
    began.update(resume=str(run.path), run_dir=str(run.path))
    check(began)
    return run, began


def is_finished(run: RunFolder, cfg: DictConfig) -> bool:
    """Return whether nothing is left to train."""
    grown = cfg.trainer.max_epochs > run.config()["trainer"]["max_epochs"]
    return bool(run.facts()["status"] == "finished" and not grown)


def _chosen(cfg: DictConfig, overrides: list[str]) -> dict[str, Any]:
    """Return the value of each key that the overrides name; a group includes all its keys."""
    chosen: dict[str, Any] = {}
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key not in _NO_SETTING:
            value = OmegaConf.select(cfg, key)
            chosen |= flatten({key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value})
    return chosen
