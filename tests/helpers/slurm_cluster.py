"""What the tests do with a running cluster."""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "slurm" / "cluster"


class Slurm:
    """A running cluster; `environment` is what a process needs in order to talk to it."""

    def __init__(self, *, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            # of a job that the tests themselves may run in
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
        """Seconds until the condition held; fails with the queue and the nodes where it does not."""
        start = time.monotonic()
        while not condition():
            if time.monotonic() - start > seconds:
                pytest.fail(f"not within {seconds} s\n{self.run('squeue')}\n{self.run('sinfo', '-N')}")
            time.sleep(0.2)
        return time.monotonic() - start

    def sbatch(self, script: str, *options: str) -> str:
        """Id of the job that runs this text of a shell script."""
        path = Path(tempfile.mkstemp(suffix=".sh", dir=self.folder)[1])
        path.write_text(f"#!/bin/bash\n{script}\n")
        output = ["--open-mode=append", f"--output={self.folder}/%j.out"]
        return self.run("sbatch", "--parsable", *output, *options, path).strip()

    def output(self, job: str) -> str:
        """What a job of `sbatch` has written, in all its runs."""
        path = self.folder / f"{job}.out"
        return path.read_text() if path.is_file() else ""

    def squeue(self, job: str | None = None) -> list[dict[str, str]]:
        """Jobs in the queue, or only those of one id: `id`, `state`, `node`, `partition`, `reason`."""
        fields = {"id": "%i", "state": "%T", "node": "%N", "partition": "%P", "reason": "%r"}
        out = self.run("squeue", "--noheader", "--format", "|".join(fields.values()))
        rows = [dict(zip(fields, line.split("|"), strict=True)) for line in out.splitlines()]
        return [row for row in rows if job is None or row["id"] == job or row["id"].startswith(f"{job}_")]

    def state(self, job: str) -> str:
        """Its state in the queue, "" where it is there no longer."""
        return next((row["state"] for row in self.squeue(job)), "")

    def sacct(self, job: str) -> list[dict[str, str]]:
        """A row for each time the job has run, oldest first: `JobID`, `State`, `ExitCode`, `NodeList`."""
        fields = ["JobID", "State", "ExitCode", "NodeList"]
        options = ["--allocations", "--duplicates", "--noheader", "--parsable2"]
        out = self.run("sacct", *options, "--format", ",".join(fields), "--jobs", job)
        return [dict(zip(fields, line.split("|"), strict=True)) for line in out.splitlines()]

    def scancel_signal(self, job: str, name: str = "USR2") -> None:
        """Sends a signal to a job's steps, with `<job>.0` to its first step alone."""
        self.run("scancel", f"--signal={name}", job)

    def requeue(self, job: str) -> None:
        self.run("scontrol", "requeue", job)

    def node_state(self, name: str) -> str:
        """As `sinfo` says it: `idle`, `mixed`, `down` ..., with a `*` where the node does not answer."""
        return self.run("sinfo", "--noheader", "--partition=gpu", f"--nodes={name}", "--format=%T").strip()

    def node_down(self, name: str) -> None:
        """As an administrator does it: its jobs are requeued at once."""
        self.run("scontrol", "update", f"nodename={name}", "state=down", "reason=test")

    def node_up(self, name: str) -> None:
        self.run("scontrol", "update", f"nodename={name}", "state=resume")
        self.wait_for(lambda: self.node_state(name) == "idle", 30)

    def kill_node(self, name: str) -> None:
        """SIGKILL to the node's daemons and all processes of its jobs, as when its power is cut."""
        self.run(SCRIPT, "kill", name)

    def start_node(self, name: str) -> None:
        """Brings a killed node back."""
        self.run(SCRIPT, "start", name)
        self.wait_for(lambda: self.node_state(name) == "idle", 30)
