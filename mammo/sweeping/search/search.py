"""A search: its settings, journal, trials, and the worker that owns each trial, in one folder."""

import datetime
import json
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from mammo.atomic_files import report_unwritable, write_atomically
from mammo.config.flattening import flatten
from mammo.errors import ConfigError
from mammo.runs import git_commit
from mammo.sweeping.search.optuna_journal import JournalFile, acquired
from mammo.sweeping.search.optuna_samplers import build_pruner, build_sampler, trials_of
from mammo.sweeping.search.search_space import Settings, Space
from mammo.sweeping.search.trials import State, Trial
from mammo.sweeping.search.worker_registry import Workers

_STATES: dict[TrialState, State] = {
    TrialState.RUNNING: "running",
    TrialState.WAITING: "running",
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
_CHANGEABLE = ("budget", "workers", "stale_seconds")
_MAX_TAKES = 4  # of a trial, by workers that end without a new checkpoint


class Search:
    """A search that was begun.

    Args:
        folder: folder with `search.json`.
    """

    def __init__(self, folder: Path) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.folder = folder
        self._file = folder / "search.json"
        facts = json.loads(self._file.read_text())
        self.settings: dict[str, Any] = facts["settings"]  # the config's node `sweep`
        self.overrides: list[str] = facts["overrides"]  # of train.py, in every trial
        self.commit: str | None = facts["commit"]
        self.begun = datetime.datetime.fromisoformat(facts["begun"])
        self.max_epochs: int = facts["max_epochs"]
        # run that is evaluated on its test images, instead of trainings
        self.evaluates = None if facts["evaluates"] is None else Path(facts["evaluates"])
        node = self.settings["space"]
        self.space = Space.from_config(node) if node else Space(domains={}, conditions={})
        self.searched = list(self.space.varied())  # keys and groups of train.py
        self._fixed: Settings = facts["fixed"]
        self.max_trials = self._trials_at_most()
        self.trials = folder / "trials"
        storage = JournalStorage(JournalFile(folder / "journal.log"))
        self.study = optuna.create_study(
            storage=storage, study_name="search", direction="maximize", load_if_exists=True
        )
        self.study.pruner = build_pruner(**self.settings["pruner"], max_epochs=self.max_epochs)
        self._lock = JournalFileOpenLock(str(folder / "ask"))

    @classmethod
    def begin(
        cls,
        folder: Path,
        *,
        settings: dict[str, Any],
        overrides: list[str],
        max_epochs: int,
        fixed: Settings | None = None,
        evaluates: Path | None = None,
    ) -> "Search":
        """Begin a search in the folder, or resume the search that was begun there.

        `budget`, `workers` and `stale_seconds` may change; all other settings must be the same.

        Args:
            folder: folder of the search, created where it is missing.
            settings: node `sweep` of the config.
            overrides: overrides of train.py for every trial; empty for those that the search was begun with.
            max_epochs: largest number of epochs of a training.
            fixed: values of the keys outside the space that conditions name, from `Space.fixed`.
            evaluates: folder of a run that is evaluated on its test images, instead of trainings.

        Raises:
            ConfigError: another search was begun there, or the folder cannot be written.
        """
        file = folder / "search.json"
        facts: dict[str, Any] = {"settings": settings, "overrides": overrides, "max_epochs": max_epochs}
        facts["fixed"] = fixed or {}
        facts["evaluates"] = None if evaluates is None else str(evaluates)
        with report_unwritable("sweep_dir", folder):
            if file.exists():
                before = json.loads(file.read_text())
                facts = before | {"settings": _merged(folder, before, facts)}
            else:
                folder.mkdir(parents=True, exist_ok=True)
                now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
                facts |= {"begun": now, "commit": git_commit()}
            write_atomically(file, json.dumps(facts, indent=2) + "\n")
            return cls(folder)

    @staticmethod
    def overrides_of(folder: Path) -> list[str]:
        """Return the overrides of train.py of the search in the folder; empty where none was begun."""
        file = folder / "search.json"
        return list(json.loads(file.read_text())["overrides"]) if file.exists() else []

    def take(self, workers: Workers, name: str) -> int | None:
        """Assign a trial to a worker: one whose owner has ended, or else a new one.

        Args:
            workers: registry of the search's workers.
            name: name of the worker that takes the trial, which has no other trial.

        Returns:
            Number of the trial, with its settings drawn; None where no trial is available now.
        """
        with acquired(self._lock):
            for trial in self._unfinished():
                orphaned = not self._has_live_owner(trial.number, workers, name)
                if orphaned and self._assign(trial.number, workers, name):
                    return trial.number
            count = len(self.study.get_trials(deepcopy=False))
            if not self._may_add_trial(count):
                return None
            self._set_sampler(count)
            number = self.study.ask().number
            self._assign(number, workers, name)
            return number

    def running(self, workers: Workers) -> int:
        """Count the trials that a live worker works on; others that have not ended wait for a worker."""
        numbers = [trial.number for trial in self._unfinished()]
        return sum(self._has_live_owner(number, workers) for number in numbers)

    def runs_of(self, number: int) -> list[tuple[str, list[str]]]:
        """List the runs of a trial: subfolder of the trial's folder, and overrides of train.py."""
        settings = self.study.get_trials(deepcopy=False)[number].user_attrs["settings"]
        # a report takes longer than some trainings, and only that of the best trial is needed
        overrides = ["report=false", *self.overrides, *self.space.overrides(settings)]
        objective = self.settings["objective"]
        if objective["over"] == "folds":
            parts = [(f"fold-{k}", ["data.split=kfold", f"data.fold={k}"]) for k in range(objective["count"])]
        elif objective["over"] == "seeds":
            parts = [(f"seed-{k}", [f"seed={k}"]) for k in range(objective["count"])]
        else:
            parts = [(".", [])]
        return [(part, [*overrides, *own]) for part, own in parts]

    def is_owner(self, number: int, name: str) -> bool:
        """Return whether the worker owns the trial; another does where this one counted as dead."""
        return bool(self._owner(number).get("worker") == name)

    def _has_live_owner(self, number: int, workers: Workers, asking: str | None = None) -> bool:
        """Return whether a worker other than the asking one works on the trial.

        A job that Slurm started again keeps its name. It may own a trial and work on another one.
        """
        owner = self._owner(number).get("worker")
        return owner not in (None, asking) and workers.works_on(owner, self.folder_of(number))

    def _unfinished(self) -> list[FrozenTrial]:
        trials = self.study.get_trials(deepcopy=False)
        return [trial for trial in trials if not trial.state.is_finished()]

    def _owner(self, number: int) -> dict[str, Any]:
        file = self.folder_of(number) / "owner.json"
        return dict(json.loads(file.read_text())) if file.exists() else {}

    def _assign(self, number: int, workers: Workers, name: str) -> bool:
        """Make the worker the trial's owner and draw its settings; False where too many workers failed."""
        folder = self.folder_of(number)
        folder.mkdir(parents=True, exist_ok=True)
        checkpoints = folder.glob("**/last.ckpt")
        progress = max((checkpoint.stat().st_mtime_ns for checkpoint in checkpoints), default=0)
        taken = [*self._owner(number).get("taken", []), progress]
        if len(taken) > _MAX_TAKES and len(set(taken[-_MAX_TAKES - 1 :])) == 1:
            error = f"{_MAX_TAKES} workers in a row ended while training it, without a new checkpoint"
            self.tell(number, "failed", error=error)
            return False
        workers.assign(name, folder)
        write_atomically(folder / "owner.json", json.dumps({"worker": name, "taken": taken}))
        trial = self.trial(number)
        if "settings" not in trial.user_attrs:
            self._set_sampler(number)
            trial.set_user_attr("settings", self.space.suggest(trial, self._fixed))
        return True

    def _trials_at_most(self) -> int | None:
        return trials_of(self.settings, space=self.space, fixed=self._fixed)

    def _read_budget(self) -> None:
        """Read the budget again: a command that resumes the search may have changed it."""
        budget = json.loads(self._file.read_text())["settings"]["budget"]
        if budget != self.settings["budget"]:
            self.settings["budget"] = budget
            self.max_trials = self._trials_at_most()

    def _may_add_trial(self, count: int) -> bool:
        self._read_budget()
        return self._trials_left(count) > 0 and self.seconds_left() > 0

    def tell(
        self, number: int, state: State, value: float | None = None, **facts: float | str | None
    ) -> None:
        """End a trial; a trial that has already ended stays as it is, so that none counts twice.

        Args:
            number: number of the trial, from 0.
            state: final state.
            value: objective of a finished trial.
            facts: `low`, `high`, `seconds` and `error`, as in `Trial`.
        """
        trial = self.trial(number)
        for key, fact in facts.items():
            if self._frozen(number).state.is_finished():
                return
            trial.set_user_attr(key, fact)
        ended = next(key for key, name in _STATES.items() if name == state and key.is_finished())
        self.study.tell(number, value, state=ended, skip_if_finished=True)

    def trial(self, number: int) -> optuna.Trial:
        """Return Optuna's trial, which takes reports and decides on pruning."""
        return optuna.Trial(self.study, self._frozen(number)._trial_id)

    def _set_sampler(self, number: int) -> None:
        self.study.sampler = build_sampler(
            **self.settings["sampler"],
            seed=self.settings["seed"],
            number=number,
            space=self.space,
            fixed=self._fixed,
        )

    def _frozen(self, number: int) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[number]

    def folder_of(self, number: int) -> Path:
        """Return the folder of a trial's run or runs."""
        return self.trials / f"{number:04d}"

    def seconds_left(self) -> float:
        """Return the rest of the budget in hours, in seconds; infinite where it has none."""
        hours = self.settings["budget"]["hours"]
        spent = datetime.datetime.now(datetime.UTC) - self.begun
        return float("inf") if hours is None else 3600 * hours - spent.total_seconds()

    def seconds_expected(self, running: int) -> float | None:
        """Estimate the seconds until the search is over from the ended trials; None where it is unknown.

        Args:
            running: number of trials that live workers work on.
        """
        trials = self.study.get_trials(deepcopy=False)
        durations = [t.duration.total_seconds() for t in trials if t.duration is not None]
        left = min(self._trials_left(len(trials)), 1e9) + len(self._unfinished())
        if not durations or not running or left >= 1e9:
            return None if self.seconds_left() == float("inf") else max(0.0, self.seconds_left())
        return min(left / running * sum(durations) / len(durations), self.seconds_left())

    def _trials_left(self, count: int) -> float:
        """Return the rest of the budget in trials after `count` trials; infinite where it has none."""
        return float("inf") if self.max_trials is None else self.max_trials - count

    def searches(self) -> list["Search"]:
        """Return a list of this search alone, as `Study.searches` returns several."""
        return [self]

    def is_over(self) -> bool:
        """Return whether every trial has ended and the budget is spent."""
        trials = self.study.get_trials(deepcopy=False)
        return all(t.state.is_finished() for t in trials) and not self._may_add_trial(len(trials))

    def read_trials(self) -> list[Trial]:
        """Read all trials from the journal."""
        return [self._as_trial(trial) for trial in self.study.get_trials(deepcopy=False)]

    def _as_trial(self, trial: FrozenTrial) -> Trial:
        attributes = trial.user_attrs
        curve = dict(sorted(trial.intermediate_values.items()))
        last = curve[max(curve)] if curve else None
        return Trial(
            number=trial.number,
            state=_STATES[trial.state],
            settings=attributes.get("settings", {}),
            folder=self.folder_of(trial.number),
            value=trial.value if trial.state == TrialState.COMPLETE else last,
            low=attributes.get("low"),
            high=attributes.get("high"),
            curve=curve,
            seconds=attributes.get("seconds"),
            error=attributes.get("error"),
        )


def _merged(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a resumed search.

    Raises:
        ConfigError: a setting that may not change differs.
    """
    for key in ("overrides", "max_epochs"):
        if now["overrides"] and now[key] != before[key]:
            raise ConfigError(
                f"{folder}: the search began with {key} {before[key]}, not {now[key]}; "
                "give another sweep_dir, or leave out all overrides of train.py to resume it"
            )
    flat_before, flat_now = flatten(before["settings"]), flatten(now["settings"])
    for key in sorted(flat_before.keys() | flat_now.keys()):
        old, new = flat_before.get(key, "absent"), flat_now.get(key, "absent")
        if old != new and key.partition(".")[0] not in _CHANGEABLE:
            raise ConfigError(
                f"{folder}: the search began with sweep.{key} {old}, now it is {new}; "
                "give another sweep_dir, or change it back"
            )
    return dict(now["settings"])
