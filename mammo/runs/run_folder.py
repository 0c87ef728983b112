"""The run folder: the settings, the progress and the results of a training."""

import contextlib
import datetime
import importlib.metadata
import itertools
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml

from mammo.atomic_files import report_unwritable, write_atomically
from mammo.errors import ConfigError
from mammo.runs.code_version import file_digest, imported_code
from mammo.runs.older_configs import in_current_form
from mammo.runs.run_lock import RunLock

Status = Literal["running", "finished", "failed", "interrupted", "pruned"]

_PACKAGES = ("mammo", "torch", "torchvision", "pytorch-lightning", "timm", "torchmetrics", "pydicom", "numpy")


# libyaml's is ten times faster; some builds of PyYAML lack it
_SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@contextlib.contextmanager
def dated_folder(name: str, *, parent: Path = Path("runs")) -> Iterator[Path]:
    """Make a new folder `<parent>/<date>-<time>-<name>`, in local time; if it stays empty, it is removed.

    In a Slurm job the name ends with the job's id, of an array with `<id of the array>_<task>`. If the name
    exists, it gets a number from 2. Two processes never get the same folder, also on a network file system.
    An empty `parent` is removed too. In a distributed training only the first process makes a folder.

    Args:
        name: last part of the folder's name.
        parent: folder that contains it, made if needed.

    Raises:
        ConfigError: the folder cannot be made.
    """
    safe = name.replace("/", "-")  # such as that of a network of another hub
    path = parent / f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{safe}{slurm_suffix()}"
    if not _is_first_process():
        yield path
        return
    try:
        parent.mkdir(parents=True, exist_ok=True)
        first = path
        for number in itertools.count(2):
            try:
                path.mkdir()
                break
            except FileNotFoundError:  # another process has just removed the empty parent
                parent.mkdir(parents=True, exist_ok=True)
            except FileExistsError:
                path = first.with_name(f"{first.name}-{number}")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):  # not empty
            path.rmdir()
            parent.rmdir()


def slurm_suffix() -> str:
    """Return `-<job>`, or `-<array>_<task>`, in a Slurm job; an empty string elsewhere."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{part}_ID") for part in ("JOB", "TASK"))
    job = os.environ.get("SLURM_JOB_ID") if array is None else f"{array}_{task}"
    return "" if job is None else f"-{job}"


def _is_first_process() -> bool:
    """Return whether this is the only process, or the first of a distributed training."""
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        return os.environ.get("SLURM_PROCID") == "0"
    ranks = ("NODE_RANK", "GROUP_RANK", "LOCAL_RANK")
    return all(os.environ.get(rank, "0") == "0" for rank in ranks)


class RunFolder:
    """The folder of a run, with `config.yaml`, `run.json` and the files of the training.

    Args:
        path: existing folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.tensorboard = path / "tensorboard"
        self.figures = path / "figures"
        self.metrics = path / "metrics.csv"
        self.evaluation = path / "evaluation"

    @classmethod
    def create(
        cls, path: Path, *, config: dict[str, Any], overrides: list[str], lock: RunLock | None = None
    ) -> "RunFolder":
        """Makes the folder and writes the resolved config and the start of `run.json`.

        Args:
            path: folder of the run.
            config: resolved config.
            overrides: overrides of the command line.
            lock: lock of the folder, acquired before the first file is written; None for no lock.

        Raises:
            ConfigError: the folder already contains a run, or cannot be written.
        """
        run = cls(path)
        run.refuse_second()
        with report_unwritable("run_dir", path):
            path.mkdir(parents=True, exist_ok=True)
            if lock is not None:
                lock.acquire()
                run.refuse_second()  # another process may have been faster
            run.write_config(config)
        run.record(
            status="running",
            seed=config["seed"],
            overrides=overrides,
            started=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            host=platform.node(),
            versions={package: importlib.metadata.version(package) for package in _PACKAGES},
        )
        run.record_code()
        return run

    def refuse_second(self) -> None:
        """Refuse a new run where the folder has one; later processes of a distributed training do not check.

        Raises:
            ConfigError: the folder already contains a run.
        """
        if _is_first_process() and self.facts():
            raise ConfigError(
                f"run_dir={self.path}: holds a run already; give another folder, or remove it, or add "
                "resume=auto to continue it"
            )

    @classmethod
    def find(cls, name: str, *, key: str = "resume", parent: Path = Path("runs")) -> "RunFolder":
        """Returns the run in the folder `name`; for `latest`, the one below `parent` that was started last.

        A run of `trainer.fast_dev_run` and a trial of a search are never the latest.

        Args:
            name: the folder, or `latest`.
            key: key of the configuration, for messages.
            parent: folder of the runs.

        Raises:
            ConfigError: there is no such run.
        """
        if name != "latest":
            run = cls(Path(name))
            if not run.facts():
                raise ConfigError(f"{key}={name}: holds no run; give a folder with a run.json, or latest")
            return run
        newest_first = sorted(find_runs(parent), key=lambda run: str(run.facts()["started"]), reverse=True)
        for run in newest_first:
            is_trial = (Path(run.facts().get("part_of") or "/") / "search.json").exists()
            if not is_trial and not run.config().get("trainer", {}).get("fast_dev_run"):
                return run
        raise ConfigError(f"{key}=latest: there is no run in {parent.absolute()}; give its folder")

    def config(self) -> dict[str, Any]:
        """Returns the content of `config.yaml`, that of an earlier version in the form of today's."""
        config = dict(yaml.load((self.path / "config.yaml").read_text(), Loader=_SAFE_LOADER))
        return in_current_form(config)

    def write_config(self, config: dict[str, Any]) -> None:
        """Writes `config.yaml` atomically."""
        write_atomically(self.path / "config.yaml", yaml.safe_dump(config, sort_keys=False))

    def facts(self) -> dict[str, Any]:
        """Returns the content of `run.json`; empty before the file is written."""
        file = self.path / "run.json"
        return dict(json.loads(file.read_text())) if file.exists() else {}

    def record(self, **facts: Any) -> None:
        """Adds facts to `run.json` atomically."""
        write_atomically(self.path / "run.json", json.dumps(self.facts() | facts, indent=2) + "\n")

    def record_code(self) -> None:
        """Adds to `run.json` the digest of `config.yaml` and the version of the code of this process.

        `commit` is that of the code with which the run began; `code` has a further entry for each other
        version with which it was resumed.
        """
        facts, code = self.facts(), imported_code()
        versions = facts.get("code", [])
        if versions[-1:] != [code]:
            versions = [*versions, code]
        self.record(
            commit=facts.get("commit", code["commit"]),
            code=versions,
            config_sha256=file_digest(self.path / "config.yaml"),
        )

    def has_test_images(self) -> bool:
        """Returns whether the split of the run has test images."""
        names = self.path / "split" / "test.txt"
        return names.exists() and names.stat().st_size > 0

    @property
    def score(self) -> float | None:
        """Validation AUC of the best epoch; None where it is undefined."""
        value = self.facts()["score"]["value"]
        return None if value is None else float(value)

    def summary(self) -> str:
        """Returns the score with its interval as a sentence."""
        score = self.facts()["score"]
        if score["value"] is None:
            return "validation AUC undefined: the validation images are of one class"
        if score["low"] is None:
            return f"validation AUC {score['value']:.3f} (no interval: too few patients, or an AUC of 0 or 1)"
        return (
            f"validation AUC {score['value']:.3f}"
            f", 95 % interval {score['low']:.3f} to {score['high']:.3f}"
            f", standard error {score['standard_error']:.3f} (by patient, at the best epoch)"
        )


def find_runs(folder: Path) -> list[RunFolder]:
    """Returns the runs in a folder and below it, such as those of a multirun or search, in order of path.

    Links to folders are followed.
    """
    found, seen = [], set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen or "run.json" in files:
            folders.clear()
        if real not in seen and "run.json" in files:
            found.append(RunFolder(Path(place)))
        seen.add(real)
        # neither the copy of the code of a multirun or search, nor hidden folders
        begun = not _SEVERAL.isdisjoint(files)
        folders[:] = sorted(name for name in folders if name[0] != "." and not (begun and name == "code"))
    return found


_SEVERAL = {"multirun.json", "search.json", "study.json"}  # of a folder that holds several runs
