"""The folder of a run, and the lock that gives one process at a time the right to write to it."""

from mammo.runs.run_folder import FROZEN_COMMIT, RunFolder, Status, dated_folder, git_commit, slurm_suffix

__all__ = ["FROZEN_COMMIT", "RunFolder", "Status", "dated_folder", "git_commit", "slurm_suffix"]
