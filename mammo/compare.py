"""`python -m mammo.compare`: paired differences between runs that scored the same images."""

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mammo.config.calls.differences import labels
from mammo.config.calls.next_steps import call, ending
from mammo.config.command import hydra_main
from mammo.config.data.subgroup_cuts import subgroup_cuts
from mammo.errors import ConfigError
from mammo.fast_imports import quick_imports
from mammo.runs import RunFolder, dated_folder
from mammo.runs.run_selection import select_runs


@dataclass(frozen=True)
class _Compared:
    """A run, or the folds of one setting, which are compared as one."""

    path: Path
    runs: list[RunFolder]

    @property
    def score(self) -> float:
        """Mean validation AUC."""
        return sum(run.score or 0.0 for run in self.runs) / len(self.runs)

    def config(self) -> dict[str, Any]:
        """Return the configuration, without the fold if there are several."""
        config = self.runs[0].config()
        if len(self.runs) > 1:
            config["data"].pop("fold")
        return config


@hydra_main("compare")
def main(cfg: DictConfig) -> None:
    compared = _chosen(cfg)
    names = labels({str(each.path): each.config() for each in compared})
    by_name = {names[str(each.path)]: each for each in compared}

    with quick_imports():
        from mammo.evaluation.evaluation_files import combine_predictions, predictions_of
        from mammo.evaluation.report.comparison_report import write_comparison
        from mammo.evaluation.side_by_side import draw_side_by_side
        from mammo.evaluation.statistics.comparison import compare, comparison_table, verdict
        from mammo.evaluation.statistics.subgroups import compare_in_subgroups, compared_subgroups_table

    split = cfg.split.value
    predictions = {}
    for name, each in by_name.items():
        scored = [predictions_of(run, split) for run in each.runs]
        predictions[name] = scored[0] if len(scored) == 1 else combine_predictions(scored, split=split)
    found = compare(predictions, unit=cfg.unit, reduce=cfg.reduce)
    columns = subgroup_cuts(cfg.subgroups)
    found["subgroups"] = compare_in_subgroups(predictions, columns=columns, unit=cfg.unit, reduce=cfg.reduce)
    for model in found["models"]:
        model["run"] = str(by_name[model["name"]].path)
    if split in ("val", "train"):
        found["note"] = (
            f"the {split} images chose the weights of these runs, so their AUCs flatter, most for "
            "the run that was tuned most; compare on split=test for a result to report"
        )
        print(found["note"], file=sys.stderr)
    print(f"{comparison_table(found)}\n\n{verdict(found)}\n")
    if found["subgroups"]:
        print(f"{compared_subgroups_table(found['subgroups'])}\n")
    own = dated_folder("compare") if cfg.output is None else contextlib.nullcontext(Path(cfg.output))
    with own as folder:
        pictures = []
        if cfg.pictures:
            pictures = draw_side_by_side(
                {name: each.runs[0] for name, each in by_name.items()},
                predictions,
                split=split,
                number=cfg.pictures,
                folder=folder / "pictures",
            )
        page = write_comparison(found, folder=folder, split=split, pictures=pictures)
    print(ending({"written to": folder, "page": page}, *_next(cfg, compared)))


def _chosen(cfg: DictConfig) -> list[_Compared]:
    """Return the runs of `runs`; of more than `best`, those with the highest validation AUC.

    The runs of one folder or pattern that are folds of one split are compared as one.

    Raises:
        ConfigError: they are not at least two different finished runs.
    """
    names = [cfg.runs] if isinstance(cfg.runs, str) else list(cfg.runs)
    if cfg.best is not None and cfg.best < 2:
        raise ConfigError(f"best={cfg.best}: must be at least 2, or null for all runs")
    compared: list[_Compared] = []
    for name in map(str, names):
        found, left_out = select_runs(name, key="runs")
        if left_out:
            print(f"{name}: {len(left_out)} unfinished runs are left out", file=sys.stderr)
        if _are_folds(found):
            compared.append(_Compared(Path(name), found))
        else:
            compared += [_Compared(run.path, [run]) for run in found]
    runs = [run for each in compared for run in each.runs]
    paths = [run.path.resolve() for run in runs]
    if len(runs) < 2 or len(set(paths)) < len(paths):
        raise ConfigError(
            f"runs={cfg.runs}: give at least two different runs, the folder of a multirun or search, or a "
            "pattern"
        )
    if len(compared) == 1 or (len(compared) == len(runs) and _are_folds(runs)):
        raise ConfigError(
            f"runs={cfg.runs}: are folds of one split, which have no images in common; "
            f"{call('evaluate', run=cfg.runs if isinstance(cfg.runs, str) else names)} evaluates them as one"
        )
    if cfg.pictures and len(compared) < len(runs):
        raise ConfigError(
            f"pictures={cfg.pictures}: heat is that of one network, not of several folds; give pictures=0, "
            "or one fold of each setting"
        )
    if cfg.best is None or len(compared) <= cfg.best:
        return compared
    best = sorted(compared, key=lambda each: each.score, reverse=True)[: cfg.best]
    print(
        f"the {cfg.best} of {len(compared)} runs with the highest validation AUC; best=null compares all",
        file=sys.stderr,
    )
    return [each for each in compared if each in best]


def _are_folds(runs: list[RunFolder]) -> bool:
    """Whether there are several runs, each of another fold."""
    data = [run.config().get("data", {}) for run in runs]
    return len(runs) > 1 and (
        all(each.get("split") == "kfold" for each in data)
        and len({each["fold"] for each in data}) == len(runs)
    )


def _next(cfg: DictConfig, compared: list[_Compared]) -> list[str]:
    if cfg.split.value != "test":
        names = cfg.runs if isinstance(cfg.runs, str) else list(cfg.runs)
        return [call("compare", runs=names, split="test"), call("runs")]
    best = max(compared, key=lambda each: each.score)
    return [call("evaluate", run=best.path, split="test"), call("runs")]


if __name__ == "__main__":
    main()
