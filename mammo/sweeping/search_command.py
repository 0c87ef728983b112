"""The command `sweep.py`: begin or resume a search or study, start workers and show the progress."""

import datetime
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from mammo.config.composition import compose_search, compose_train, use_config_dirs
from mammo.errors import ConfigError, MammoError
from mammo.sweeping.jobs.code_snapshot import freeze, say_if_edited
from mammo.sweeping.jobs.device_slots import slots
from mammo.sweeping.jobs.launchers import start_process
from mammo.sweeping.jobs.preparation import prepare_stores
from mammo.sweeping.jobs.slurm import refuse_impossible, require_slurm, submit
from mammo.sweeping.jobs.slurm_queue import SlurmQueue
from mammo.sweeping.search.optuna_samplers import check_search
from mammo.sweeping.search.search import Search
from mammo.sweeping.search.search_space import Space
from mammo.sweeping.search.trials import best_of
from mammo.sweeping.search.worker_registry import Workers
from mammo.sweeping.search_results import write_results
from mammo.sweeping.search_worker import SearchWorker
from mammo.sweeping.study import Study


def run_search(cfg: DictConfig, *, overrides: list[str], launcher: DictConfig) -> None:
    """Begin a search or study, or resume it.

    Args:
        cfg: config composed from `conf/sweep.yaml`.
        overrides: overrides of train.py for every trial.
        launcher: config node of the launcher that starts the workers.

    Raises:
        MammoError: a setting is wrong, and nothing is begun; or no worker is left.
    """
    settings: dict[str, Any] = OmegaConf.to_container(cfg.sweep, resolve=True, enum_to_str=True)  # type: ignore[assignment]
    folder = Path(cfg.sweep_dir).absolute()
    workers = Workers(folder / "workers", stale_seconds=settings["stale_seconds"])
    if cfg.stop:
        print(f"stop signal sent to {workers.stop()} workers")
        return
    if launcher._target_.endswith("SlurmLauncher"):
        require_slurm()
    use_config_dirs(HydraConfig.get())
    plan: Search | Study
    if "searches" in settings:
        plan = begin_study(folder, settings=settings, overrides=overrides, phase=cfg.phase)
    else:
        plan = begin_search(folder, settings=settings, overrides=overrides)
    missing = 0 if plan.is_over() else max(0, settings["workers"] - workers.count())
    if missing:
        start_workers(plan, workers, missing, launcher=launcher, phase=cfg.phase)
    print(f"{folder}: {missing} workers started, {workers.count()} running or queued", file=sys.stderr)
    if cfg.detach:
        print(
            f"{progress_text(plan)}\n"
            "the search continues in the background; the same command shows its progress"
        )
        return
    try:
        follow(plan, workers)
    except KeyboardInterrupt:
        raise MammoError(
            "the search continues without this command; give the command again to show the progress, or with "
            "stop=true to stop the workers"
        ) from None
    print(write_results(plan))


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
    train_overrides = begun_with if begun_with and not overrides else [*settings["overrides"], *overrides]
    training = compose_train(train_overrides)
    if training.trainer.devices * training.trainer.nodes > 1:
        raise ConfigError(
            f"trainer.devices={training.trainer.devices} trainer.nodes={training.trainer.nodes}: a worker "
            "of a search is one process; give trainer.devices=1 trainer.nodes=1"
        )
    space = Space.from_config(settings["space"])
    fixed = space.fixed(train_overrides)
    check_search(settings, space=space, fixed=fixed, training=training)
    trainings = space.check(train_overrides)
    search = Search.begin(
        folder,
        settings=settings,
        overrides=train_overrides,
        max_epochs=training.trainer.max_epochs,
        fixed=fixed,
    )
    freeze(plan_folder or folder)  # before the preparation, which may take long
    prepare_stores([training, *trainings])
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
    plan: Search | Study, workers: Workers, count: int, *, launcher: DictConfig, phase: str | None
) -> None:
    """Start workers that outlive this process and import the code that was copied when the search began.

    Args:
        plan: search or study.
        workers: registry of its workers.
        count: number of workers to start, fewer where this machine has fewer free slots.
        launcher: config node of the launcher.
        phase: only phase of a study to work on; None for all phases.
    """
    code = plan.folder / "code"
    say_if_edited(code)
    if launcher._target_.endswith("SlurmLauncher"):
        keys: dict[str, Any] = OmegaConf.to_container(launcher, resolve=True)  # type: ignore[assignment]
        functions = [SearchWorker(plan.folder, phase=phase) for _ in range(count)]
        queue = SlurmQueue(seconds=1)
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
        workers.add_started(process.pid, slot=number)


def follow(plan: Search | Study, workers: Workers) -> None:
    """Print the progress until the search is over.

    Args:
        plan: search or study.
        workers: registry of its workers.

    Raises:
        MammoError: no worker is left although the search is not over.
    """
    printed, no_worker_since = "", None
    while not plan.is_over():
        text = progress_text(plan)
        if text != printed:
            print(text, file=sys.stderr, flush=True)
            printed = text
        no_worker_since = None if workers.count() else no_worker_since or time.monotonic()
        if no_worker_since and time.monotonic() - no_worker_since > workers.stale_seconds:
            raise MammoError(
                f"no worker is left and the search is not over: see {workers.folder}, and give the command "
                "again to start new workers"
            )
        time.sleep(1)


def progress_text(plan: Search | Study) -> str:
    """Describe the progress in one line for each search that is not over."""
    unfinished = [search for search in plan.searches() if not search.is_over()]
    return "\n".join(_search_progress(search) for search in unfinished) or "nothing is left to do"


def _search_progress(search: Search) -> str:
    trials = search.read_trials()
    count = Counter(trial.state for trial in trials)
    parts = [f"{search.settings['name']}: {count['finished']} trials finished, {count['running']} running"]
    parts += [f"{count['pruned']} pruned, {count['failed']} failed"]
    if best := best_of(trials):
        parts.append(f"best {best.value:.3f} (trial {best.number})")
    if (left := search.seconds_expected()) is not None:
        parts.append(f"about {datetime.timedelta(seconds=round(left))} left")
    return ", ".join(parts)
