"""The evaluation of a composed configuration: of a run, of several runs as one, or of a table."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from mammo.config.checks import plain
from mammo.config.data.subgroup_cuts import subgroup_cuts
from mammo.errors import ConfigError
from mammo.fast_imports import quick_imports
from mammo.runs import RunFolder, dated_folder
from mammo.runs.run_selection import select_runs

if TYPE_CHECKING:  # imports PyTorch, which takes seconds
    from mammo.evaluation.evaluation_settings import Evaluation


def evaluate_as_configured(cfg: DictConfig) -> "Evaluation":
    """Evaluate, and write the files of the evaluation.

    Args:
        cfg: checked configuration of an evaluation.

    Raises:
        MammoError: the evaluation cannot start, or fails.
    """
    names = _names(cfg.run)
    if bool(names) == (cfg.predictions is not None):
        raise ConfigError("give either run=FOLDER or predictions=FILE")
    if names and cfg.task is not None:
        raise ConfigError(f"task={cfg.task.name}: a run has a task of its own; leave it out")
    rule = threshold_rule(cfg)
    if rule and not names:
        raise ConfigError(
            f"target_{rule['rule']}={rule['target']}: the threshold is fixed on validation images, which "
            "predictions=FILE does not have; give run=FOLDER"
        )
    runs = [run for name in names for run in _runs_of(name)]
    own: contextlib.AbstractContextManager[Path | None] = contextlib.nullcontext()
    if len(runs) > 1 and cfg.output is None:
        # of the runs of one folder, such as that of a multirun, the results are in this folder
        whole = len(names) == 1 and Path(names[0]).is_dir()
        own = contextlib.nullcontext(Path(names[0])) if whole else dated_folder("ensemble")
    with own as several:
        folder = _folder(cfg, runs, several)
        # importing PyTorch takes seconds, so errors in the configuration are reported before
        with quick_imports():
            return _evaluate(cfg, runs, folder=folder, rule=rule)


def _evaluate(
    cfg: DictConfig, runs: list[RunFolder], *, folder: Path | None, rule: dict[str, Any]
) -> "Evaluation":
    from mammo.evaluation.evaluation_files import read_evaluation, write_evaluation
    from mammo.evaluation.evaluation_settings import Evaluation, EvaluationSettings

    measures = {key: cfg[key] for key in ("resamples", "seed", "prevalence")} | {
        "reduce": cfg.reduce.value,
        "subgroups": subgroup_cuts(cfg.subgroups),
    }
    if not runs:
        from mammo.data.tasks import Task
        from mammo.evaluation.statistics.performance import measure_performance, performance_table

        task = None if cfg.task is None else Task.of(plain(cfg.task))
        predictions, calibration = read_evaluation(Path(cfg.predictions), task=task)
        metrics = measure_performance(predictions, calibration=calibration, **measures)
        if folder is not None:
            write_evaluation(folder, predictions=predictions, metrics=metrics, calibration=calibration)
        return Evaluation(predictions, metrics, performance_table(metrics), _name(cfg), folder)
    assert folder is not None
    settings = EvaluationSettings(
        split=cfg.split.value,
        folder=folder,
        data=cfg.data,
        tta=cfg.tta.value,
        heatmap=cfg.heatmap.value,
        heatmap_layer=cfg.heatmap_layer,
        hanging=cfg.hanging,
        report=cfg.report,
        name=_name(cfg),
        **measures,
        **rule,
    )
    if len(runs) > 1:
        from mammo.evaluation.ensemble_evaluation import evaluate_runs

        return evaluate_runs(runs, settings)
    from mammo.evaluation.run_evaluation import evaluate_run

    return evaluate_run(runs[0], settings)


def _runs_of(name: str) -> list[RunFolder]:
    """Return the run of a folder, or all runs of a multirun.

    Raises:
        ConfigError: there is no such run, or one of several is not finished.
    """
    runs, left_out = select_runs(name, key="run")
    if left_out:
        raise ConfigError(
            f"run={name}: {len(left_out)} of its {len(runs) + len(left_out)} runs are not finished, such as "
            f"{left_out[0].path}; resume them, or name those to evaluate as run=[A,B]"
        )
    return runs


def _names(run: Any) -> list[str]:
    """Return the names of one or several run folders."""
    if run is None:
        return []
    return [str(name) for name in run] if OmegaConf.is_list(run) else [str(run)]


def _folder(cfg: DictConfig, runs: list[RunFolder], several: Path | None) -> Path | None:
    """Return the folder for the results; None for a table of predictions, which is evaluated without."""
    if cfg.output is not None:
        return Path(cfg.output)
    if several is not None:
        return several / "evaluation" / _name(cfg)
    return runs[0].evaluation / _name(cfg) if runs else None


def _name(cfg: DictConfig) -> str:
    """Return the name of the evaluation: the split, with a suffix for other data and for augmentation."""
    from mammo.data.sources.reader import source_name

    other = "" if cfg.data is None else f"-{source_name(cfg.data)}"
    augmented = "" if cfg.tta == "none" else f"-{cfg.tta}"
    return f"{cfg.split}{other}{augmented}"


def threshold_rule(cfg: DictConfig) -> dict[str, Any]:
    """Return rule and target of the threshold as arguments of `fit_calibration`; empty for the default."""
    targets = {rule: cfg[f"target_{rule}"] for rule in ("sensitivity", "specificity")}
    given = {rule: target for rule, target in targets.items() if target is not None}
    if len(given) > 1:
        raise ConfigError("target_sensitivity and target_specificity exclude each other: give one of them")
    return {"rule": next(iter(given)), "target": next(iter(given.values()))} if given else {}
