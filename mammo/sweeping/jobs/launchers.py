"""Hydra launchers of `python train.py -m ...`: in parallel on this machine, or on a Slurm cluster."""

import contextlib
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from mammo.compat import leave_checks_to_launcher
from mammo.config.calls.next_steps import this_call
from mammo.config.composition import chooses, compose_trainings, use_config_dirs
from mammo.errors import ConfigError, MammoError
from mammo.runs.run_lock import RunLock
from mammo.sweeping.jobs.code_snapshot import freeze, import_path, say_if_edited
from mammo.sweeping.jobs.device_slots import Slot, slots
from mammo.sweeping.jobs.job_process import JobProcess, LocalProcess, SlurmProcess, record, recorded
from mammo.sweeping.jobs.multirun import Job, Multirun
from mammo.sweeping.jobs.multirun_results import results_text
from mammo.sweeping.jobs.preparation import prepare_stores, require_parts
from mammo.sweeping.jobs.progress import Progress
from mammo.sweeping.jobs.slurm import require_slurm, submit
from mammo.sweeping.jobs.slurm_queue import SlurmQueue, cancel, never_starts, refusal

_PLUGIN_MODULE = "hydra_plugins.mammo"
_OTHER_NAMES = {"basic": "local", "submitit_local": "local", "submitit_slurm": "slurm"}


def register() -> None:
    """Register the launchers with Hydra, under the names used in `conf/hydra/launcher`.

    Hydra accepts plugins only from a module of `hydra_plugins`, so this module gets such a name too. The
    names of Hydra's own launcher and of those of hydra-submitit-launcher mean these launchers.
    """
    sys.modules[_PLUGIN_MODULE] = sys.modules[__name__]
    for launcher in (LocalLauncher, SlurmLauncher):
        Plugins.instance().register(launcher)
    leave_checks_to_launcher()
    for name, meant in _OTHER_NAMES.items():
        ConfigStore.instance().store(group="hydra/launcher", name=name, node={"defaults": [meant]})


class _Launcher(Launcher):
    """Check every job, prepare the data once, copy code and config, and run the jobs.

    A command that is given again while its jobs wait or run attaches to them.
    """

    __module__ = _PLUGIN_MODULE

    def __init__(self, **params: Any) -> None:
        plain = {key: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for key, v in params.items()}
        self.params: dict[str, Any] = plain
        self.queue = SlurmQueue()
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        self.running: dict[Job, JobProcess] = {}
        self.reasons: dict[int, str] = {}  # why a job failed, by its number

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
        folder = Path(self.config.hydra.sweep.dir)
        try:
            jobs, configs = self._checked(folder, job_overrides, initial_job_idx)
        except MammoError:
            _remove_empty(folder)
            raise
        multirun = self._begin(folder, jobs, configs)
        self._run(multirun)
        self._report(multirun)
        return [_job_return(job, overrides) for job, overrides in zip(jobs, job_overrides, strict=True)]

    def _checked(
        self, folder: Path, job_overrides: Sequence[Sequence[str]], first: int
    ) -> tuple[list[Job], list[DictConfig]]:
        """Return the jobs and their configurations.

        Raises:
            MammoError: the config of a job is wrong, or no job can be run here.
        """
        self.check_available()
        jobs = [
            Job(
                number,
                list(filter_overrides(overrides)),
                str((folder / self._subdir(overrides, number)).absolute()),
            )
            for number, overrides in enumerate(job_overrides, start=first)
        ]
        self._check_folders(jobs)
        use_config_dirs(self.config.hydra)
        configs = compose_trainings([job.overrides for job in jobs])
        for cfg in configs:
            _check_run_keys(cfg)
        require_parts(configs)
        return jobs, configs

    def _subdir(self, overrides: Sequence[str], number: int) -> str:
        """Return the name of a job's folder; Hydra composes once for jobs of the same groups and network."""
        pattern = str(OmegaConf.to_container(self.config.hydra.sweep)["subdir"])  # type: ignore[index,call-overload]
        needed = re.sub(r"\$\{hydra[.:](job\.num|runtime\.choices\.[\w/]+)\}", "", pattern)
        needed = needed.replace("${oc.select:model.name,}", "")
        chosen = tuple(
            override
            for override in overrides
            if "$" in needed or chooses(override) or override.startswith("model.name=")
        )
        if chosen not in self._composed:
            self._composed[chosen] = self.loader.load_sweep_config(self.config, list(chosen))
        cfg = self._composed[chosen]
        with open_dict(cfg):
            cfg.hydra.job.num = number
        return str(cfg.hydra.sweep.subdir)

    def _check_folders(self, jobs: list[Job]) -> None:
        folder, count = Counter(job.run_dir for job in jobs).most_common(1)[0]
        if count > 1:
            first, second = [job.number for job in jobs if job.run_dir == folder][:2]
            raise ConfigError(
                f"hydra.sweep.subdir={Path(folder).name}: jobs {first} and {second} would write to the same "
                "folder; give a name with ${hydra.job.num}"
            )

    def _begin(self, folder: Path, jobs: list[Job], configs: list[DictConfig]) -> Multirun:
        """Record the jobs, copy the code, and prepare the data; a new multirun is removed if this fails."""
        new = not (folder / "multirun.json").exists()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            multirun = Multirun.begin(folder, jobs)
            freeze(folder)  # before the preparation, which may take long
            prepare_stores(configs)
        except BaseException as error:
            if new:
                (folder / "multirun.json").unlink(missing_ok=True)
                shutil.rmtree(folder / "code", ignore_errors=True)
            if isinstance(error, OSError):
                raise ConfigError(f"hydra.sweep.dir={folder}: cannot be written: {error.strerror}") from error
            raise
        return multirun

    def _run(self, multirun: Multirun) -> None:
        """Run the unfinished jobs, or attach to those that another command runs, and wait for their end."""
        before = {job.number: multirun.record_of(job) for job in multirun.jobs}
        with RunLock(multirun.folder) as turn:
            self._await_turn(multirun, turn)
            waiting = []
            for job in multirun.jobs:
                if job.is_finished():
                    continue
                if process := recorded(multirun.record_file(job), queue=self.queue):
                    self.running[job] = process
                elif (facts := multirun.record_of(job)) == before[job.number]:
                    waiting.append(job)
                elif facts and facts["ended"]:  # the other command saw its end
                    self.reasons[job.number] = facts["ended"]
            attached = f", {len(self.running)} are running or queued" if self.running else ""
            print(
                f"{len(waiting)} of {len(multirun.jobs)} jobs to run{attached}, in {multirun.folder}",
                file=sys.stderr,
            )
            for job in waiting:
                multirun.record_file(job).unlink(missing_ok=True)  # of an earlier process
            if waiting:
                say_if_edited(multirun.folder / "code")
            self.run(multirun, waiting, turn)

    def _await_turn(self, multirun: Multirun, turn: RunLock) -> None:
        """Wait while another command starts or runs the jobs of the multirun."""
        progress, waits = Progress(multirun), False
        while True:
            try:
                with contextlib.redirect_stderr(io.StringIO()) if waits else contextlib.nullcontext():
                    turn.acquire()
                return
            except ConfigError:
                if not waits:
                    print("another command runs these jobs; this one shows their progress", file=sys.stderr)
                waits = True
            try:
                progress.say({})
                time.sleep(1)
            except KeyboardInterrupt:
                raise KeyboardInterrupt("the other command and its jobs continue") from None

    def follow(self, multirun: Multirun, progress: Progress) -> None:
        """Record and print the outcome of each running job that has ended, and the progress."""
        for job, process in list(self.running.items()):
            if (reason := process.ended()) is not None:
                self.end(multirun, job, reason)
        progress.say(self.running)

    def end(self, multirun: Multirun, job: Job, reason: str) -> None:
        """Record and print the outcome of a job, with the reason of its failure, empty if it has none."""
        if reason:
            self.reasons[job.number] = reason
        record(multirun.record_file(job), self.running.pop(job), ended=reason)
        print(multirun.outcome_text(job, reason or None), file=sys.stderr)

    def _report(self, multirun: Multirun) -> None:
        summary = multirun.write_summary(self.reasons)
        print(results_text(multirun, summary))
        if failed := sum(summary["status"] == "failed"):
            raise MammoError(
                f"{failed} of {len(multirun.jobs)} jobs failed, see {multirun.folder / 'summary.csv'}; give "
                f"the command again with hydra.sweep.dir={multirun.folder} to run only the unfinished jobs"
            )

    def check_available(self) -> None:
        """Raise a ConfigError where no job can be run, before the data are prepared."""

    @abstractmethod
    def run(self, multirun: Multirun, waiting: list[Job], turn: RunLock) -> None:
        """Run the waiting jobs, and wait for them and for those in `running`.

        Args:
            multirun: multirun of the jobs.
            waiting: jobs to start.
            turn: the right to start jobs, which is released once all are started.
        """


class LocalLauncher(_Launcher):
    """Run `n` jobs in parallel, each with its share of the cores and its own GPU."""

    __module__ = _PLUGIN_MODULE

    def run(self, multirun: Multirun, waiting: list[Job], turn: RunLock) -> None:
        shares = slots(self.params["n"], gpus_each=self.config.trainer.devices)
        progress = Progress(multirun)
        try:
            while waiting or self.running:
                own = [process for process in self.running.values() if isinstance(process, LocalProcess)]
                taken = {process.slot for process in own if process.host == platform.node()}
                for slot in [slot for slot in range(len(shares)) if slot not in taken][: len(waiting)]:
                    self._start(multirun, waiting.pop(0), slot, shares[slot])
                time.sleep(0.1)
                self.follow(multirun, progress)
        except KeyboardInterrupt:
            again = this_call({"hydra.sweep.dir": multirun.folder})
            raise KeyboardInterrupt(
                f"{len(self.running)} jobs continue without this command, {len(waiting)} do not begin; to "
                f"begin them and to show the progress: {again}"
            ) from None

    def _start(self, multirun: Multirun, job: Job, slot: int, share: Slot) -> None:
        file = multirun.record_file(job)
        process = start_process(
            "mammo.sweeping.jobs.training_job",
            [str(multirun.folder.absolute()), str(job.number)],
            slot=share,
            log=file.with_suffix(".log"),
            code=multirun.folder.absolute() / "code",
        )
        self.running[job] = LocalProcess.of(process, slot=slot, record=file)
        record(file, self.running[job])


class SlurmLauncher(_Launcher):
    """Submit the jobs to Slurm's queue and wait for them."""

    __module__ = _PLUGIN_MODULE

    def check_available(self) -> None:
        require_slurm()

    def run(self, multirun: Multirun, waiting: list[Job], turn: RunLock) -> None:
        if waiting:
            self._submit(multirun, waiting)
        turn.release()
        progress = Progress(multirun, first_seconds=3.0)
        try:
            while self.running:
                time.sleep(1)
                self._cancel_impossible(multirun)
                self.follow(multirun, progress)
        except KeyboardInterrupt:
            ids = " ".join(process.job_id for process in self._slurm_jobs().values())
            raise KeyboardInterrupt(f"the jobs continue in Slurm; to cancel them: scancel {ids}") from None

    def _submit(self, multirun: Multirun, jobs: list[Job]) -> None:
        from mammo.sweeping.jobs.training_job import TrainingJob

        folder = multirun.folder.absolute()
        submitted = submit(
            [TrainingJob(folder, job.number) for job in jobs],
            launcher=self.params,
            folder=folder / "jobs",
            code=folder / "code",
            queue=self.queue,
        )
        for job, process in zip(jobs, submitted, strict=True):
            record(multirun.record_file(job), process)
            self.running[job] = process
        print(f"Slurm jobs {', '.join(process.job_id for process in submitted)}", file=sys.stderr)

    def _slurm_jobs(self) -> dict[Job, SlurmProcess]:
        return {job: process for job, process in self.running.items() if isinstance(process, SlurmProcess)}

    def _cancel_impossible(self, multirun: Multirun) -> None:
        """Cancel the jobs that can never start.

        Raises:
            ConfigError: no other job is left.
        """
        jobs = {process.job_id: job for job, process in self._slurm_jobs().items()}
        found = never_starts(self.queue.jobs(), jobs)
        if not found:
            return
        cancel(found)
        sentences = {name: refusal(reason, self.params) for name, reason in found.items()}
        if len(found) < len(multirun.jobs):
            for name, sentence in sentences.items():
                self.end(multirun, jobs[name], sentence)
            return
        for name, sentence in sentences.items():
            record(multirun.record_file(jobs[name]), self.running.pop(jobs[name]), ended=sentence)
        raise ConfigError(f"hydra/launcher=slurm: {sentence}; the jobs are cancelled")


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


def _remove_empty(folder: Path) -> None:
    """Remove the folder of a multirun that has only what Hydra wrote before the jobs were checked."""
    if [file.name for file in folder.iterdir()] == ["multirun.yaml"]:
        (folder / "multirun.yaml").unlink()
        folder.rmdir()
        with contextlib.suppress(OSError):  # other runs are in it
            folder.parent.rmdir()


def _check_run_keys(cfg: DictConfig) -> None:
    for key in ("run_dir", "resume"):
        if cfg[key]:
            raise ConfigError(f"{key}={cfg[key]}: is for a single run; give hydra.sweep.dir=... with -m")


def _job_return(job: Job, overrides: Sequence[str]) -> JobReturn:
    returned = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
    returned.return_value = job.number
    return returned
