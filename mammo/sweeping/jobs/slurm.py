"""Submission of Slurm jobs with submitit."""

import contextlib
import io
import shlex
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mammo.errors import ConfigError
from mammo.sweeping.jobs.code_snapshot import import_path


class RequeuedJob(ABC):
    """A job that resumes by itself when Slurm requeues it."""

    @abstractmethod
    def __call__(self) -> None:
        """Run the job."""

    def checkpoint(self) -> Any:
        """Return what submitit puts back into the queue: the same job, which finds its own checkpoints."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(
    functions: Sequence[RequeuedJob], *, launcher: Mapping[str, Any], folder: Path, code: Path
) -> list[Any]:
    """Submit an array of jobs.

    Args:
        functions: jobs to submit.
        launcher: keys of `hydra/launcher=slurm`.
        folder: folder for submitit's files and the jobs' output.
        code: folder with the copy of the code, which the jobs import.

    Returns:
        The submitit jobs.

    Raises:
        ConfigError: this machine has no Slurm, or Slurm refuses the jobs.
    """
    import submitit  # slow to import, and a single training does not need it
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf

    require_slurm()
    keys = {key: value for key, value in launcher.items() if key not in ("_target_", "submitit_folder")}
    timeouts = keys.pop("max_num_timeout")
    # not `:$PYTHONPATH`: an empty entry is the working directory
    path = shlex.quote(import_path(code)) + "${PYTHONPATH:+:$PYTHONPATH}"
    keys["setup"] = [*(keys["setup"] or []), f"export PYTHONSAFEPATH=1 PYTHONPATH={path}"]
    # otherwise the other processes of a distributed training wait for one that failed
    keys["srun_args"] = ["--kill-on-bad-exit=1", *keys.get("srun_args", [])]
    common = BaseQueueConf.__dataclass_fields__
    parameters = {key if key in common else f"slurm_{key}": value for key, value in keys.items()}
    executor = submitit.AutoExecutor(folder=folder / "%j", cluster="slurm", slurm_max_num_timeout=timeouts)
    try:
        executor.update_parameters(**parameters)
        with contextlib.redirect_stderr(io.StringIO()):  # submitit also prints the error that it raises
            return list(executor.submit_array(functions))
    except submitit.core.utils.FailedJobError as error:
        lines = [line for line in str(error).splitlines() if "error:" in line] or str(error).splitlines()
        reason = lines[-1].rpartition("error:")[2].strip()
        raise ConfigError(
            f"hydra/launcher=slurm: Slurm refuses the jobs: {reason}; change hydra.launcher.*"
        ) from error


def require_slurm() -> None:
    """Raise a ConfigError on a machine that cannot submit jobs."""
    if not shutil.which("sbatch"):
        raise ConfigError(
            "hydra/launcher=slurm: there is no sbatch on this machine; submit where there is one, or give "
            "hydra/launcher=local"
        )


def has_ended(job: Any) -> bool:
    """Return whether a submitit job has left a result, or Slurm's queue.

    `job.done()` alone is also true for a job that Slurm suspends or requeues after the loss of a node.
    """
    if not job.done():
        return False
    parts = [job.task(number) for number in range(job.num_tasks)]
    if all(part.paths.result_pickle.exists() for part in parts) or not _is_queued(job.job_id):
        return True
    job.watcher.clear()  # otherwise submitit keeps the state "done" and does not query Slurm again
    return False


def _is_queued(job_id: str) -> bool:
    query = subprocess.run(["squeue", "--noheader", f"--jobs={job_id}"], capture_output=True, text=True)
    return bool(query.stdout.strip()) if query.returncode == 0 else "Invalid job id" not in query.stderr


def failure_reason(job: Any) -> str | None:
    """Return why an ended submitit job has no result; None where it has one.

    Of an exception in the training only the last line is returned: the run's folder has the traceback.
    """
    from submitit.core.utils import FailedJobError

    try:
        job.results()
    except FailedJobError as error:
        trace = str(error).partition("\n---")[2].partition("\n---")[0].strip()
        return f"Slurm job {job.job_id}: {trace.rpartition(chr(10))[2]}"
    except Exception:
        return f"Slurm job {job.job_id}: {job.state} without a result, see {job.paths.stderr}"
    return None
