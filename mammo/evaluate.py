"""`python -m mammo.evaluate`: the verdict on a finished run, and the only door to a test set."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from mammo.command import hydra_main
from mammo.errors import ConfigError
from mammo.runs import RunFolder, dated

if TYPE_CHECKING:
    from mammo.evaluation.calibration import Calibration
    from mammo.evaluation.predictions import Predictions


@hydra_main("evaluate")
def main(cfg: DictConfig) -> None:
    names = _names(cfg.run)
    if bool(names) == (cfg.predictions is not None):
        raise ConfigError("run=FOLDER or predictions=FILE: give one of the two")
    runs = [RunFolder.find(name, key="run") for name in names]

    # they import PyTorch, which takes seconds: an error in the config is told before
    from mammo.evaluation.evaluating import write_verdict
    from mammo.evaluation.verdict import verdict, verdict_table

    if cfg.predictions is not None:
        from mammo.evaluation.predictions import read_predictions

        predictions, calibration = read_predictions(Path(cfg.predictions)), None
        folder = Path(cfg.output) if cfg.output is not None else None
    else:
        predictions, calibration = _scored(cfg, runs)
        folder = Path(cfg.output) if cfg.output is not None else _folder(cfg, runs)
    found = verdict(
        predictions, calibration=calibration, resamples=cfg.resamples, seed=cfg.seed, reduce=cfg.reduce
    )
    print(verdict_table(found))
    if folder is not None:
        write_verdict(folder, predictions=predictions, found=found)
        print(f"written to {folder}")


def _names(run: Any) -> list[str]:
    """One folder or several."""
    if run is None:
        return []
    return [str(name) for name in run] if OmegaConf.is_list(run) else [str(run)]


def _folder(cfg: DictConfig, runs: list[RunFolder]) -> Path:
    if len(runs) > 1:
        return dated("ensemble") / "evaluation" / str(cfg.split)
    # other data beside the run's own, not over them
    other = "" if cfg.data is None else f"-{cfg.data.source}"
    return runs[0].evaluation / f"{cfg.split}{other}"


def _scored(cfg: DictConfig, runs: list[RunFolder]) -> "tuple[Predictions, Calibration | None]":
    from mammo.evaluation.calibration import fit_calibration
    from mammo.evaluation.evaluating import (
        calibration_of,
        put_together,
        score_split,
        validation_predictions,
    )

    calibrations = [calibration_of(run) for run in runs]
    scored = [score_split(run, cfg.split, data=cfg.data, tta=cfg.tta).predictions for run in runs]
    if len(runs) == 1:
        return scored[0], calibrations[0]
    if None in calibrations:
        raise ConfigError(
            "run=[...]: a run without calibration cannot be put together with others; leave it"
        )
    pairs = list(zip(calibrations, scored, runs, strict=True))
    together = put_together([fixed.apply(found) for fixed, found, _ in pairs if fixed], split=cfg.split)
    held_out = [fixed.apply(validation_predictions(run)) for fixed, _, run in pairs if fixed]
    return together, fit_calibration(put_together(held_out, split="val"))


if __name__ == "__main__":
    main()
