"""Results of a search or study: leaderboards, the best trial as an experiment, and the table of a study."""

import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from mammo.atomic_files import write_atomically
from mammo.config.calls.differences import OF_THE_RUN
from mammo.config.calls.next_steps import call, ending, tensorboard
from mammo.config.checks import CONF
from mammo.config.flattening import flatten
from mammo.errors import MammoError
from mammo.runs import RunFolder
from mammo.sweeping.leaderboard.leaderboard import write_leaderboard
from mammo.sweeping.search.search import Search
from mammo.sweeping.search.trials import Trial, best_of, failures_text
from mammo.sweeping.study import Study

_PRINTED_COLUMNS = (
    "network",
    "settings",
    "validation_auc",
    "test_auc",
    "test_auc_low",
    "test_auc_high",
    "test_accuracy",
)
_SUFFIXES = {"value": "", "low": "_low", "high": "_high"}


def write_results(plan: Search | Study) -> str:
    """Write the results of a search or study; several workers may do so with the same outcome.

    A search has `leaderboard.{csv,html}` and `experiment/best.yaml`; a study has those of its searches, one
    table `study.csv` and a comparison of the networks on the test images.

    Returns:
        Text to print.
    """
    return _write_study_results(plan) if isinstance(plan, Study) else _write_search_results(plan)


def _write_search_results(search: Search) -> str:
    trials = search.read_trials()
    page = write_leaderboard(
        search.folder, trials, name=search.settings["name"], objective=_objective(search)
    )
    best = best_of(trials)
    if best is None:
        return f"{outcome_text(trials)}\nleaderboard {page}"
    interval = "" if best.low is None else f", 95 % interval {best.low:.3f} to {best.high:.3f}"
    file = write_best(search, best)
    train = f"{call('train')} --config-dir {shlex.quote(str(search.folder))} experiment={file.stem}"
    return (
        f"{outcome_text(trials)}\n"
        f"best trial   {best.number}, validation AUC {best.value:.3f}{interval}\n"
        f"its settings {' '.join(search.space.overrides(best.settings))}\n\n"
        f"{ending({'leaderboard': page}, train, tensorboard(search.trials))}"
    )


def outcome_text(trials: list[Trial]) -> str:
    """Describe in one line how the trials ended; failures with the commonest error and its count."""
    count = Counter(trial.state for trial in trials)
    finished = "no trial was finished"
    if count["finished"]:
        finished = f"best of {count['finished']} finished trial{'s' if count['finished'] > 1 else ''}"
    others = [f"{count['pruned']} pruned"] if count["pruned"] else []
    others += [failures_text(trials)] if _failed(trials) else []
    return ", ".join([finished, *others])


def _failed(trials: list[Trial]) -> bool:
    return any(trial.state == "failed" for trial in trials)


def require_finished_trial(plan: Search | Study) -> None:
    """Raise an error that names the commonest failure where a search is over without a finished trial.

    Raises:
        MammoError: in at least one search no trial was finished.
    """
    without = [search for search in plan.searches() if best_of(search.read_trials()) is None]
    if without:
        outcomes = (f"{search.settings['name']}: {outcome_text(search.read_trials())}" for search in without)
        raise MammoError(f"{'; '.join(outcomes)}; see {without[0].folder / 'leaderboard.csv'}")


def _write_study_results(study: Study) -> str:
    from mammo.evaluation.evaluation_files import predictions_of
    from mammo.evaluation.report.comparison_report import write_comparison
    from mammo.evaluation.statistics.comparison import compare, comparison_table, verdict

    for name in study.names:
        if (tuned := study.search("tune", name)) and tuned.is_over():
            _write_search_results(tuned)
    table = _study_table(study)
    printed = table[table.columns.intersection(list(_PRINTED_COLUMNS))]
    paragraphs = [printed.to_string(index=False, float_format="%.3f", na_rep="")]
    outcomes = {search.settings["name"]: search.read_trials() for search in study.searches()}
    failures = [f"{name}: {failures_text(trials)}" for name, trials in outcomes.items() if _failed(trials)]
    paragraphs += ["\n".join(failures)] if failures else []
    tested = study.tested_runs()
    if len(tested) > 1:
        comparison = compare({name: predictions_of(run, "test") for name, run in tested.items()})
        write_comparison(comparison, folder=study.folder, split="test")
        paragraphs += [comparison_table(comparison), verdict(comparison)]
    written = {"table": study.folder / "study.csv"}
    if len(tested) > 1:
        written["comparison"] = study.folder / "compare.html"
    commands = [call("runs", folder=study.folder), tensorboard(study.folder)]
    return "\n\n".join([*paragraphs, ending(written, *commands)])


def _study_table(study: Study) -> pd.DataFrame:
    """Write `study.csv`: one row per network with its tuned settings and its scores with intervals."""
    from mammo.evaluation.evaluation_files import metrics_of

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
        if (run := study.tested_runs().get(name)) and (metrics := metrics_of(run, "test")):
            found = metrics[metrics.get("unit", "image")]
            for key in ("auc", "accuracy"):
                row |= {f"test_{key}{end}": found[key][part] for part, end in _SUFFIXES.items()}
            if metrics["multiclass"]:
                row["test_micro_auc"] = metrics["multiclass"]["auc_micro"]["value"]
        rows.append(row)
    table = pd.DataFrame(rows)
    table.to_csv(study.folder / "study.csv", index=False)
    return table


def write_best(search: Search, best: Trial) -> Path:
    """Write a trial's settings as the experiment `experiment/best.yaml` in the folder of the search.

    It contains every key of the trial's configuration, so that later edits of `conf` do not change it.
    """
    own = search.space.overrides(best.settings)
    overrides = [*search.overrides, *own]
    part, of_trial = search.runs_of(best.number)[0]
    of_part = {text.partition("=")[0] for text in of_trial if text not in overrides}
    config = flatten(RunFolder(search.folder_of(best.number) / part).config())
    return write_experiment(
        search.folder,
        title=f"Best of the search {search.settings['name']}: trial {best.number}, commit {search.commit}",
        best=best,
        own=own,
        overrides=overrides,
        config={key: value for key, value in config.items() if key not in (*OF_THE_RUN, *of_part)},
    )


def write_experiment(
    folder: Path,
    *,
    title: str,
    best: Trial,
    own: list[str],
    overrides: list[str],
    config: Mapping[str, Any],
) -> Path:
    """Write a training as the experiment `experiment/best.yaml` in the folder of a search or multirun.

    Args:
        folder: folder of the search or multirun.
        title: what the training is.
        best: its score.
        own: overrides in which it differs from the others.
        overrides: all overrides of train.py.
        config: values of further keys, by their dotted names.
    """
    interval = "" if best.low is None else f" ({best.low:.3f}-{best.high:.3f})"
    text = (
        "# @package _global_\n"
        f"# python train.py --config-dir {shlex.quote(str(folder))} experiment=best\n"
        f"# {title},\n"
        f"# validation AUC {best.value:.3f}{interval}, with {' '.join(own)}.\n"
        f"{as_experiment(overrides, config)}"
    )
    file = folder / "experiment" / "best.yaml"
    file.parent.mkdir(exist_ok=True)
    write_atomically(file, text)
    return file


def as_experiment(overrides: list[str], config: Mapping[str, Any] = MappingProxyType({})) -> str:
    """Convert overrides of the command line to the body of an experiment file.

    Of several overrides of one key the last counts; `~GROUP` is a group without a choice.

    Args:
        overrides: overrides of train.py.
        config: values of further keys, by their dotted names.

    Example:
        >>> overrides = ["model=resnet34", "logger=[csv,mlflow]", "~schedule", "seed=1", "seed=2"]
        >>> print(as_experiment(overrides), end="")
        defaults:
        - override /model: resnet34
        - override /logger:
          - csv
          - mlflow
        - override /schedule: null
        seed: 2
    """
    groups: dict[str, str | list[str] | None] = {}
    values = OmegaConf.create()
    for key, value in config.items():
        OmegaConf.update(values, key, value, force_add=True)
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.key_or_group
        if (CONF / key).is_dir():
            groups[key] = _choice(override.value())
        else:
            OmegaConf.update(values, key, override.value(), force_add=True)
    base = groups.pop("experiment", None)
    defaults: list[Any] = [base] if base else []
    defaults += [{f"override /{group}": choice} for group, choice in groups.items()]
    body = {"defaults": defaults} if defaults else {}
    return OmegaConf.to_yaml(OmegaConf.merge(body, values))


def _choice(value: Any) -> str | list[str] | None:
    if isinstance(value, list):
        return list(map(str, value))
    return None if value is None else str(value)


def _objective(search: Search) -> str:
    over, count = search.settings["objective"]["over"], search.settings["objective"]["count"]
    return "validation AUC" if over == "none" else f"mean validation AUC over {count} {over}"
