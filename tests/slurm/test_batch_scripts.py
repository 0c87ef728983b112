"""`python train.py` in batch scripts that a user writes and submits with `sbatch`, on a real Slurm."""

import csv
import json
import shlex
from pathlib import Path

from helpers.commands import line
from helpers.slurm_cluster import Slurm

SMALL = ["model=custom_cnn", "data.patients=24", "data.height=64", "data.width=48", "report=false"]


def script(place: Path, *arguments: str) -> str:
    """The text of a batch script; `$` in an argument is for the shell."""
    command = shlex.join(line("train", *SMALL, *arguments)).replace("'", '"')
    return f"export OMP_NUM_THREADS=1\ncd {place}\n{command}"


def test_the_tasks_of_an_array_have_folders_of_their_own(slurm: Slurm, tmp_path: Path) -> None:
    task = script(tmp_path, "trainer.max_epochs=1", "seed=$SLURM_ARRAY_TASK_ID")
    job = slurm.sbatch(task, "--array=0-3")
    slurm.wait_for(lambda: not slurm.squeue(job), 200)
    assert slurm.states(job) == ["COMPLETED"] * 4
    runs = sorted((tmp_path / "runs").iterdir(), key=lambda run: run.name.rpartition("_")[2])
    assert [run.name.rpartition("-")[2] for run in runs] == [f"{job}_{number}" for number in range(4)]
    facts = [json.loads((run / "run.json").read_text()) for run in runs]
    assert [(fact["status"], fact["seed"]) for fact in facts] == [("finished", seed) for seed in range(4)]


def test_a_requeued_script_continues_its_run_and_a_finished_run_ends_at_once(
    slurm: Slurm, tmp_path: Path
) -> None:
    text = script(tmp_path, "trainer.max_epochs=40", "run_dir=run", "resume=auto")
    job = slurm.sbatch(text, "--requeue")
    metrics = tmp_path / "run" / "metrics.csv"
    slurm.wait_for(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 3, 100)
    slurm.requeue(job)
    slurm.wait_for(lambda: not slurm.squeue(job), 200)
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (facts["status"], facts["resumed"]) == ("finished", 1), slurm.output(job)
    with metrics.open() as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == list(range(1, 41))
    again = slurm.sbatch(text)
    slurm.wait_for(lambda: not slurm.squeue(again), 100)
    assert slurm.output(again).startswith("already finished, nothing to do\nvalidation AUC ")
