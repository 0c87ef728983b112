"""The test cluster behaves as the other tests in this folder expect."""

import subprocess
import sys
import tempfile
from pathlib import Path

from helpers.slurm_cluster import SCRIPT, Slurm

GPU = "--gpus-per-node=1"
# prints where it runs and which signals it receives
STEADY = """
trap 'echo USR2' USR2
echo "$SLURMD_NODENAME $$"
while true; do sleep 0.1; done
"""


def runs_of(slurm: Slurm, job: str) -> list[list[str]]:
    """Node and process id of each run of a STEADY job."""
    return [line.split() for line in slurm.output(job).splitlines() if line.startswith("node")]


def lives(process: str) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes() != b""
    except (FileNotFoundError, ProcessLookupError):
        return False


def started(slurm: Slurm, *options: str) -> str:
    job = slurm.sbatch(STEADY, GPU, *options)
    slurm.wait_for(lambda: runs_of(slurm, job), 20)
    return job


def test_four_nodes_with_one_gpu_each(slurm: Slurm) -> None:
    said = slurm.run("srun", "-N4", GPU, "bash", "-c", "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES")
    assert sorted(said.splitlines()) == [f"node{i} 0" for i in (1, 2, 3, 4)]


def test_a_fifth_job_waits_for_a_gpu(slurm: Slurm) -> None:
    *four, fifth = [slurm.sbatch(STEADY, GPU) for _ in range(5)]
    slurm.wait_for(lambda: all(slurm.state(job) == "RUNNING" for job in four), 20)
    slurm.wait_for(lambda: slurm.squeue(fifth)[0]["reason"] == "Resources", 20)
    assert {slurm.squeue(job)[0]["node"] for job in four} == {"node1", "node2", "node3", "node4"}
    slurm.run("scancel", *four, fifth)
    slurm.wait_for(lambda: not slurm.squeue(), 20)


def test_accounting_says_how_jobs_ended(slurm: Slurm) -> None:
    ends = {"true": ("COMPLETED", "0:0"), "exit 3": ("FAILED", "3:0"), "kill -9 $$": ("FAILED", "0:9")}
    jobs = {slurm.sbatch(script): end for script, end in ends.items()}
    slurm.wait_for(lambda: not slurm.squeue(), 20)
    for job, end in jobs.items():
        slurm.wait_for(
            lambda job=job, end=end: [(r["State"], r["ExitCode"]) for r in slurm.sacct(job)] == [end], 10
        )


def test_a_signal_reaches_the_step(slurm: Slurm) -> None:
    step = "trap 'echo USR2; exit' USR2; echo ready; while true; do sleep 0.1; done"
    job = slurm.sbatch(f'srun bash -c "{step}"', GPU)
    slurm.wait_for(lambda: "ready" in slurm.output(job), 20)
    slurm.scancel_signal(f"{job}.0")
    slurm.wait_for(lambda: slurm.state(job) == "", 20)
    assert "USR2" in slurm.output(job)


def test_a_requeued_job_runs_again_within_seconds(slurm: Slurm) -> None:
    job = started(slurm)
    slurm.requeue(job)
    slurm.wait_for(lambda: len(runs_of(slurm, job)) == 2, 30)
    slurm.run("scancel", job)
    slurm.wait_for(lambda: [row["State"] for row in slurm.sacct(job)] == ["REQUEUED", "CANCELLED by 0"], 20)


def test_a_lost_nodes_job_runs_again_on_another(slurm: Slurm) -> None:
    job = started(slurm)
    [(node, process)] = runs_of(slurm, job)
    slurm.kill_node(node)
    slurm.wait_for(lambda: not lives(process), 5)
    slurm.wait_for(lambda: len(runs_of(slurm, job)) == 2, 60)
    assert runs_of(slurm, job)[1][0] != node
    assert slurm.node_state(node) == "down*"
    slurm.wait_for(lambda: slurm.sacct(job)[0]["State"] == "NODE_FAIL", 20)
    slurm.run("scancel", job)
    slurm.start_node(node)


def test_an_urgent_job_preempts_and_the_preempted_one_runs_again(slurm: Slurm) -> None:
    for node in ("node2", "node3", "node4"):
        slurm.node_down(node)
    job = started(slurm, "--signal=B:USR2@90")
    urgent = slurm.sbatch("true", GPU, "--partition=urgent")
    slurm.wait_for(lambda: slurm.state(urgent) == "", 30)
    assert "USR2" in slurm.output(job)
    slurm.wait_for(lambda: len(runs_of(slurm, job)) == 2, 30)
    slurm.wait_for(lambda: slurm.sacct(job)[0]["State"] == "PREEMPTED", 20)
    slurm.run("scancel", job)
    for node in ("node2", "node3", "node4"):
        slurm.node_up(node)


def test_nothing_outlives_a_killed_holder(slurm: Slurm) -> None:
    other = Slurm(folder=Path(tempfile.mkdtemp(prefix="slurm-")))
    hold = (
        "import subprocess, sys; subprocess.Popen([sys.argv[1], 'hold', '1'], stdin=subprocess.PIPE).wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, SCRIPT], env=other.environment, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == "up\n"
        job = other.sbatch(STEADY)
        slurm.wait_for(lambda: runs_of(other, job), 20)
        [(_, process)] = runs_of(other, job)
        parent.kill()
    slurm.wait_for(lambda: not other.folder.exists(), 30)
    assert not lives(process)
    lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(other.folder) not in lines
    assert (
        slurm.run("sinfo", "--noheader", "--partition=gpu", "--format=%D").strip() == "4"
    )  # this cluster still runs
