"""A study: several searches, whose best settings are trained on all images, tested once and compared."""

import json
from pathlib import Path
from typing import Any

from mammo.atomic_files import report_unwritable, write_atomically
from mammo.errors import ConfigError
from mammo.runs import RunFolder
from mammo.sweeping.search.search import Search
from mammo.sweeping.search.trials import best_of

PHASES = ("tune", "train", "test", "compare")


class Study:
    """A study that was begun.

    Each phase is a folder of searches: `tune/` holds the searches, `train/` and `test/` searches of
    one trial each.

    Args:
        folder: folder with `study.json`.
        phase: only phase to work on; None for all phases that are not finished.
    """

    def __init__(self, folder: Path, *, phase: str | None = None) -> None:
        self.folder = folder
        self.phases = PHASES[:3] if phase is None else (phase,)
        facts = json.loads((folder / "study.json").read_text())
        self.settings: dict[str, Any] = facts["settings"]  # the config's node `sweep`
        self.names: list[str] = facts["names"]
        self.overrides: list[str] = facts["overrides"]  # of train.py, given by the user
        self._opened: dict[Path, Search] = {}

    @classmethod
    def begin(
        cls,
        folder: Path,
        *,
        settings: dict[str, Any],
        names: list[str],
        overrides: list[str],
        phase: str | None,
    ) -> "Study":
        """Begin a study in the folder, or resume the study that was begun there.

        Args:
            folder: folder of the study, created where it is missing.
            settings: node `sweep` of the config.
            names: names of the searches.
            overrides: overrides of train.py for every trial; empty for those that the study was begun with.
            phase: only phase to work on; None for all phases that are not finished.

        Raises:
            ConfigError: another study was begun there, or the folder cannot be written.
        """
        file = folder / "study.json"
        facts = {"settings": settings, "names": names, "overrides": overrides}
        with report_unwritable("sweep_dir", folder):
            if file.exists():
                before = json.loads(file.read_text())
                for key in ("names", "overrides"):
                    if facts[key] and facts[key] != before[key]:
                        raise ConfigError(
                            f"{folder}: the study began with {key} {before[key]}, not {facts[key]}; "
                            "give another sweep_dir"
                        )
            else:
                folder.mkdir(parents=True, exist_ok=True)
                write_atomically(file, json.dumps(facts, indent=2) + "\n")
        return cls(folder, phase=phase)

    def searches(self) -> list[Search]:
        """List the searches that can be worked on; each begins when the phase before it is over."""
        searches = []
        for name in self.names:
            for phase in PHASES[:3]:
                search = self.search(phase, name)
                if search is None:
                    break
                if phase in self.phases:
                    searches.append(search)
                if not search.is_over():
                    break
        return searches

    def search(self, phase: str, name: str) -> Search | None:
        """Return the search of a phase; None where the phase before it has no result yet."""
        folder = self.folder / phase / name
        if folder not in self._opened:
            if not (folder / "search.json").exists() and not self._begin(phase, name):
                return None
            self._opened[folder] = Search(folder)
        return self._opened[folder]

    def _begin(self, phase: str, name: str) -> bool:
        """Begin the training or test of a network with the best settings of the phase before."""
        if phase == "tune" or phase not in self.phases:
            return False
        before = self.search(PHASES[PHASES.index(phase) - 1], name)
        best = best_of(before.read_trials()) if before is not None else None
        if before is None or best is None:
            return False
        overrides = [*before.overrides, *before.space.overrides(best.settings)]
        Search.begin(
            self.folder / phase / name,
            settings=before.settings | _ONE_TRIAL | {"name": f"{phase} {name}"},
            overrides=[*overrides, *self.settings["train"], "report=true"] if phase == "train" else overrides,
            max_epochs=before.max_epochs,
            evaluates=best.folder if phase == "test" else None,
        )
        return True

    def is_over(self) -> bool:
        """Return whether all phases are finished."""
        return all(search.is_over() for search in self.searches())

    def tested_runs(self) -> dict[str, RunFolder]:
        """Return the runs that were evaluated on the test images, by name of the search."""
        folders = {name: self.folder / "train" / name / "trials" / "0000" for name in self.names}
        runs = {name: RunFolder(folder) for name, folder in folders.items()}
        return {name: run for name, run in runs.items() if (run.evaluation / "test" / "report.html").exists()}


# Settings of a search of one trial, for the phases `train` and `test`.
_ONE_TRIAL: dict[str, Any] = {
    "space": {},
    "sampler": {"name": "random", "startup_trials": 0},
    "pruner": {"name": "none", "min_epochs": 1, "reduction_factor": 2, "startup_trials": 0},
    "budget": {"trials": 1, "hours": None},
    "objective": {"over": "none", "count": 1},
}
