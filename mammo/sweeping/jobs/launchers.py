"""Hydra launchers of `python train.py -m ...`: in parallel on this machine, or on a Slurm cluster."""

import os
import subprocess
import sys
import time
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from mammo.config.checks import arguments_for
from mammo.config.composition import compose_train, use_config_dirs
from mammo.errors import ConfigError, MammoError
from mammo.sweeping.jobs.code_snapshot import freeze, import_path
from mammo.sweeping.jobs.device_slots import Slot, slots
from mammo.sweeping.jobs.multirun import Job, Multirun
from mammo.sweeping.jobs.slurm import failure_reason, has_ended, require_slurm, submit

_PLUGIN_MODULE = "hydra_plugins.mammo"


def register() -> None:
    """Register the launchers with Hydra, under the names used in `conf/hydra/launcher`.

    Hydra accepts plugins only from a module of `hydra_plugins`, so this module gets such a name too.
    """
    sys.modules[_PLUGIN_MODULE] = sys.modules[__name__]
    for launcher in (LocalLauncher, SlurmLauncher):
        Plugins.instance().register(launcher)


class _Launcher(Launcher):
    """Check every job, prepare the data once, copy code and config, and run the jobs."""

    __module__ = _PLUGIN_MODULE

    def __init__(self, **params: Any) -> None:
        plain = {key: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for key, v in params.items()}
        self.params: dict[str, Any] = plain

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config = config
        self.loader = hydra_context.config_loader

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs and wait for their end.

        Args:
            job_overrides: overrides of each job.
            initial_job_idx: number of the first job.

        Raises:
            MammoError: the config of a job is wrong, and no job is begun; or a job failed, after all ended.
        """
        self.check_available()
        folder = Path(self.config.hydra.sweep.dir)
        jobs = [
            Job(
                number,
                list(filter_overrides(overrides)),
                str((folder / self._subdir(overrides, number)).absolute()),
            )
            for number, overrides in enumerate(job_overrides, start=initial_job_idx)
        ]
        use_config_dirs(self.config.hydra)
        configs = [compose_train(job.overrides) for job in jobs]
        for cfg in configs:
            _check_run_keys(cfg)
        prepare_stores(configs)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            multirun = Multirun.begin(folder, jobs)
        except OSError as error:
            raise ConfigError(f"hydra.sweep.dir={folder}: cannot be written: {error.strerror}") from error
        code = freeze(folder)
        unfinished = [job for job in jobs if not job.is_finished()]
        print(f"{len(unfinished)} of {len(jobs)} jobs to run, in {folder}", file=sys.stderr)
        reasons = self.run(multirun, unfinished, code) if unfinished else {}
        summary = multirun.write_summary(reasons)
        columns = ["job", "status", "auc", "low", "high", "settings", "error"]
        print(summary[columns].to_string(index=False, na_rep="", float_format="%.3f", max_colwidth=60))
        print(f"summary {folder / 'summary.csv'}")
        if failed := sum(summary["status"] == "failed"):
            raise MammoError(
                f"{failed} of {len(jobs)} jobs failed, see {folder / 'summary.csv'}; give the command again "
                f"with hydra.sweep.dir={folder} to run only the unfinished jobs"
            )
        return [_job_return(job, overrides) for job, overrides in zip(jobs, job_overrides, strict=True)]

    def _subdir(self, overrides: Sequence[str], number: int) -> str:
        cfg = self.loader.load_sweep_config(self.config, list(overrides))
        with open_dict(cfg):
            cfg.hydra.job.num = number
        return str(cfg.hydra.sweep.subdir)

    def check_available(self) -> None:
        """Raise a ConfigError where no job can be run, before the data are prepared."""

    @abstractmethod
    def run(self, multirun: Multirun, jobs: list[Job], code: Path) -> dict[int, str]:
        """Run the jobs.

        Args:
            multirun: multirun of the jobs.
            jobs: unfinished jobs.
            code: folder with the copy of the code.

        Returns:
            Number of each job whose process ended without a result, with the reason.
        """


class LocalLauncher(_Launcher):
    """Run `n` jobs in parallel, each with its share of the cores and its own GPU."""

    __module__ = _PLUGIN_MODULE

    def run(self, multirun: Multirun, jobs: list[Job], code: Path) -> dict[int, str]:
        free = slots(self.params["n"], gpus_each=self.config.trainer.devices)
        waiting, reasons = list(jobs), {}
        running: list[tuple[Job, Slot, subprocess.Popen[bytes]]] = []
        while waiting or running:
            while waiting and free:
                job, slot = waiting.pop(0), free.pop(0)
                log = multirun.folder / "jobs" / f"{job.number}.log"
                arguments = [str(multirun.folder.absolute()), str(job.number)]
                process = start_process(
                    "mammo.sweeping.jobs.training_job", arguments, slot=slot, log=log, code=code
                )
                running.append((job, slot, process))
            time.sleep(0.1)
            for ended in [entry for entry in running if entry[2].poll() is not None]:
                job, slot, process = ended
                running.remove(ended)
                free.append(slot)
                if process.returncode:
                    log = multirun.folder / "jobs" / f"{job.number}.log"
                    reasons[job.number] = f"its process ended with code {process.returncode}, see {log}"
                print_outcome(multirun, job, reasons.get(job.number))
        return reasons


class SlurmLauncher(_Launcher):
    """Submit the jobs to Slurm's queue and wait for them."""

    __module__ = _PLUGIN_MODULE

    def check_available(self) -> None:
        require_slurm()

    def run(self, multirun: Multirun, jobs: list[Job], code: Path) -> dict[int, str]:
        from mammo.sweeping.jobs.training_job import TrainingJob

        functions = [TrainingJob(multirun.folder.absolute(), job.number) for job in jobs]
        folder = multirun.folder.absolute() / "jobs"
        submitted = submit(functions, launcher=self.params, folder=folder, code=code)
        print(f"Slurm jobs {', '.join(job.job_id for job in submitted)}", file=sys.stderr)
        running, reasons = list(zip(jobs, submitted, strict=True)), {}
        try:
            while running:
                time.sleep(1)
                for job, slurm_job in [entry for entry in running if has_ended(entry[1])]:
                    running.remove((job, slurm_job))
                    if reason := failure_reason(slurm_job):
                        reasons[job.number] = reason
                    print_outcome(multirun, job, reasons.get(job.number))
        except KeyboardInterrupt:
            ids = " ".join(slurm_job.job_id for _, slurm_job in running)
            raise MammoError(f"the jobs continue in Slurm; to cancel them: scancel {ids}") from None
        return reasons


def start_process(
    module: str, arguments: list[str], *, slot: Slot, log: Path, code: Path
) -> "subprocess.Popen[bytes]":
    """Start a process that outlives this one and its terminal, and imports the copy of the code.

    Args:
        module: dotted name of the module to run with `python -m`.
        arguments: command line arguments of the module.
        slot: cores and GPUs of the process.
        log: file to which standard output and standard error are appended.
        code: folder with the copy of the code, from `freeze`.
    """
    path = os.pathsep.join(filter(None, [import_path(code), os.environ.get("PYTHONPATH")]))
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=os.environ | slot.environment() | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def prepare_stores(configs: Sequence[DictConfig]) -> None:
    """Prepare the image stores that the configs need, each once."""
    from mammo.data.sources.reader import read_catalog
    from mammo.data.store.store import prepare

    done: list[dict[str, Any]] = []
    for cfg in configs:
        source, settings = arguments_for(read_catalog, cfg.data), arguments_for(prepare, cfg.data)
        if (needed := source | settings) not in done:
            done.append(needed)
            prepare(read_catalog(**source), **settings)


def print_outcome(multirun: Multirun, job: Job, reason: str | None) -> None:
    """Print the outcome of an ended job to standard error."""
    outcome = multirun.outcome(job, reason)
    result = f"failed: {outcome['error']}" if outcome["error"] else f"validation AUC {outcome['auc']}"
    print(f"job {job.number} ({multirun.settings_of(job)}): {result}", file=sys.stderr)


def _check_run_keys(cfg: DictConfig) -> None:
    for key in ("run_dir", "resume"):
        if cfg[key]:
            raise ConfigError(f"{key}={cfg[key]}: is for a single run; give hydra.sweep.dir=... with -m")


def _job_return(job: Job, overrides: Sequence[str]) -> JobReturn:
    returned = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
    returned.return_value = job.number
    return returned
