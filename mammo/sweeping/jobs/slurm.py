"""Submission of Slurm jobs with submitit."""

import contextlib
import io
import shlex
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mammo.compat import accept_requeue_that_ends_its_command
from mammo.errors import ConfigError
from mammo.sweeping.jobs.code_snapshot import import_path
from mammo.sweeping.jobs.job_process import SlurmProcess
from mammo.sweeping.jobs.slurm_queue import SlurmQueue, cancel, never_starts, refusal, settings

# keys that submitit knows for every kind of cluster
_COMMON = (
    "name",
    "timeout_min",
    "cpus_per_task",
    "gpus_per_node",
    "tasks_per_node",
    "mem_gb",
    "nodes",
    "stderr_to_stdout",
)


# words of sbatch's refusals, and the keys to change
_REFUSALS = {
    "partition": ("partition",),
    "feature": ("constraint",),
    "account": ("account",),
    "qos": ("qos",),
    "time limit": ("timeout_min", "partition"),
    "node configuration": ("cpus_per_task", "gpus_per_node", "mem_gb", "partition"),
    "node count": ("nodes", "partition"),
}


class RequeuedJob(ABC):
    """A job that resumes by itself when Slurm requeues it."""

    @abstractmethod
    def __call__(self) -> None:
        """Run the job."""

    def checkpoint(self) -> Any:
        """Return what submitit puts back into the queue: the same job, which finds its own checkpoints."""
        from submitit.helpers import DelayedSubmission

        accept_requeue_that_ends_its_command()
        return DelayedSubmission(self)


def submit(
    functions: Sequence[RequeuedJob],
    *,
    launcher: Mapping[str, Any],
    folder: Path,
    code: Path,
    queue: SlurmQueue,
) -> list[SlurmProcess]:
    """Submit an array of jobs.

    Args:
        functions: jobs to submit.
        launcher: keys of `hydra/launcher=slurm`.
        folder: folder for submitit's files and the jobs' output, where `submitit_folder` is null.
        code: folder with the copy of the code, which the jobs import.
        queue: where the jobs are looked up.

    Returns:
        The submitted jobs.

    Raises:
        ConfigError: this machine has no Slurm, or Slurm refuses the jobs.
    """
    import submitit  # slow to import, and a single training does not need it

    require_slurm()
    keys = {key: value for key, value in launcher.items() if key != "_target_"}
    folder = Path(keys.pop("submitit_folder") or folder).absolute()
    timeouts = keys.pop("max_num_timeout")
    # not `:$PYTHONPATH`: an empty entry is the working directory
    path = shlex.quote(import_path(code)) + "${PYTHONPATH:+:$PYTHONPATH}"
    keys["setup"] = [*(keys["setup"] or []), f"export PYTHONSAFEPATH=1 PYTHONPATH={path}"]
    # otherwise the other processes of a distributed training wait for one that failed
    keys["srun_args"] = ["--kill-on-bad-exit=1", *keys.get("srun_args", [])]
    parameters = {key if key in _COMMON else f"slurm_{key}": value for key, value in keys.items()}
    folder = folder if "%j" in str(folder) else folder / "%j"
    executor = submitit.AutoExecutor(folder=folder, cluster="slurm", slurm_max_num_timeout=timeouts)
    try:
        executor.update_parameters(**parameters)
        with contextlib.redirect_stderr(io.StringIO()):  # submitit also prints the error that it raises
            jobs = executor.submit_array(functions)
        return [SlurmProcess(queue, job.job_id, str(folder), job.num_tasks) for job in jobs]
    except submitit.core.utils.FailedJobError as error:
        lines = [line for line in str(error).splitlines() if "error:" in line] or str(error).splitlines()
        reason = lines[-1].rpartition("error:")[2].strip()
        raise ConfigError(
            f"hydra/launcher=slurm: Slurm refuses the jobs: {reason}; change {_keys_of(reason, launcher)}"
        ) from error


def _keys_of(reason: str, launcher: Mapping[str, Any]) -> str:
    """Return the keys to change after a refusal of sbatch."""
    words = [word for word in _REFUSALS if word in reason.lower()]
    return settings(_REFUSALS[words[0]], launcher) if words else "hydra.launcher.*"


def require_slurm() -> None:
    """Raise a ConfigError on a machine that cannot submit jobs."""
    if not shutil.which("sbatch"):
        raise ConfigError(
            "hydra/launcher=slurm: there is no sbatch on this machine; submit where there is one, or give "
            "hydra/launcher=local"
        )
    if not SlurmQueue().answers():
        raise ConfigError(
            "hydra/launcher=slurm: squeue does not answer on this machine; submit where Slurm runs, or give "
            "hydra/launcher=local"
        )


def refuse_impossible(
    jobs: Sequence[SlurmProcess], *, launcher: Mapping[str, Any], queue: SlurmQueue, seconds: float = 4.0
) -> None:
    """Wait until Slurm has looked at the submitted jobs, and cancel them if they can never start.

    Args:
        jobs: jobs that were submitted with the same keys.
        launcher: keys of the launcher.
        queue: where the jobs are looked up.
        seconds: longest wait.

    Raises:
        ConfigError: the jobs can never start.
    """
    ids = [job.job_id for job in jobs]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(1)
        known = queue.jobs()
        if found := never_starts(known, ids):
            cancel(ids)
            sentence = refusal(next(iter(found.values())), launcher)
            raise ConfigError(f"hydra/launcher=slurm: {sentence}; the jobs are cancelled")
        if all(name in known and known[name].reason not in ("None", "") for name in ids):
            return
