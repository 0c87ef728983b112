"""Jobs for Slurm, by submitit."""

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


class Requeued(ABC):
    """A job that goes on by itself when Slurm starts it again."""

    @abstractmethod
    def __call__(self) -> None:
        """Does the job."""

    def checkpoint(self) -> Any:
        """What submitit puts back into the queue: the same again, which looks for its own checkpoints."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(
    functions: Sequence[Requeued], *, launcher: Mapping[str, Any], folder: Path, code: Path
) -> list[Any]:
    """Puts an array of jobs into the queue.

    Args:
        functions: the jobs.
        launcher: keys of `hydra/launcher=slurm`.
        folder: for submitit's files and the jobs' output.
        code: frozen, imported by the jobs.

    Returns:
        The jobs of submitit.

    Raises:
        ConfigError: there is no Slurm, or it refuses them.
    """
    import submitit  # slower than a single training should start
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf

    refuse_without_slurm()
    keys = {key: value for key, value in launcher.items() if key not in ("_target_", "submitit_folder")}
    timeouts = keys.pop("max_num_timeout")
    keys["setup"] = [*(keys["setup"] or []), f"export PYTHONPATH={shlex.quote(str(code))}:$PYTHONPATH"]
    # else the other processes of a distributed training wait for one that failed
    keys["srun_args"] = ["--kill-on-bad-exit=1", *keys.get("srun_args", [])]
    common = BaseQueueConf.__dataclass_fields__
    parameters = {key if key in common else f"slurm_{key}": value for key, value in keys.items()}
    executor = submitit.AutoExecutor(folder=folder / "%j", cluster="slurm", slurm_max_num_timeout=timeouts)
    try:
        executor.update_parameters(**parameters)
        with contextlib.redirect_stderr(io.StringIO()):  # submitit prints what it raises
            return list(executor.submit_array(functions))
    except submitit.core.utils.FailedJobError as error:
        lines = [line for line in str(error).splitlines() if "error:" in line] or str(error).splitlines()
        reason = lines[-1].rpartition("error:")[2].strip()
        raise ConfigError(
            f"hydra/launcher=slurm: Slurm refuses the jobs: {reason}; change hydra.launcher.*"
        ) from error


def refuse_without_slurm() -> None:
    """Raises a ConfigError on a machine that cannot submit jobs."""
    if not shutil.which("sbatch"):
        raise ConfigError(
            "hydra/launcher=slurm: there is no sbatch on this machine; submit where there is one, or give "
            "hydra/launcher=local"
        )


def has_ended(job: Any) -> bool:
    """Whether a job of submitit has left a result, or Slurm's queue.

    By itself submitit takes for ended what Slurm suspends, or runs again after the loss of a node.
    """
    if not job.done():
        return False
    parts = [job.task(number) for number in range(job.num_tasks)]
    if all(part.paths.result_pickle.exists() for part in parts) or not _is_queued(job.job_id):
        return True
    job.watcher.clear()  # else it would not ask again
    return False


def _is_queued(job_id: str) -> bool:
    asked = subprocess.run(["squeue", "--noheader", f"--jobs={job_id}"], capture_output=True, text=True)
    return bool(asked.stdout.strip()) if asked.returncode == 0 else "Invalid job id" not in asked.stderr


def why_ended(job: Any) -> str | None:
    """Why a job of submitit that has ended has left no result; None where it has.

    An exception of the training is told as such, for the run's folder holds the rest.
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
