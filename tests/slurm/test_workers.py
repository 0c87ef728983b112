"""A search whose workers are Slurm jobs, some of which are preempted, requeued or killed."""

import csv
import json
import os
import signal
import subprocess
from pathlib import Path

from helpers.commands import line
from helpers.slurm_cluster import Slurm

from mammo.sweeping.search.search import Search
from mammo.sweeping.search.trials import Trial

TRIALS, WORKERS, EPOCHS = 8, 4, 12


def command(folder: Path, *arguments: str) -> list[str]:
    small = ["model=custom_cnn", "data.patients=24", "data.height=64", "data.width=48"]
    search = [f"sweep.workers={WORKERS}", f"sweep.budget.trials={TRIALS}", "sweep.stale_seconds=5"]
    slurm = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1"]
    drawn = ["sweep.sampler.name=random", "sweep.pruner.name=none", f"trainer.max_epochs={EPOCHS}"]
    return line("sweep", "sweep=lr", f"sweep_dir={folder}", *small, *search, *drawn, *slurm, *arguments)


def trials(folder: Path) -> list[Trial]:
    return Search(folder).read_trials() if (folder / "journal.log").exists() else []


def works(folder: Path, worker: str) -> bool:
    """Whether a worker has a trial that has begun but not ended."""
    return any(
        trial.state == "running" and trial.curve and owner(trial) == worker for trial in trials(folder)
    )


def owner(trial: Trial) -> str:
    return str(json.loads((trial.folder / "owner.json").read_text())["worker"])


def test_a_search_loses_no_trial_when_its_jobs_are_preempted_requeued_and_killed(
    slurm: Slurm, tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    with subprocess.Popen(
        command(folder), env=slurm.environment | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True
    ) as search:
        slurm.wait_for(
            lambda: len([row for row in slurm.squeue() if row["state"] == "RUNNING"]) == WORKERS, 60
        )
        preempted, requeued, killed, _ = sorted(row["id"] for row in slurm.squeue())
        slurm.wait_for(lambda: works(folder, killed), 60)
        pid = json.loads((folder / "workers" / f"{killed}.json").read_text())["pid"]
        os.kill(pid, signal.SIGKILL)
        slurm.wait_for(lambda: works(folder, preempted), 60)
        slurm.scancel_signal(f"{preempted}.0")
        slurm.wait_for(lambda: works(folder, requeued), 60)
        slurm.requeue(requeued)
        _, told = search.communicate(timeout=120)
    assert search.returncode == 0, told
    found = trials(folder)
    assert [trial.state for trial in found] == ["finished"] * TRIALS
    for trial in found:
        with (trial.folder / "metrics.csv").open() as file:
            assert [int(row["epoch"]) for row in csv.DictReader(file)] == list(range(1, EPOCHS + 1))
    resumed = [json.loads((trial.folder / "run.json").read_text()).get("resumed", 0) for trial in found]
    assert sum(resumed) >= 2
    assert (folder / "leaderboard.html").exists()
    # no requeued job is left in the queue without work
    slurm.wait_for(lambda: not slurm.squeue(), 150)
    assert slurm.states(killed) == ["FAILED"]
