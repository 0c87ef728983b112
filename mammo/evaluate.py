"""`python -m mammo.evaluate`: evaluates a finished run; the only command that reads a test set."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from mammo.config.command import hydra_main
from mammo.errors import ConfigError
from mammo.fast_imports import quick_imports
from mammo.runs import RunFolder, dated

if TYPE_CHECKING:
    from mammo.evaluation.predictions import Predictions
    from mammo.evaluation.statistics.calibration import Calibration


_NOT_CALIBRATED = (
    "the scores are not calibrated and the threshold is 0.5, because the runs have different validation "
    "images; give runs of one split for a calibrated ensemble"
)


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

    # importing PyTorch takes seconds, so errors in the configuration are reported before
    with quick_imports():
        from mammo.evaluation.evaluation_files import read_evaluation, write_evaluation
    from mammo.evaluation.statistics.performance import measure_performance, performance_table

    settings = {key: cfg[key] for key in ("resamples", "seed", "prevalence")} | {"reduce": cfg.reduce.value}
    folder = Path(cfg.output) if cfg.output is not None else _folder(cfg, runs)
    if len(runs) == 1 and folder is not None:
        from mammo.evaluation.run_evaluation import evaluate_run

        choices = {key: cfg[key].value for key in ("split", "tta", "heatmap")}
        print(
            evaluate_run(
                runs[0],
                folder=folder,
                data=cfg.data,
                report=cfg.report,
                heatmap_layer=cfg.heatmap_layer,
                name=_name(cfg),
                **choices,
                **settings,
                **rule,
            )
        )
    else:
        predictions, calibration = (
            _ensemble(cfg, runs, rule) if runs else read_evaluation(Path(cfg.predictions))
        )
        metrics = measure_performance(predictions, calibration=calibration, **settings)
        if runs and calibration is None:
            metrics["notes"].append(_NOT_CALIBRATED)
        print(performance_table(metrics))
        if folder is not None:
            write_evaluation(folder, predictions=predictions, metrics=metrics, calibration=calibration)
    if folder is not None:
        print(f"written to {folder}")


def _names(run: Any) -> list[str]:
    """Return the names of one or several run folders."""
    if run is None:
        return []
    return [str(name) for name in run] if OmegaConf.is_list(run) else [str(run)]


def _folder(cfg: DictConfig, runs: list[RunFolder]) -> Path | None:
    if not runs:
        return None  # a table of predictions is evaluated without writing files
    if len(runs) > 1:
        return dated("ensemble") / "evaluation" / _name(cfg)
    return runs[0].evaluation / _name(cfg)


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


def _ensemble(
    cfg: DictConfig, runs: list[RunFolder], rule: dict[str, Any]
) -> "tuple[Predictions, Calibration | None]":
    """Combine the scores of several runs, and fit a calibration to scores combined in the same way.

    Scores out of fold stay as they are: a calibration would need the labels of the very images it is
    applied to, and so let the shares of the folds into the scores.
    """
    from mammo.evaluation.evaluation_files import (
        calibration_of,
        combine_predictions,
        ensemble_calibration,
        predictions_of,
        same_images,
    )
    from mammo.evaluation.split_scoring import score_split

    split, tta = cfg.split.value, cfg.tta.value
    scored = [score_split(run, split, data=cfg.data, tta=tta) for run in runs]
    held_out = [predictions_of(run, "val", tta=tta) for run in runs]
    folds = not same_images(held_out)
    if folds and rule:
        raise ConfigError(
            f"target_{rule['rule']}={rule['target']}: the threshold is fixed on validation images, and these "
            "runs have none in common; leave it out"
        )
    if folds and split == "val" and cfg.data is None:
        return combine_predictions(scored, split=split), None
    fixed = [found for run in runs if (found := calibration_of(run, tta=tta)) is not None]
    if len(fixed) < len(runs):
        raise ConfigError("run=[...]: a run without calibration cannot be combined with others; remove it")
    scored, held_out = (
        [map_.apply(one) for map_, one in zip(fixed, side, strict=True)] for side in (scored, held_out)
    )
    return combine_predictions(scored, split=split), ensemble_calibration(held_out, **rule)


if __name__ == "__main__":
    main()
