"""The command `sweep.py`: begin or resume a search or study, start workers and show the progress."""

import datetime
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mammo.config.calls.next_steps import call, ending, tensorboard, this_call
from mammo.config.composition import compose_search
from mammo.errors import ConfigError, MammoError
from mammo.sweeping.jobs.code_snapshot import copy_own_choices, freeze, say_if_edited
from mammo.sweeping.jobs.device_slots import slots
from mammo.sweeping.jobs.launchers import start_process
from mammo.sweeping.jobs.preparation import prepare_stores, require_parts
from mammo.sweeping.jobs.slurm import refuse_impossible, require_slurm, submit
from mammo.sweeping.jobs.slurm_queue import SlurmQueue
from mammo.sweeping.search.optuna_samplers import check_search
from mammo.sweeping.search.search import Search
from mammo.sweeping.search.search_space import Space
from mammo.sweeping.search.trials import best_of, failures_text
from mammo.sweeping.search.worker_registry import Workers
from mammo.sweeping.search_launcher import SearchLauncher
from mammo.sweeping.search_results import require_finished_trial, write_results
from mammo.sweeping.search_settings import SearchSettings
from mammo.sweeping.search_worker import SearchWorker
from mammo.sweeping.study import Study


def run_search(
    cfg: DictConfig,
    *,
    settings: list[str],
    overrides: list[str],
    launcher: list[str],
    config_dirs: Sequence[Path] = (),
) -> None:
    """Begin a search or study, resume it, show its state or stop its workers.

    Ctrl-C stops the workers that this command started on this machine: their trials resume later. The
    workers of a detached command, those in Slurm, and all workers after the loss of the terminal continue.

    Args:
        cfg: config composed from `conf/sweep.yaml`.
        settings: overrides of `sweep` and its keys, which add to those that the search was begun with.
        overrides: overrides of train.py for every trial.
        launcher: overrides of the launcher that starts the workers.
        config_dirs: config folders of the user besides `conf`.

    Raises:
        MammoError: a setting is wrong, and nothing is begun; or no worker is left, or no trial was finished.
    """
    folder = Path(cfg.sweep_dir).absolute()
    search_settings = SearchSettings(folder, settings)
    sweep = search_settings.values
    workers = Workers(folder / "workers", stale_seconds=sweep["stale_seconds"])
    starter = SearchLauncher(folder, launcher, config_dirs=config_dirs)
    if cfg.stop or cfg.status:
        searches = begun_searches(folder)
        if cfg.stop:
            workers.mark_stopped()
            print(f"stop signal sent to {workers.stop()} workers")
            again = this_call(without=["stop", "status"])
            print(ending({"search": folder}, again, call("runs", folder=folder)))
        if cfg.status:
            print(status_text(searches, workers, launcher=starter))
            print(ending({"search": folder}, call("runs", folder=folder), tensorboard(folder)))
        return
    if starter.is_slurm():
        require_slurm()
    plan: Search | Study
    if "searches" in sweep:
        plan = begin_study(folder, settings=sweep, overrides=overrides, phase=cfg.phase)
    else:
        plan = begin_search(folder, settings=sweep, overrides=overrides)
    if change := starter.change():
        print(change, file=sys.stderr)
    starter.record()
    search_settings.record()
    workers.mark_stopped(False)
    missing = 0 if plan.is_over() else max(0, sweep["workers"] - workers.count())
    started: list[str] = []  # on this machine
    try:
        if missing:
            start_workers(plan, workers, missing, launcher=starter, phase=cfg.phase, started=started)
        print(f"{folder}: {missing} workers started, {workers.count()} running or queued", file=sys.stderr)
        if cfg.detach and not plan.is_over():
            print(f"{progress_text(plan, workers)}\nthe search continues in the background")
            calls = (this_call({key: True}, without=["detach"]) for key in ("status", "stop"))
            print(ending({"search": folder}, *calls))
            return
        if not follow(plan, workers):
            print(
                f"{progress_text(plan, workers)}\nstopped with stop=true; the same command resumes the search"
            )
            print(ending({"search": folder}, this_call(), call("runs", folder=folder)))
            return
    except KeyboardInterrupt:
        stopped = workers.stop(started) if started else 0
        raise KeyboardInterrupt(interruption_text(stopped, left=workers.count())) from None
    print(write_results(plan))
    require_finished_trial(plan)


def begin_search(
    folder: Path, *, settings: dict[str, Any], overrides: list[str], plan_folder: Path | None = None
) -> Search:
    """Check a search with every key and choice of its space, and begin or resume it.

    Args:
        folder: folder of the search.
        settings: node `sweep` of the config.
        overrides: overrides of train.py for every trial; empty for those that the search was begun with.
        plan_folder: folder of the study that the search belongs to, which contains the copy of the code; None
            for a search by itself.

    Raises:
        ConfigError: a setting is wrong, or another search was begun in the folder.
    """
    begun_with = Search.overrides_of(folder)
    for key in ("run_dir", "resume"):
        for override in overrides:
            if override.lstrip("+").startswith(f"{key}="):
                raise ConfigError(
                    f"{override}: is for a single run; give sweep_dir=PATH, the folder of the search"
                )
    train_overrides = begun_with if begun_with and not overrides else [*settings["overrides"], *overrides]
    space = Space.from_config(settings["space"])
    fixed = space.fixed(train_overrides)
    trainings = space.check(train_overrides)
    training = max(trainings, key=lambda cfg: cfg.trainer.max_epochs)
    for each in (cfg.trainer for cfg in trainings):
        if each.devices * each.num_nodes > 1:
            raise ConfigError(
                f"trainer.devices={each.devices} trainer.num_nodes={each.num_nodes}: a worker of a search is "
                "one process; give trainer.devices=1 trainer.num_nodes=1"
            )
    check_search(settings, space=space, fixed=fixed, training=training)
    require_parts(trainings)
    search = Search.begin(
        folder,
        settings=settings,
        overrides=train_overrides,
        max_epochs=training.trainer.max_epochs,
        fixed=fixed,
    )
    for place in {folder, plan_folder or folder}:
        copy_own_choices(place)
    freeze(plan_folder or folder)  # before the preparation, which may take long
    prepare_stores(trainings)
    return search


def begin_study(folder: Path, *, settings: dict[str, Any], overrides: list[str], phase: str | None) -> Study:
    """Check the searches of a study, and begin or resume it.

    Args:
        folder: folder of the study.
        settings: node `sweep` of the config.
        overrides: overrides of train.py for every trial.
        phase: only phase to work on; None for all phases.

    Raises:
        ConfigError: a setting of a search is wrong, or another study was begun in the folder.
    """
    searches = {name: compose_search(name) for name in settings["searches"]}
    study = Study.begin(folder, settings=settings, names=list(searches), overrides=overrides, phase=phase)
    for name, search in searches.items():
        search["stale_seconds"] = settings["stale_seconds"]
        if settings["trials"] is not None:
            search["budget"]["trials"] = settings["trials"]
        begin_search(
            folder / "tune" / name,
            settings=search,
            overrides=[*study.overrides, *settings["tune"]],
            plan_folder=folder,
        )
    if phase in ("train", "test") and not study.searches():
        before = {"train": "tune", "test": "train"}[phase]
        raise ConfigError(f"phase={phase}: phase {before} has no finished trial; give phase={before} first")
    return study


def start_workers(
    plan: Search | Study,
    workers: Workers,
    count: int,
    *,
    launcher: SearchLauncher,
    phase: str | None,
    started: list[str],
) -> None:
    """Start workers that outlive this process and import the code that was copied when the search began.

    Args:
        plan: search or study.
        workers: registry of its workers.
        count: number of workers to start, fewer where this machine has fewer free slots.
        launcher: launcher of the search.
        phase: only phase of a study to work on; None for all phases.
        started: list to which the name of each worker on this machine is added when it is started.
    """
    code = plan.folder / "code"
    say_if_edited(code)
    if launcher.is_slurm():
        functions = [SearchWorker(plan.folder, phase=phase) for _ in range(count)]
        keys, queue = launcher.keys, SlurmQueue(seconds=1)
        jobs = submit(functions, launcher=keys, folder=plan.folder / "workers", code=code, queue=queue)
        for job in jobs:
            workers.add_submitted(job.job_id)
        refuse_impossible(jobs, launcher=keys, queue=queue)
        return
    shares = slots(plan.settings["workers"])
    for number in workers.free_slots(len(shares))[:count]:
        log = plan.folder / "workers" / f"{number}.log"
        arguments = [str(plan.folder), str(number), *([phase] if phase else [])]
        process = start_process(
            "mammo.sweeping.search_worker", arguments, slot=shares[number], log=log, code=code
        )
        started.append(workers.add_started(process.pid, slot=number))


def follow(plan: Search | Study, workers: Workers) -> bool:
    """Print the progress until the search is over, or until its workers were stopped with `stop=true`.

    Args:
        plan: search or study.
        workers: registry of its workers.

    Returns:
        Whether the search is over.

    Raises:
        MammoError: no worker is left although the search is not over.
    """
    printed, no_worker_since = "", None
    while not plan.is_over():
        text = progress_text(plan, workers)
        if text != printed:
            print(text, file=sys.stderr, flush=True)
            printed = text
        if workers.are_stopped() and not workers.count():
            return False
        no_worker_since = None if workers.count() else no_worker_since or time.monotonic()
        if no_worker_since and time.monotonic() - no_worker_since > workers.stale_seconds:
            raise MammoError(
                f"no worker is left and the search is not over: see {workers.folder}, and give the command "
                "again to start new workers"
            )
        time.sleep(1)
    return True


def interruption_text(stopped: int, *, left: int) -> str:
    """Describe the state of a search after Ctrl-C, and how to go on.

    Args:
        stopped: number of workers that were stopped.
        left: number of workers that continue.
    """
    if not left:
        return f"interrupted, {stopped} workers stopped; to resume the search: {this_call()}"
    if stopped:
        stop = this_call({"stop": True})
        return f"interrupted, {stopped} workers stopped, {left} continue; to stop them: {stop}"
    status = this_call({"status": True})
    return f"the search continues without this command, with {left} workers; to see its state: {status}"


def progress_text(plan: Search | Study, workers: Workers) -> str:
    """Describe the progress in one line for each search that is not over."""
    unfinished = [search for search in plan.searches() if not search.is_over()]
    return "\n".join(_search_progress(search, workers) for search in unfinished) or "nothing is left to do"


def status_text(searches: list[Search], workers: Workers, *, launcher: SearchLauncher) -> str:
    """Describe the state of all searches that were begun, of the workers, and the place of their logs."""
    alive = workers.alive()
    return "\n".join(
        [
            *(_search_progress(search, workers) for search in searches),
            f"{len(alive)} workers running or queued{': ' if alive else ''}{', '.join(alive)}",
            f"launcher {launcher}",
            f"logs     {workers.folder}",
        ]
    )


def begun_searches(folder: Path) -> list[Search]:
    """Return the searches that were begun in the folder of a search or study.

    Raises:
        ConfigError: there is none.
    """
    files = [*folder.glob("search.json"), *sorted(folder.glob("*/*/search.json"))]
    if not files:
        raise ConfigError(f"sweep_dir={folder}: no search was begun here; leave out status and stop")
    return [Search(file.parent) for file in files]


def _search_progress(search: Search, workers: Workers) -> str:
    trials = search.read_trials()
    count = Counter(trial.state for trial in trials)
    running = search.running(workers)
    of = "" if search.max_trials is None else f"of {search.max_trials} "
    parts = [f"{search.settings['name']}: {count['finished']} {of}trials finished, {running} running"]
    if waiting := count["running"] - running:
        parts.append(f"{waiting} waiting for a worker")
    parts += [f"{count['pruned']} pruned", failures_text(trials)]
    if best := best_of(trials):
        parts.append(f"best {best.value:.3f} (trial {best.number})")
    if (left := search.seconds_expected(running)) is not None:
        parts.append(f"about {datetime.timedelta(seconds=round(left))} left")
    return ", ".join(parts)
