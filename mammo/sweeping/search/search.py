"""A search's folder: what is searched, its journal, its trials, and which worker has which of them."""

import datetime
import json
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from mammo.atomic_files import write_atomically
from mammo.config.flattening import flatten
from mammo.errors import ConfigError
from mammo.runs import git_commit
from mammo.sweeping.search.optuna_journal import Journal, held
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
_MAY_CHANGE = ("budget", "workers", "stale_seconds")
_MAX_TAKES = 4  # of a trial by workers that end without finishing an epoch of it


class Search:
    """A search that was begun.

    Args:
        folder: with `search.json`.
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
        # a run that is tested, in the place of trainings
        self.evaluates = None if facts["evaluates"] is None else Path(facts["evaluates"])
        node = self.settings["space"]
        self.space = Space.from_config(node) if node else Space(domains={}, conditions={})
        self._fixed: Settings = facts["fixed"]
        self._most = self._trials_at_most()
        self.trials = folder / "trials"
        storage = JournalStorage(Journal(folder / "journal.log"))
        self.study = optuna.create_study(
            storage=storage, study_name="search", direction="maximize", load_if_exists=True
        )
        self.study.pruner = build_pruner(**self.settings["pruner"], max_epochs=self.max_epochs)
        self._asking = JournalFileOpenLock(str(folder / "ask"))

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
        """Begins a search in the folder, or goes on with that which was begun there.

        Budget, number of workers and their patience may change; all else must be as it was.

        Args:
            folder: made where it is not.
            settings: the config's node `sweep`.
            overrides: of train.py, in every trial; empty for those that the search began with.
            max_epochs: of a trial.
            fixed: see `Space.fixed`.
            evaluates: folder of a run that is tested, in the place of trainings.

        Raises:
            ConfigError: another search was begun there, or the folder cannot be written.
        """
        file = folder / "search.json"
        facts: dict[str, Any] = {"settings": settings, "overrides": overrides, "max_epochs": max_epochs}
        facts["fixed"] = fixed or {}
        facts["evaluates"] = None if evaluates is None else str(evaluates)
        try:
            if file.exists():
                before = json.loads(file.read_text())
                facts = before | {"settings": _merged(folder, before, facts)}
            else:
                folder.mkdir(parents=True, exist_ok=True)
                now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
                facts |= {"begun": now, "commit": git_commit()}
            write_atomically(file, json.dumps(facts, indent=2) + "\n")
            return cls(folder)
        except OSError as error:
            raise ConfigError(f"sweep_dir={folder}: cannot be written: {error.strerror}") from error

    @staticmethod
    def overrides_of(folder: Path) -> list[str]:
        """Of the trainings of the search that was begun in the folder; empty where none was."""
        file = folder / "search.json"
        return list(json.loads(file.read_text())["overrides"]) if file.exists() else []

    def take(self, workers: Workers, name: str) -> int | None:
        """Gives a worker a trial to work on: one whose worker has ended, or else a new one.

        Args:
            workers: of the search.
            name: of the worker that asks, which has no trial now.

        Returns:
            The trial's number, whose settings are chosen; None where there is none to be had now.
        """
        with held(self._asking):
            trials = self.study.get_trials(deepcopy=False)
            for trial in trials:
                orphaned = trial.state == TrialState.RUNNING and not self._is_held(
                    trial.number, workers, name
                )
                if orphaned and self._give(trial.number, name):
                    return trial.number
            if not self._may_ask(len(trials)):
                return None
            self._draw_for(len(trials))
            number = self.study.ask().number
            self._give(number, name)
            return number

    def runs_of(self, number: int) -> list[tuple[str, list[str]]]:
        """Of a trial: the folder of each run in the trial's, and the run's overrides."""
        settings = self.study.get_trials(deepcopy=False)[number].user_attrs["settings"]
        # a report takes longer than some trainings, and only that of the best is read
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
        """Whether the trial is still this worker's, and was not given to another that took it for dead."""
        return bool(self._owner(number).get("worker") == name)

    def _is_held(self, number: int, workers: Workers, name: str) -> bool:
        owner = self._owner(number).get("worker")
        return owner not in (None, name) and workers.is_alive(owner)

    def _owner(self, number: int) -> dict[str, Any]:
        file = self.folder_of(number) / "owner.json"
        return dict(json.loads(file.read_text())) if file.exists() else {}

    def _give(self, number: int, name: str) -> bool:
        """Makes the trial the worker's, with settings; False where too many have ended over it."""
        folder = self.folder_of(number)
        folder.mkdir(parents=True, exist_ok=True)
        checkpoints = folder.glob("**/last.ckpt")
        progress = max((checkpoint.stat().st_mtime_ns for checkpoint in checkpoints), default=0)
        taken = [*self._owner(number).get("taken", []), progress]
        if len(taken) > _MAX_TAKES and len(set(taken[-_MAX_TAKES - 1 :])) == 1:
            error = (
                f"{_MAX_TAKES} workers ended over it one after the other, without a checkpoint between them"
            )
            self.tell(number, "failed", error=error)
            return False
        write_atomically(folder / "owner.json", json.dumps({"worker": name, "taken": taken}))
        trial = self.trial(number)
        if "settings" not in trial.user_attrs:
            trial.set_user_attr("settings", self.space.suggest(trial, self._fixed))
        return True

    def _trials_at_most(self) -> int | None:
        return trials_of(self.settings, space=self.space, fixed=self._fixed)

    def _read_budget(self) -> None:
        """It may have grown since, by a command that goes on with the search."""
        budget = json.loads(self._file.read_text())["settings"]["budget"]
        if budget != self.settings["budget"]:
            self.settings["budget"] = budget
            self._most = self._trials_at_most()

    def _may_ask(self, asked: int) -> bool:
        self._read_budget()
        return self._trials_left(asked) > 0 and self.seconds_left() > 0

    def tell(
        self, number: int, state: State, value: float | None = None, **facts: float | str | None
    ) -> None:
        """Ends a trial; one that has ended already stays as it is, so that none counts twice.

        Args:
            number: of the trial.
            state: it ends in.
            value: of the objective, for a finished one.
            facts: `low`, `high`, `seconds`, `error`.
        """
        trial = self.trial(number)
        for key, fact in facts.items():
            if self._frozen(number).state.is_finished():
                return
            trial.set_user_attr(key, fact)
        ended = next(key for key, name in _STATES.items() if name == state and key.is_finished())
        self.study.tell(number, value, state=ended, skip_if_finished=True)

    def trial(self, number: int) -> optuna.Trial:
        """To report to, and to ask whether to prune."""
        self._draw_for(number)
        return optuna.Trial(self.study, self._frozen(number)._trial_id)

    def _draw_for(self, number: int) -> None:
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
        """Of a trial's run or runs."""
        return self.trials / f"{number:04d}"

    def seconds_left(self) -> float:
        """Of the budget in hours."""
        hours = self.settings["budget"]["hours"]
        spent = datetime.datetime.now(datetime.UTC) - self.begun
        return float("inf") if hours is None else 3600 * hours - spent.total_seconds()

    def seconds_expected(self) -> float | None:
        """Until the search is over, by the trials that have ended; None where that cannot be told yet."""
        trials = self.study.get_trials(deepcopy=False)
        lasted = [t.duration.total_seconds() for t in trials if t.duration is not None]
        running = sum(t.state == TrialState.RUNNING for t in trials)
        left = min(self._trials_left(len(trials)), 1e9) + running
        if not lasted or not running or left >= 1e9:
            return None if self.seconds_left() == float("inf") else max(0.0, self.seconds_left())
        return min(left / running * sum(lasted) / len(lasted), self.seconds_left())

    def _trials_left(self, asked: int) -> float:
        """Of the budget in trials."""
        return float("inf") if self._most is None else self._most - asked

    def searches(self) -> list["Search"]:
        """Itself; those of a study are several."""
        return [self]

    def is_over(self) -> bool:
        """Whether every trial has ended, and no further one is to be asked for."""
        trials = self.study.get_trials(deepcopy=False)
        return all(t.state.is_finished() for t in trials) and not self._may_ask(len(trials))

    def read_trials(self) -> list[Trial]:
        """All trials, as the journal has them now."""
        return [self._told(trial) for trial in self.study.get_trials(deepcopy=False)]

    def _told(self, trial: FrozenTrial) -> Trial:
        told = trial.user_attrs
        curve = dict(sorted(trial.intermediate_values.items()))
        last = curve[max(curve)] if curve else None
        return Trial(
            number=trial.number,
            state=_STATES[trial.state],
            settings=told.get("settings", {}),
            folder=self.folder_of(trial.number),
            value=trial.value if trial.state == TrialState.COMPLETE else last,
            low=told.get("low"),
            high=told.get("high"),
            curve=curve,
            seconds=told.get("seconds"),
            error=told.get("error"),
        )


def _merged(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The settings a search goes on with."""
    for key in ("overrides", "max_epochs"):
        if now["overrides"] and now[key] != before[key]:
            raise ConfigError(
                f"{folder}: the search began with {key} {before[key]}, not {now[key]}; "
                "give another sweep_dir, or none of them to go on with it"
            )
    flat_before, flat_now = flatten(before["settings"]), flatten(now["settings"])
    for key in sorted(flat_before.keys() | flat_now.keys()):
        old, new = flat_before.get(key, "absent"), flat_now.get(key, "absent")
        if old != new and key.partition(".")[0] not in _MAY_CHANGE:
            raise ConfigError(
                f"{folder}: the search began with sweep.{key} {old}, now it is {new}; "
                "give another sweep_dir, or change it back"
            )
    return dict(now["settings"])
