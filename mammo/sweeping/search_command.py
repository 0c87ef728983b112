"""What `sweep.py` does: begins a search or study or goes on with it, starts workers, shows how it goes."""

import datetime
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mammo.config.composition import compose_search, compose_train
from mammo.errors import ConfigError, MammoError
from mammo.sweeping.jobs.code_snapshot import freeze
from mammo.sweeping.jobs.device_slots import slots
from mammo.sweeping.jobs.launchers import prepare_once, start
from mammo.sweeping.jobs.slurm import refuse_without_slurm, submit
from mammo.sweeping.search.optuna_samplers import check_search
from mammo.sweeping.search.search import Search
from mammo.sweeping.search.search_space import Space
from mammo.sweeping.search.trials import best_of
from mammo.sweeping.search.worker_registry import Workers
from mammo.sweeping.search_results import write_results
from mammo.sweeping.search_worker import SearchWorker
from mammo.sweeping.study import Study


def run_search(cfg: DictConfig, *, overrides: list[str], launcher: DictConfig) -> None:
    """Begins the search or study, or goes on with it.

    Args:
        cfg: composed from `conf/sweep.yaml`.
        overrides: of train.py, in every trial.
        launcher: of the workers.

    Raises:
        MammoError: a setting is wrong, in which case nothing is begun; or no worker is left.
    """
    settings: dict[str, Any] = OmegaConf.to_container(cfg.sweep, resolve=True, enum_to_str=True)  # type: ignore[assignment]
    folder = Path(cfg.sweep_dir).absolute()
    workers = Workers(folder / "workers", stale_seconds=settings["stale_seconds"])
    if cfg.stop:
        print(f"{workers.stop()} workers told to end")
        return
    if launcher._target_.endswith("SlurmLauncher"):
        refuse_without_slurm()
    plan: Search | Study
    if "searches" in settings:
        plan = begin_study(folder, settings=settings, overrides=overrides, phase=cfg.phase)
    else:
        plan = begin_search(folder, settings=settings, overrides=overrides)
    freeze(folder)
    lacking = 0 if plan.is_over() else max(0, settings["workers"] - workers.count())
    if lacking:
        start_workers(plan, workers, lacking, launcher=launcher, phase=cfg.phase)
    print(f"{folder}: {lacking} workers started, {workers.count()} there", file=sys.stderr)
    if cfg.detach:
        print(f"{state_told(plan)}\nthe search goes on by itself; the same command shows how it goes")
        return
    try:
        follow(plan, workers)
    except KeyboardInterrupt:
        raise MammoError(
            "the search goes on without this command, which shows it again when given again and ends its "
            "workers with stop=true"
        ) from None
    print(write_results(plan))


def begin_search(folder: Path, *, settings: dict[str, Any], overrides: list[str]) -> Search:
    """Checks a search, every key and choice of its space, and begins it or goes on with it.

    Raises:
        ConfigError: it is not well-formed, or another was begun in the folder.
    """
    before = Search.overrides_of(folder)
    of_training = before if before and not overrides else [*settings["overrides"], *overrides]
    training = compose_train(of_training)
    if training.trainer.devices * training.trainer.nodes > 1:
        raise ConfigError("trainer.devices: a worker of a search is one process; give trainer.devices=1")
    space = Space.from_config(settings["space"])
    fixed = space.fixed(of_training)
    check_search(settings, space=space, fixed=fixed, training=training)
    trainings = space.check(of_training)
    search = Search.begin(
        folder,
        settings=settings,
        overrides=of_training,
        max_epochs=training.trainer.max_epochs,
        fixed=fixed,
    )
    prepare_once([training, *trainings])
    return search


def begin_study(folder: Path, *, settings: dict[str, Any], overrides: list[str], phase: str | None) -> Study:
    """Checks the searches of a study, and begins it or goes on with it.

    Raises:
        ConfigError: one of them is not well-formed, or another study was begun in the folder.
    """
    searches = {name: compose_search(name) for name in settings["searches"]}
    study = Study.begin(folder, settings=settings, names=list(searches), overrides=overrides, phase=phase)
    for name, search in searches.items():
        search["stale_seconds"] = settings["stale_seconds"]
        if settings["trials"] is not None:
            search["budget"]["trials"] = settings["trials"]
        begin_search(folder / "tune" / name, settings=search, overrides=[*study.overrides, *settings["tune"]])
    if phase in ("train", "test") and not study.searches():
        before = {"train": "tune", "test": "train"}[phase]
        raise ConfigError(f"phase={phase}: nothing was found in the phase before; give phase={before} first")
    return study


def start_workers(
    plan: Search | Study, workers: Workers, count: int, *, launcher: DictConfig, phase: str | None
) -> None:
    """Starts workers that go on without this process, with the code that the search began with."""
    code = freeze(plan.folder)
    if launcher._target_.endswith("SlurmLauncher"):
        keys: dict[str, Any] = OmegaConf.to_container(launcher, resolve=True)  # type: ignore[assignment]
        functions = [SearchWorker(plan.folder, phase=phase) for _ in range(count)]
        for job in submit(functions, launcher=keys, folder=plan.folder / "workers", code=code):
            workers.submitted(job.job_id)
        return
    shares = slots(plan.settings["workers"])
    for number in workers.free_slots(len(shares))[:count]:
        log = plan.folder / "workers" / f"{number}.log"
        arguments = [str(plan.folder), str(number), *([phase] if phase else [])]
        process = start("mammo.sweeping.search_worker", arguments, slot=shares[number], log=log, code=code)
        workers.started(process.pid, slot=number)


def follow(plan: Search | Study, workers: Workers) -> None:
    """Shows how the search goes until it is over.

    Raises:
        MammoError: no worker is left, and trials are.
    """
    shown, alone_since = "", None
    while not plan.is_over():
        told = state_told(plan)
        if told != shown:
            print(told, file=sys.stderr, flush=True)
            shown = told
        alone_since = None if workers.count() else alone_since or time.monotonic()
        if alone_since and time.monotonic() - alone_since > workers.stale_seconds:
            raise MammoError(
                f"no worker is left and the search is not over: see {workers.folder}, and give the command "
                "again for new ones"
            )
        time.sleep(1)


def state_told(plan: Search | Study) -> str:
    """How far it is, in a line for each search that is not over."""
    unfinished = [search for search in plan.searches() if not search.is_over()]
    return "\n".join(_search_told(search) for search in unfinished) or "nothing is left to do"


def _search_told(search: Search) -> str:
    trials = search.read_trials()
    count = Counter(trial.state for trial in trials)
    parts = [f"{search.settings['name']}: {count['finished']} trials finished, {count['running']} running"]
    parts += [f"{count['pruned']} pruned, {count['failed']} failed"]
    if best := best_of(trials):
        parts.append(f"best {best.value:.3f} (trial {best.number})")
    if (left := search.seconds_expected()) is not None:
        parts.append(f"about {datetime.timedelta(seconds=round(left))} left")
    return ", ".join(parts)
