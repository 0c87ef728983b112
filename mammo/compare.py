"""`python -m mammo.compare`: paired differences between runs that scored the same images."""

import sys
from pathlib import Path

from omegaconf import DictConfig

from mammo.config.command import hydra_main
from mammo.errors import ConfigError
from mammo.fast_imports import quick_imports
from mammo.runs import RunFolder
from mammo.sweeping.jobs.multirun import Multirun


@hydra_main("compare")
def main(cfg: DictConfig) -> None:
    runs = [
        run for name in ([cfg.runs] if isinstance(cfg.runs, str) else cfg.runs) for run in _runs_of(str(name))
    ]
    names = [str(run.path) for run in runs]
    if len(runs) < 2 or len(set(names)) < len(names):
        raise ConfigError(f"runs={cfg.runs}: give at least two different folders, or that of a multirun")

    with quick_imports():
        from mammo.evaluation.evaluation_files import predictions_of
        from mammo.evaluation.report.comparison_report import write_comparison
        from mammo.evaluation.statistics.comparison import compare, comparison_table

    predictions = {name: predictions_of(run, cfg.split.value) for name, run in zip(names, runs, strict=True)}
    found = compare(predictions, unit=cfg.unit, reduce=cfg.reduce)
    if cfg.split.value in ("val", "train"):
        found["note"] = (
            f"the {cfg.split.value} images chose the weights of these runs, so their AUCs flatter, most for "
            "the run that was tuned most; compare on split=test for a result to report"
        )
        print(found["note"], file=sys.stderr)
    print(comparison_table(found))
    write_comparison(found, folder=Path(cfg.output), split=cfg.split)
    print(f"written to {cfg.output}")


def _runs_of(name: str) -> list[RunFolder]:
    """Return the run of a folder, or the finished runs of a multirun."""
    folder = Path(name)
    if not (folder / "multirun.json").exists():
        return [RunFolder.find(name, key="runs")]
    multirun = Multirun(folder)
    return [RunFolder(Path(job.run_dir)) for job in multirun.jobs if job.is_finished()]


if __name__ == "__main__":
    main()
