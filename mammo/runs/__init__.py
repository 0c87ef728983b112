"""The folder of a run, and the lock that gives one process at a time the right to write to it."""

from mammo.runs.code_version import FROZEN_COMMIT, git_commit
from mammo.runs.run_folder import RunFolder, Status, dated_folder, find_runs, slurm_suffix

__all__ = ["FROZEN_COMMIT", "RunFolder", "Status", "dated_folder", "find_runs", "git_commit", "slurm_suffix"]
