"""`python -m mammo.compare`: paired differences between runs that scored the same images."""

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mammo.config.calls.differences import labels
from mammo.config.calls.next_steps import call, ending
from mammo.config.checks import plain
from mammo.config.command import hydra_main
from mammo.config.data.subgroup_cuts import subgroup_cuts
from mammo.config.flattening import differing_keys, without_keys
from mammo.errors import ConfigError
from mammo.fast_imports import quick_imports
from mammo.runs import RunFolder, dated_folder
from mammo.runs.run_selection import select_runs


@dataclass(frozen=True)
class _Compared:
    """A run, the folds of one setting, or the mean of the scores of several of these, compared as one.

    Attributes:
        paths: folder of each run or set of folds.
        parts: the run, or the folds, in each of these folders.
    """

    paths: tuple[Path, ...]
    parts: tuple[list[RunFolder], ...]

    @property
    def runs(self) -> list[RunFolder]:
        """All runs."""
        return [run for part in self.parts for run in part]

    @property
    def score(self) -> float:
        """Mean validation AUC."""
        return sum(run.score or 0.0 for run in self.runs) / len(self.runs)

    def configs(self) -> dict[str, dict[str, Any]]:
        """Return the configuration of each part by its folder, without the keys in which its folds differ."""
        found = {}
        for path, part in zip(self.paths, self.parts, strict=True):
            configs = [run.config() for run in part]
            found[str(path)] = without_keys(configs[0], differing_keys(configs))
        return found


@hydra_main("compare")
def main(cfg: DictConfig) -> None:
    compared = _chosen(cfg)
    names = labels({path: config for each in compared for path, config in each.configs().items()})
    by_name = {}
    for each in compared:
        parts = [names[str(path)] for path in each.paths]
        by_name[parts[0] if len(parts) == 1 else f"mean of {' and '.join(parts)}"] = each

    with quick_imports():
        from mammo.evaluation.ensemble_evaluation import mean_predictions
        from mammo.evaluation.report.comparison_report import write_comparison
        from mammo.evaluation.side_by_side import draw_side_by_side
        from mammo.evaluation.statistics.comparison import compare, comparison_table, verdict
        from mammo.evaluation.statistics.subgroups import compare_in_subgroups, compared_subgroups_table

    split = cfg.split.value
    predictions = {name: mean_predictions(each.parts, split) for name, each in by_name.items()}
    found = compare(predictions, unit=cfg.unit, reduce=cfg.reduce)
    columns = subgroup_cuts(cfg.subgroups)
    found["subgroups"] = compare_in_subgroups(predictions, columns=columns, unit=cfg.unit, reduce=cfg.reduce)
    for model in found["models"]:
        model["run"] = ", ".join(map(str, by_name[model["name"]].paths))
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

    The runs of one folder or pattern that are folds of one split are compared as one, and so are those of a
    list within the list, by the mean of their scores.

    Raises:
        ConfigError: they are not at least two different finished runs.
    """
    names = _elements(cfg)
    if cfg.best is not None and cfg.best < 2:
        raise ConfigError(f"best={cfg.best}: must be at least 2, or null for all runs")
    compared: list[_Compared] = []
    for name in names:
        if isinstance(name, list):
            together = [part for each in name for part in _parts(str(each))]
            if len({path.resolve() for path, _ in together}) < max(2, len(together)):
                raise ConfigError(f"runs={cfg.runs}: a mean is of at least two different runs, not of {name}")
            paths, parts = zip(*together, strict=True)
            compared.append(_Compared(paths, parts))
        else:
            compared += [_Compared((path,), (runs,)) for path, runs in _parts(str(name))]
    runs = [run for each in compared for run in each.runs]
    keys = {frozenset(run.path.resolve() for run in each.runs) for each in compared}
    if len(runs) < 2 or len(keys) < len(compared) or (len(compared) == 1 and len(compared[0].parts) > 1):
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
            f"pictures={cfg.pictures}: heat is that of one network, not of several runs; give pictures=0, "
            "or one run of each setting"
        )
    if cfg.best is None or len(compared) <= cfg.best:
        return compared
    best = sorted(compared, key=lambda each: each.score, reverse=True)[: cfg.best]
    print(
        f"the {cfg.best} of {len(compared)} runs with the highest validation AUC; best=null compares all",
        file=sys.stderr,
    )
    return [each for each in compared if each in best]


def _elements(cfg: DictConfig) -> list[Any]:
    """Return the elements of `runs`; one that is a list stands for the mean of its runs."""
    return [cfg.runs] if isinstance(cfg.runs, str) else list(plain(cfg.runs))


def _parts(name: str) -> list[tuple[Path, list[RunFolder]]]:
    """Return each run of a folder or pattern, or all of them as one if they are folds of one split."""
    found, left_out = select_runs(name, key="runs")
    if left_out:
        print(f"{name}: {len(left_out)} unfinished runs are left out", file=sys.stderr)
    return [(Path(name), found)] if _are_folds(found) else [(run.path, [run]) for run in found]


def _are_folds(runs: list[RunFolder]) -> bool:
    """Whether there are several runs, each of another fold."""
    data = [run.config().get("data", {}) for run in runs]
    return len(runs) > 1 and (
        all(each.get("split") == "kfold" for each in data)
        and len({each["fold"] for each in data}) == len(runs)
    )


def _next(cfg: DictConfig, compared: list[_Compared]) -> list[str]:
    if cfg.split.value != "test":
        names = cfg.runs if isinstance(cfg.runs, str) else _elements(cfg)
        return [call("compare", runs=names, split="test"), call("runs")]
    best = max(compared, key=lambda each: each.score)
    run = best.paths[0] if len(best.paths) == 1 else list(best.paths)
    return [call("evaluate", run=run, split="test"), call("runs")]


if __name__ == "__main__":
    main()
