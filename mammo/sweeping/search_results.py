"""What a search ends with: the leaderboard, and its best trial as an experiment."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from mammo.atomic_files import write_atomically
from mammo.config.checks import CONF
from mammo.sweeping.leaderboard.leaderboard import write_leaderboard
from mammo.sweeping.search.search import Search
from mammo.sweeping.search.trials import Trial, best_of
from mammo.sweeping.study import Study

_SHOWN = (
    "network",
    "settings",
    "validation_auc",
    "test_auc",
    "test_auc_low",
    "test_auc_high",
    "test_accuracy",
)
_ENDS = {"value": "", "low": "_low", "high": "_high"}


def write_results(plan: Search | Study) -> str:
    """Writes what a search or study comes to; the same again, whoever does it.

    A search leaves `leaderboard.{csv,html}` and `experiment/best.yaml`; a study those of its searches, one
    table `study.csv` and a comparison of the tested networks.

    Returns:
        What to print.
    """
    return _conclude_study(plan) if isinstance(plan, Study) else _conclude_search(plan)


def _conclude_search(search: Search) -> str:
    trials = search.read_trials()
    page = write_leaderboard(
        search.folder, trials, name=search.settings["name"], objective=_objective(search)
    )
    best = best_of(trials)
    if best is None:
        return f"no trial was finished\nleaderboard {page}"
    interval = "" if best.low is None else f", 95 % interval {best.low:.3f} to {best.high:.3f}"
    file = write_best(search, best)
    return (
        f"best of {len(trials)} trials: trial {best.number}, validation AUC {best.value:.3f}{interval}\n"
        f"its settings {' '.join(search.space.overrides(best.settings))}\n"
        f"leaderboard  {page}\n"
        f"curves       tensorboard --logdir {search.trials}\n"
        f"to train it  python train.py --config-dir {search.folder} experiment={file.stem}"
    )


def _conclude_study(study: Study) -> str:
    from mammo.evaluation.evaluation_files import predictions_of
    from mammo.evaluation.report.comparison_report import write_comparison
    from mammo.evaluation.statistics.comparison import compare, comparison_table

    for name in study.names:
        if (tuned := study.search("tune", name)) and tuned.is_over():
            _conclude_search(tuned)
    table = _study_table(study)
    shown = table[table.columns.intersection(list(_SHOWN))]
    told = [shown.to_string(index=False, float_format="%.3f", na_rep="")]
    tested = study.tested()
    if len(tested) > 1:
        found = compare({name: predictions_of(run, "test") for name, run in tested.items()})
        told += [
            comparison_table(found),
            f"comparison {write_comparison(found, folder=study.folder, split='test')}",
        ]
    return "\n\n".join([*told, f"table {study.folder / 'study.csv'}"])


def _study_table(study: Study) -> pd.DataFrame:
    """Writes `study.csv`: each network with what was tuned, and its scores with their intervals."""
    rows = []
    for name in study.names:
        row: dict[str, Any] = {"network": name}
        for phase, key in (("tune", "tuned_auc"), ("train", "validation_auc")):
            search = study.search(phase, name)
            best = best_of(search.read_trials()) if search else None
            row |= (
                {key: best.value, f"{key}_low": best.low, f"{key}_high": best.high} if best else {key: None}
            )
            if phase == "tune" and search and best:
                row |= {
                    "trials": len(search.read_trials()),
                    "settings": " ".join(search.space.overrides(best.settings)),
                }
        if run := study.tested().get(name):
            metrics = json.loads((run.evaluation / "test" / "metrics.json").read_text())
            for key in ("auc", "accuracy"):
                row |= {f"test_{key}{end}": metrics["image"][key][part] for part, end in _ENDS.items()}
            if metrics["multiclass"]:
                row["test_micro_auc"] = metrics["multiclass"]["auc_micro"]["value"]
        rows.append(row)
    table = pd.DataFrame(rows)
    table.to_csv(study.folder / "study.csv", index=False)
    return table


def write_best(search: Search, best: Trial) -> Path:
    """Writes a trial's settings as an experiment, `experiment/best.yaml` in the search's folder."""
    overrides = [*search.overrides, *search.space.overrides(best.settings)]
    interval = "" if best.low is None else f" ({best.low:.3f}-{best.high:.3f})"
    text = (
        "# @package _global_\n"
        f"# python train.py --config-dir {search.folder} experiment=best\n"
        f"# Best of the search {search.settings['name']}: trial {best.number}, commit {search.commit},\n"
        f"# validation AUC {best.value:.3f}{interval}.\n"
        f"{as_experiment(overrides)}"
    )
    file = search.folder / "experiment" / "best.yaml"
    file.parent.mkdir(exist_ok=True)
    write_atomically(file, text)
    return file


def as_experiment(overrides: list[str]) -> str:
    """The body of an experiment file that says the same as overrides of the command line, the last counting.

    Example:
        >>> print(as_experiment(["model=resnet34", "optim.lr=0.1", "optim.lr=0.01"]), end="")
        defaults:
        - override /model: resnet34
        optim:
          lr: 0.01
    """
    groups: dict[str, str] = {}
    values = OmegaConf.create()
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.key_or_group
        if (CONF / key).is_dir():
            groups[key] = str(override.value())
        else:
            OmegaConf.update(values, key, override.value(), force_add=True)
    base = groups.pop("experiment", None)
    defaults: list[Any] = [base] if base else []
    defaults += [{f"override /{group}": choice} for group, choice in groups.items()]
    body = {"defaults": defaults} if defaults else {}
    return OmegaConf.to_yaml(OmegaConf.merge(body, values))


def _objective(search: Search) -> str:
    over, count = search.settings["objective"]["over"], search.settings["objective"]["count"]
    return "validation AUC" if over == "none" else f"mean validation AUC over {count} {over}"
