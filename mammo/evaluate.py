"""`python -m mammo.evaluate`: evaluates a finished run; the only command that reads a test set."""

import contextlib
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mammo.config.command import hydra_main
from mammo.errors import ConfigError
from mammo.fast_imports import quick_imports
from mammo.runs import RunFolder, dated_folder


@hydra_main("evaluate")
def main(cfg: DictConfig) -> None:
    names = _names(cfg.run)
    if bool(names) == (cfg.predictions is not None):
        raise ConfigError("give either run=FOLDER or predictions=FILE")
    rule = _rule(cfg)
    if rule and not names:
        raise ConfigError(
            f"target_{rule['rule']}={rule['target']}: the threshold is fixed on validation images, which "
            "predictions=FILE does not have; give run=FOLDER"
        )
    runs = [RunFolder.find(name, key="run") for name in names]

    own = dated_folder("ensemble") if len(runs) > 1 and cfg.output is None else contextlib.nullcontext()
    with own as ensemble:
        _evaluate(cfg, runs, folder=_folder(cfg, runs, ensemble), rule=rule)


def _evaluate(cfg: DictConfig, runs: list[RunFolder], *, folder: Path | None, rule: dict[str, Any]) -> None:
    # importing PyTorch takes seconds, so errors in the configuration are reported before
    with quick_imports():
        from mammo.evaluation.evaluation_files import read_evaluation, write_evaluation

    settings = {key: cfg[key] for key in ("resamples", "seed", "prevalence")} | {"reduce": cfg.reduce.value}
    if not runs:
        from mammo.evaluation.statistics.performance import measure_performance, performance_table

        predictions, calibration = read_evaluation(Path(cfg.predictions))
        metrics = measure_performance(predictions, calibration=calibration, **settings)
        print(performance_table(metrics))
        if folder is not None:
            write_evaluation(folder, predictions=predictions, metrics=metrics, calibration=calibration)
    else:
        assert folder is not None
        choices = {"split": cfg.split.value, "tta": cfg.tta.value, "data": cfg.data, "name": _name(cfg)}
        choices |= {"folder": folder, "report": cfg.report} | settings
        if len(runs) == 1:
            from mammo.evaluation.run_evaluation import evaluate_run

            heatmaps = {"heatmap": cfg.heatmap.value, "heatmap_layer": cfg.heatmap_layer}
            print(evaluate_run(runs[0], **choices, **heatmaps, **rule))
        else:
            from mammo.evaluation.ensemble_evaluation import evaluate_runs

            print(evaluate_runs(runs, **choices, rule=rule))
    if folder is not None:
        print(f"written to {folder}")


def _names(run: Any) -> list[str]:
    """Return the names of one or several run folders."""
    if run is None:
        return []
    return [str(name) for name in run] if OmegaConf.is_list(run) else [str(run)]


def _folder(cfg: DictConfig, runs: list[RunFolder], ensemble: Path | None) -> Path | None:
    """Return the folder for the results; None for a table of predictions, which is evaluated without."""
    if cfg.output is not None:
        return Path(cfg.output)
    if ensemble is not None:
        return ensemble / "evaluation" / _name(cfg)
    return runs[0].evaluation / _name(cfg) if runs else None


def _name(cfg: DictConfig) -> str:
    """Return the name of the evaluation: the split, with a suffix for other data and for flips."""
    other = "" if cfg.data is None else f"-{cfg.data.source}"
    flips = "" if cfg.tta == "none" else f"-{cfg.tta}"
    return f"{cfg.split}{other}{flips}"


def _rule(cfg: DictConfig) -> dict[str, Any]:
    """Return rule and target of the threshold as arguments of `fit_calibration`; empty for the default."""
    targets = {rule: cfg[f"target_{rule}"] for rule in ("sensitivity", "specificity")}
    given = {rule: target for rule, target in targets.items() if target is not None}
    if len(given) > 1:
        raise ConfigError("target_sensitivity and target_specificity exclude each other: give one of them")
    return {"rule": next(iter(given)), "target": next(iter(given.values()))} if given else {}


if __name__ == "__main__":
    main()
