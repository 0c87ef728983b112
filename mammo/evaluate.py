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
    "the mean scores are not calibrated and the threshold is 0.5, because the runs have different validation "
    "images; give runs of one split for a calibrated ensemble"
)


@hydra_main("evaluate")
def main(cfg: DictConfig) -> None:
    names = _names(cfg.run)
    if bool(names) == (cfg.predictions is not None):
        raise ConfigError("give either run=FOLDER or predictions=FILE")
    runs = [RunFolder.find(name, key="run") for name in names]

    # importing PyTorch takes seconds, so errors in the configuration are reported before
    with quick_imports():
        from mammo.evaluation.evaluation_files import read_evaluation, write_evaluation
    from mammo.evaluation.statistics.performance import measure_performance, performance_table

    settings = {"resamples": cfg.resamples, "seed": cfg.seed, "reduce": cfg.reduce.value}
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
            )
        )
    else:
        predictions, calibration = _ensemble(cfg, runs) if runs else read_evaluation(Path(cfg.predictions))
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


def _ensemble(cfg: DictConfig, runs: list[RunFolder]) -> "tuple[Predictions, Calibration | None]":
    """Combine the scores of several runs, and fit a calibration to scores combined in the same way."""
    from mammo.evaluation.evaluation_files import (
        calibration_of,
        combine_predictions,
        ensemble_calibration,
        predictions_of,
    )
    from mammo.evaluation.split_scoring import score_split

    split, tta = cfg.split.value, cfg.tta.value
    fixed = [found for run in runs if (found := calibration_of(run, tta=tta)) is not None]
    if len(fixed) < len(runs):
        raise ConfigError("run=[...]: a run without calibration cannot be combined with others; remove it")
    scored = [score_split(run, split, data=cfg.data, tta=tta) for run in runs]
    held_out = [predictions_of(run, "val", tta=tta) for run in runs]
    scored, held_out = (
        [map_.apply(one) for map_, one in zip(fixed, side, strict=True)] for side in (scored, held_out)
    )
    together = combine_predictions(scored, split=split)
    is_out_of_fold = len(together.images) > len(scored[0].images)
    own = together if is_out_of_fold and cfg.data is None else None
    return together, ensemble_calibration(held_out, out_of_fold_scores=own)


if __name__ == "__main__":
    main()
