"""`python -m mammo.compare`: paired differences between runs that scored the same images."""

import contextlib
import sys
from pathlib import Path

from omegaconf import DictConfig

from mammo.config.calls.differences import labels
from mammo.config.calls.next_steps import call, ending
from mammo.config.command import hydra_main
from mammo.errors import ConfigError
from mammo.fast_imports import quick_imports
from mammo.runs import RunFolder, dated_folder
from mammo.runs.run_selection import select_runs


@hydra_main("compare")
def main(cfg: DictConfig) -> None:
    runs = _chosen(cfg)
    names = labels({str(run.path): run.config() for run in runs})
    by_name = {names[str(run.path)]: run for run in runs}

    with quick_imports():
        from mammo.evaluation.evaluation_files import predictions_of
        from mammo.evaluation.report.comparison_report import write_comparison
        from mammo.evaluation.statistics.comparison import compare, comparison_table, verdict

    split = cfg.split.value
    predictions = {name: predictions_of(run, split) for name, run in by_name.items()}
    found = compare(predictions, unit=cfg.unit, reduce=cfg.reduce)
    for model in found["models"]:
        model["run"] = str(by_name[model["name"]].path)
    if split in ("val", "train"):
        found["note"] = (
            f"the {split} images chose the weights of these runs, so their AUCs flatter, most for "
            "the run that was tuned most; compare on split=test for a result to report"
        )
        print(found["note"], file=sys.stderr)
    print(f"{comparison_table(found)}\n\n{verdict(found)}\n")
    own = dated_folder("compare") if cfg.output is None else contextlib.nullcontext(Path(cfg.output))
    with own as folder:
        page = write_comparison(found, folder=folder, split=split)
    print(ending({"written to": folder, "page": page}, *_next(cfg, runs)))


def _chosen(cfg: DictConfig) -> list[RunFolder]:
    """Return the runs of `runs`; of more than `best`, those with the highest validation AUC.

    Raises:
        ConfigError: they are not at least two different finished runs.
    """
    names = [cfg.runs] if isinstance(cfg.runs, str) else list(cfg.runs)
    if cfg.best is not None and cfg.best < 2:
        raise ConfigError(f"best={cfg.best}: must be at least 2, or null for all runs")
    runs: list[RunFolder] = []
    for name in map(str, names):
        found, left_out = select_runs(name, key="runs")
        runs += found
        if left_out:
            print(f"{name}: {len(left_out)} unfinished runs are left out", file=sys.stderr)
    paths = [run.path.resolve() for run in runs]
    if len(runs) < 2 or len(set(paths)) < len(paths):
        raise ConfigError(
            f"runs={cfg.runs}: give at least two different runs, the folder of a multirun or search, or a "
            "pattern"
        )
    data = [run.config().get("data", {}) for run in runs]
    if all(each.get("split") == "kfold" for each in data) and len({each["fold"] for each in data}) > 1:
        raise ConfigError(
            f"runs={cfg.runs}: are folds of one split, which have no images in common; "
            f"{call('evaluate', run=cfg.runs if isinstance(cfg.runs, str) else names)} evaluates them as one"
        )
    if cfg.best is None or len(runs) <= cfg.best:
        return runs
    best = sorted(runs, key=lambda run: run.score or 0.0, reverse=True)[: cfg.best]
    print(
        f"the {cfg.best} of {len(runs)} runs with the highest validation AUC; best=null compares all",
        file=sys.stderr,
    )
    return [run for run in runs if run in best]


def _next(cfg: DictConfig, runs: list[RunFolder]) -> list[str]:
    if cfg.split.value != "test":
        names = cfg.runs if isinstance(cfg.runs, str) else list(cfg.runs)
        return [call("compare", runs=names, split="test"), call("runs")]
    best = max(runs, key=lambda run: run.score or 0.0)
    return [call("evaluate", run=best.path, split="test"), call("runs")]


if __name__ == "__main__":
    main()
