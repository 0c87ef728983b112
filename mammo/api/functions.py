"""Training, preparation and evaluation from Python, with the settings of the commands."""

import importlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from mammo.api.configured_evaluation import evaluate_as_configured
from mammo.api.configured_training import train_as_configured
from mammo.api.opened_run import Run
from mammo.api.process_state import ONE_AT_A_TIME, process_state_restored
from mammo.config.checks import arguments_for, check, plain
from mammo.config.composition import compose_with_choices, extra_config_dirs
from mammo.config.sweep_overrides import refuse_sweeps
from mammo.errors import ConfigError
from mammo.fast_imports import quick_imports

if TYPE_CHECKING:  # these import PyTorch or pandas, which takes seconds
    from mammo.data.store.store import Store
    from mammo.evaluation.evaluation_settings import Evaluation

PathLike = str | os.PathLike[str]


def train(overrides: Sequence[str] = (), *, config_dir: PathLike | None = None) -> Run:
    """Train a network as `python -m mammo.train` does, and return its run.

    Prepares the data if needed, trains, writes the run folder with the report on the validation images, and
    shows the progress on stderr. Seeds and other settings of this process are as before afterwards. With
    `run_dir=PATH` and `resume=auto` an interrupted training continues, and a finished run is opened.

    Args:
        overrides: overrides as on the command line, such as `["model=resnet34", "optim.lr=3e-4"]`.
        config_dir: folder with further choices, as `--config-dir`.

    Raises:
        MammoError: the training cannot start, or fails; the message is the sentence of the command.
        KeyboardInterrupt: the training is interrupted.

    Example:
        >>> train(["trainer.max_epoch=1"])
        Traceback (most recent call last):
        ...
        mammo.errors.ConfigError: trainer.max_epoch=1: no such key; did you mean trainer.max_epochs?
    """
    with _composed("train", overrides, config_dir) as (cfg, choices):
        if cfg.trainer.devices != 1:
            raise ConfigError(
                f"trainer.devices={cfg.trainer.devices}: from Python the training is in this process, on one "
                "device; use python -m mammo.train for several"
            )
        # importing PyTorch and Lightning takes seconds, so errors in the configuration are reported before
        with quick_imports():
            importlib.import_module("mammo.evaluation.training_run")
        with process_state_restored():
            task = [override for override in overrides if not override.lstrip("+~").startswith("hydra")]
            run, _ = train_as_configured(cfg, overrides=task, launcher=choices["hydra/launcher"])
    assert run is not None  # with one process there is a run
    return Run(run)


def prepare(overrides: Sequence[str] = (), *, config_dir: PathLike | None = None) -> "Store":
    """Prepare the images of a data set as `python -m mammo.prepare` does, and open their store.

    Args:
        overrides: overrides as on the command line, such as `["data=csv", "data.table=images.csv"]`.
        config_dir: folder with further choices, as `--config-dir`.

    Returns:
        The store: `directory`, its folder; `table` and `lesions`, data frames; `images`, N H W, where the
        image of a row of `table` is `images[row]`; `manifest["counts"]`, the numbers of images, rejected
        images and lesions.

    Raises:
        MammoError: the data cannot be prepared; the message is the sentence of the command.
    """
    with _composed("prepare", overrides, config_dir) as (cfg, _):
        from mammo.data.sources.reader import read_catalog
        from mammo.data.store import store

        catalog = read_catalog(plain(cfg.data))
        return store.prepare(catalog, **arguments_for(store.prepare, cfg.data))


def evaluate(
    run: Run | PathLike | Sequence[Run | PathLike],
    *,
    split: str = "val",
    overrides: Sequence[str] = (),
    config_dir: PathLike | None = None,
) -> "Evaluation":
    """Evaluate a run, or several as one, as `python -m mammo.evaluate` does, and write the same files.

    Args:
        run: run or its folder; several of them for an ensemble, or for the folds of one split.
        split: `val`, `test`, `clean_test`, `train` or `all`; the test images are for the last choice.
        overrides: further overrides as on the command line, such as `["heatmap=layercam", "report=false"]`.
        config_dir: folder with further choices, as `--config-dir`.

    Returns:
        `metrics`, a dict; `predictions`, a data frame of one row per image; `figures`; `folder`.

    Raises:
        MammoError: the runs cannot be evaluated, for example because a test set has patients that the run
            was trained on; the message is the sentence of the command.
    """
    runs = [run] if isinstance(run, Run | str | os.PathLike) else list(run)
    names = [str(each.path) if isinstance(each, Run) else os.fspath(each) for each in runs]
    with _composed("evaluate", [f"split={split}", *_listed(overrides)], config_dir) as (cfg, _):
        cfg.run = names
        return evaluate_as_configured(cfg)


@contextmanager
def _composed(
    name: str, overrides: Sequence[str], config_dir: PathLike | None
) -> Iterator[tuple[DictConfig, dict[str, str | None]]]:
    """Yield the checked configuration of a command and the choice of each group; one thread at a time.

    Hydra keeps the configuration that it composes in global variables.
    """
    for override in _listed(overrides):
        if override.startswith("-"):
            raise ConfigError(
                f"{override}: is an option of the command line; give config_dir=PATH for --config-dir, and "
                f"use python -m mammo.{name} for the others"
            )
    with ONE_AT_A_TIME, extra_config_dirs([] if config_dir is None else [Path(config_dir)]):
        refuse_sweeps(name, overrides)
        cfg, choices = compose_with_choices(name, list(overrides))
        check(cfg)
        yield cfg, choices


def _listed(overrides: Sequence[str]) -> list[str]:
    if isinstance(overrides, str):
        raise ConfigError(f"overrides={overrides}: is one text; give a list, such as [{overrides!r}]")
    return list(overrides)
