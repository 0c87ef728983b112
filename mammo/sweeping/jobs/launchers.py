"""What runs the jobs of `python train.py -m ...`: side by side on this machine, or on a Slurm cluster."""

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

from mammo.config.checks import CONF, arguments_for
from mammo.config.composition import compose_train
from mammo.errors import ConfigError, MammoError
from mammo.sweeping.jobs.code_snapshot import freeze
from mammo.sweeping.jobs.device_slots import Slot, slots
from mammo.sweeping.jobs.multirun import Job, Multirun
from mammo.sweeping.jobs.slurm import has_ended, refuse_without_slurm, submit, why_ended

_PLUGIN_MODULE = "hydra_plugins.mammo"


def register() -> None:
    """Makes the launchers known to Hydra, under the names that `conf/hydra/launcher` gives.

    Hydra takes plugins from a module of `hydra_plugins` alone, so this one goes by such a name too.
    """
    sys.modules[_PLUGIN_MODULE] = sys.modules[__name__]
    for launcher in (LocalLauncher, SlurmLauncher):
        Plugins.instance().register(launcher)


class _Launcher(Launcher):
    """Checks every job, prepares the data once, freezes code and config, and runs the jobs."""

    __module__ = _PLUGIN_MODULE

    def __init__(self, **params: Any) -> None:
        plain = {key: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for key, v in params.items()}
        self.params: dict[str, Any] = plain

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config = config
        self.loader = hydra_context.config_loader

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs the jobs to their end.

        Raises:
            MammoError: a job is wrong, in which case none is begun, or failed, when all have ended.
        """
        self.refuse_early()
        folder = Path(self.config.hydra.sweep.dir)
        jobs = [
            Job(
                number,
                list(filter_overrides(overrides)),
                str((folder / self._subdir(overrides, number)).absolute()),
            )
            for number, overrides in enumerate(job_overrides, start=initial_job_idx)
        ]
        config_dirs = self._config_dirs()
        path = [f"hydra.searchpath=[{','.join(f'file://{place}' for place in config_dirs)}]"]
        configs = [compose_train([*path, *job.overrides]) for job in jobs]
        for cfg in configs:
            _refuse_single(cfg)
        prepare_once(configs)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            multirun = Multirun.begin(folder, jobs)
        except OSError as error:
            raise ConfigError(f"hydra.sweep.dir={folder}: cannot be written: {error.strerror}") from error
        code = freeze(folder, config_dirs=config_dirs)
        unfinished = [job for job in jobs if not job.is_finished()]
        print(f"{len(unfinished)} of {len(jobs)} jobs to run, in {folder}", file=sys.stderr)
        reasons = self.run(multirun, unfinished, code) if unfinished else {}
        summary = multirun.write_summary(reasons)
        columns = ["job", "status", "auc", "low", "high", "settings", "error"]
        print(summary[columns].to_string(index=False, na_rep="", float_format="%.3f", max_colwidth=60))
        print(f"summary {folder / 'summary.csv'}")
        if failed := sum(summary["status"] == "failed"):
            raise MammoError(
                f"{failed} of {len(jobs)} jobs failed, see {folder / 'summary.csv'}; what was finished stays "
                f"when the command is given again with hydra.sweep.dir={folder}"
            )
        return [_returned(job, overrides) for job, overrides in zip(jobs, job_overrides, strict=True)]

    def _subdir(self, overrides: Sequence[str], number: int) -> str:
        cfg = self.loader.load_sweep_config(self.config, list(overrides))
        with open_dict(cfg):
            cfg.hydra.job.num = number
        return str(cfg.hydra.sweep.subdir)

    def _config_dirs(self) -> list[Path]:
        """Those that the user gave besides `conf`."""
        sources = [source for source in self.config.hydra.runtime.config_sources if source.schema == "file"]
        return [Path(source.path) for source in sources if Path(source.path) != CONF]

    def refuse_early(self) -> None:
        """Raises a ConfigError where no job can be run, before the data are prepared."""

    @abstractmethod
    def run(self, multirun: Multirun, jobs: list[Job], code: Path) -> dict[int, str]:
        """Runs the jobs, and says why a process of theirs ended without a result."""


class LocalLauncher(_Launcher):
    """Runs `n` jobs side by side, each with its share of the cores and its own GPU."""

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
                process = start("mammo.sweeping.jobs.training_job", arguments, slot=slot, log=log, code=code)
                running.append((job, slot, process))
            time.sleep(0.1)
            for ended in [entry for entry in running if entry[2].poll() is not None]:
                job, slot, process = ended
                running.remove(ended)
                free.append(slot)
                if process.returncode:
                    log = multirun.folder / "jobs" / f"{job.number}.log"
                    reasons[job.number] = f"its process ended with code {process.returncode}, see {log}"
                tell(multirun, job, reasons.get(job.number))
        return reasons


class SlurmLauncher(_Launcher):
    """Puts the jobs into Slurm's queue, and waits for them."""

    __module__ = _PLUGIN_MODULE

    def refuse_early(self) -> None:
        refuse_without_slurm()

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
                for job, there in [entry for entry in running if has_ended(entry[1])]:
                    running.remove((job, there))
                    if reason := why_ended(there):
                        reasons[job.number] = reason
                    tell(multirun, job, reasons.get(job.number))
        except KeyboardInterrupt:
            ids = " ".join(there.job_id for _, there in running)
            raise MammoError(f"the jobs go on in Slurm; to end them: scancel {ids}") from None
        return reasons


def start(
    module: str, arguments: list[str], *, slot: Slot, log: Path, code: Path
) -> "subprocess.Popen[bytes]":
    """Starts a process that outlives this one and its terminal, and imports the frozen code.

    Args:
        module: with a `__main__` part.
        arguments: of the command line.
        slot: its cores and GPUs.
        log: gets all it prints, after what is there.
        code: see `freeze`.
    """
    path = os.pathsep.join(filter(None, [str(code), os.environ.get("PYTHONPATH")]))
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=os.environ | slot.environment() | {"PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def prepare_once(configs: Sequence[DictConfig]) -> None:
    """Prepares the stores that the configs need, each once."""
    from mammo.data.sources.reader import read_catalog
    from mammo.data.store.store import prepare

    done: list[dict[str, Any]] = []
    for cfg in configs:
        source, settings = arguments_for(read_catalog, cfg.data), arguments_for(prepare, cfg.data)
        if (needed := source | settings) not in done:
            done.append(needed)
            prepare(read_catalog(**source), **settings)


def tell(multirun: Multirun, job: Job, reason: str | None) -> None:
    """Prints what came of a job."""
    outcome = multirun.outcome(job, reason)
    came = f"failed: {outcome['error']}" if outcome["error"] else f"validation AUC {outcome['auc']}"
    print(f"job {job.number} ({multirun.told(job)}): {came}", file=sys.stderr)


def _refuse_single(cfg: DictConfig) -> None:
    for key in ("run_dir", "resume"):
        if cfg[key]:
            raise ConfigError(f"{key}={cfg[key]}: is for a single run; give hydra.sweep.dir=... with -m")


def _returned(job: Job, overrides: Sequence[str]) -> JobReturn:
    returned = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
    returned.return_value = job.number
    return returned
