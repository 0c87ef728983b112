"""The run that is resumed, and its settings."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from mammo.config.checks import check
from mammo.config.flattening import flatten
from mammo.errors import ConfigError
from mammo.runs import RunFolder

# Settings that may only increase, and settings that do not change the result.
_MAY_GROW = ("trainer.max_epochs", "trainer.max_steps")
_FREE = (
    "data.store",
    "data.workers",
    "data.loader_workers",
    "trainer.checkpoint_minutes",
    "trainer.checkpoint_steps",
    "trainer.picture_epochs",
    "trainer.max_time",
    "trainer.log_every_n_steps",
    "trainer.detect_anomaly",
    "trainer.profiler",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
)
# limits after which a training ends
_ENDS = ("max_epochs", "max_steps", "max_time")
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
        grown = key in _MAY_GROW and value is not None and (value >= before or value == -1)
        if value != before and not grown and key not in _FREE:
            remedy = "give this value or more" if key in _MAY_GROW else "start a new run for it"
            raise ConfigError(f"resume={cfg.resume}: the run has {key}={before}, not {value}; {remedy}")
        OmegaConf.update(began, key, value)
    if any(override.lstrip("+~").startswith("logger") for override in overrides):
        began.logger = cfg.logger
    began.update(resume=str(run.path), run_dir=str(run.path))
    check(began)
    return run, began


def is_finished(run: RunFolder, cfg: DictConfig) -> bool:
    """Return whether nothing is left to train."""
    before = run.config()["trainer"]
    extended = any(cfg.trainer[key] != before[key] for key in _ENDS)
    return bool(run.facts()["status"] == "finished" and not extended)


def _chosen(cfg: DictConfig, overrides: list[str]) -> dict[str, Any]:
    """Return the value of each key that the overrides name; a group includes all its keys."""
    chosen: dict[str, Any] = {}
    for override in overrides:
        # the node of the group model/pool is model.pool
        key = override.partition("=")[0].lstrip("+~").replace("/", ".")
        if key not in _NO_SETTING and key.partition(".")[0] not in ("hydra", "logger"):
            value = OmegaConf.select(cfg, key)
            chosen |= flatten({key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value})
    return chosen
