"""Operations of the tests on a running cluster."""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "slurm" / "cluster"


class Slurm:
    """A running cluster; `environment` has the variables that a process needs to use it."""

    def __init__(self, *, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            # without the variables of a Slurm job that may run the tests
            **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))},
            "SLURM_CLUSTER_DIR": str(folder),
            "SLURM_CONF": str(folder / "slurm.conf"),
        }

    def run(self, *command: str | Path, seconds: float = 60) -> str:
        """Standard output of a command, which must succeed."""
        done = subprocess.run(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def wait_for(self, condition: Callable[[], object], seconds: float) -> float:
        """Seconds until the condition holds; after a timeout, fails with the queue and the nodes."""
        start = time.monotonic()
        while not condition():
            if time.monotonic() - start > seconds:
                pytest.fail(f"not within {seconds} s\n{self.run('squeue')}\n{self.run('sinfo', '-N')}")
            time.sleep(0.2)
        return time.monotonic() - start

    def sbatch(self, script: str, *options: str) -> str:
        """Submits a shell script and returns the id of its job."""
        path = Path(tempfile.mkstemp(suffix=".sh", dir=self.folder)[1])
        path.write_text(f"#!/bin/bash\n{script}\n")
        output = ["--open-mode=append", f"--output={self.folder}/%j.out"]
        return self.run("sbatch", "--parsable", *output, *options, path).strip()

    def output(self, job: str) -> str:
        """The output of a job of `sbatch` in all its runs."""
        path = self.folder / f"{job}.out"
        return path.read_text() if path.is_file() else ""

    def squeue(self, job: str | None = None) -> list[dict[str, str]]:
        """Jobs in the queue, or only those of one id: `id`, `state`, `node`, `partition`, `reason`."""
        fields = {"id": "%i", "state": "%T", "node": "%N", "partition": "%P", "reason": "%r"}
        out = self.run("squeue", "--noheader", "--format", "|".join(fields.values()))
        rows = [dict(zip(fields, line.split("|"), strict=True)) for line in out.splitlines()]
        return [row for row in rows if job is None or row["id"] == job or row["id"].startswith(f"{job}_")]

    def state(self, job: str) -> str:
        """The state of a job in the queue, or "" if it has left the queue."""
        return next((row["state"] for row in self.squeue(job)), "")

    def sacct(self, job: str) -> list[dict[str, str]]:
        """A row for each time the job has run, oldest first: `JobID`, `State`, `ExitCode`, `NodeList`."""
        fields = ["JobID", "State", "ExitCode", "NodeList"]
        options = ["--allocations", "--duplicates", "--noheader", "--parsable2"]
        out = self.run("sacct", *options, "--format", ",".join(fields), "--jobs", job)
        return [dict(zip(fields, line.split("|"), strict=True)) for line in out.splitlines()]

    def states(self, job: str) -> list[str]:
        """The states of all runs of a job; waits until it has left the queue and the accounting knows it."""
        self.wait_for(lambda: not self.squeue(job), 30)
        self.wait_for(lambda: not {"RUNNING", "COMPLETING"} & {row["State"] for row in self.sacct(job)}, 20)
        return [row["State"] for row in self.sacct(job)]

    def scancel_signal(self, job: str, name: str = "USR2") -> None:
        """Sends a signal to all steps of a job, or with `<job>.0` only to its first step."""
        self.run("scancel", f"--signal={name}", job)

    def requeue(self, job: str) -> None:
        self.run("scontrol", "requeue", job)

    def node_state(self, name: str) -> str:
        """The state in `sinfo`: `idle`, `mixed`, `down` ..., with a `*` if the node does not respond."""
        return self.run("sinfo", "--noheader", "--partition=gpu", f"--nodes={name}", "--format=%T").strip()

    def node_down(self, name: str) -> None:
        """Sets a node down as an administrator does; its jobs are requeued at once."""
        self.run("scontrol", "update", f"nodename={name}", "state=down", "reason=test")

    def node_up(self, name: str) -> None:
        self.run("scontrol", "update", f"nodename={name}", "state=resume")
        self.wait_for(lambda: self.node_state(name) == "idle", 30)

    def kill_node(self, name: str) -> None:
        """Sends SIGKILL to the node's daemons and all processes of its jobs, like a power failure."""
        self.run(SCRIPT, "kill", name)

    def start_node(self, name: str) -> None:
        """Restarts a killed node."""
        self.run(SCRIPT, "start", name)
        self.wait_for(lambda: self.node_state(name) == "idle", 30)
