"""`python -m mammo.compare`: paired differences between runs that scored the same images."""

from pathlib import Path

from omegaconf import DictConfig

from mammo.command import hydra_main
from mammo.errors import ConfigError
from mammo.imports import quick_imports
from mammo.runs import RunFolder


@hydra_main("compare")
def main(cfg: DictConfig) -> None:
    runs = [RunFolder.find(str(name), key="runs") for name in cfg.runs]
    names = [str(run.path) for run in runs]
    if len(runs) < 2 or len(set(names)) < len(names):
        raise ConfigError(f"runs={list(cfg.runs)}: give two different folders or more")

    with quick_imports():
        from mammo.evaluation.comparison import compare, comparison_table
        from mammo.evaluation.comparison_page import write_comparison
        from mammo.evaluation.evaluating import predictions_of

    predictions = {name: predictions_of(run, cfg.split) for name, run in zip(names, runs, strict=True)}
    found = compare(predictions, unit=cfg.unit, reduce=cfg.reduce, resamples=cfg.resamples, seed=cfg.seed)
    print(comparison_table(found))
    write_comparison(found, folder=Path(cfg.output), split=cfg.split)
    print(f"written to {cfg.output}")


if __name__ == "__main__":
    main()
