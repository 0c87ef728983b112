"""Measures the Slurm launcher with jobs that only sleep and report a score.

It needs the cluster of `tests/slurm/cluster up`, with `SLURM_CLUSTER_DIR` and `SLURM_CONF` set:
`PYTHONPATH=tests python tests/slurm/measure_launcher.py JOBS SECONDS`. It prints when the jobs were
submitted, and the calls of squeue and sacct and the finished jobs until SECONDS later, when the rest
is cancelled.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from helpers.commands import copy_of_the_clone

STAND_IN = """
import time
from mammo.runs import RunFolder

def train(cfg, *, run_dir, overrides, **_):
    time.sleep(1)
    run = RunFolder.create(run_dir, config={"seed": cfg.seed}, overrides=overrides)
    run.record(status="finished", score={"value": 0.5, "low": 0.4, "high": 0.6}, seconds=1.0)
    return run
"""


def main(jobs: int, seconds: float) -> None:
    place = Path(tempfile.mkdtemp(prefix="launcher-"))
    clone = copy_of_the_clone(place)
    (clone / "mammo" / "evaluation" / "training_run.py").write_text(STAND_IN)
    calls = place / "calls"
    for tool in ("squeue", "sacct"):
        counted = place / "bin" / tool
        counted.parent.mkdir(exist_ok=True)
        counted.write_text(f'#!/bin/sh\necho {tool} >> {calls}\nexec {shutil.which(tool)} "$@"\n')
        counted.chmod(0o755)
    keys = ["model=custom_cnn", "data.patients=24", "data.height=64", "data.width=48", f"seed=range({jobs})"]
    launcher = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.gpus_per_node=null"]
    launcher.append("hydra.launcher.array_parallelism=4")  # the jobs share the machine with the command
    path = {"PATH": f"{place / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(clone)}
    start = time.monotonic()
    command = [sys.executable, "train.py", "-m", *keys, *launcher, "hydra.sweep.dir=sweep"]
    with subprocess.Popen(
        command,
        cwd=clone,
        env=os.environ | path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        line = told = ""
        while not line.startswith("Slurm jobs "):
            line = process.stderr.readline()
            assert line, f"the command ended before it submitted the jobs: {told}"
            told += line
        print(f"{jobs} jobs submitted after {time.monotonic() - start:.1f} s", flush=True)
        submitted = time.monotonic()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        watched = time.monotonic() - submitted
        process.stderr.read()
    names = calls.read_text().split()
    ended = sum('"finished"' in file.read_text() for file in clone.glob("sweep/*/run.json"))
    counts = ", ".join(f"{names.count(tool)} calls of {tool}" for tool in ("squeue", "sacct"))
    print(f"{ended} jobs finished in {watched:.0f} s, {counts}")
    subprocess.run(["scancel", f"--user={os.getuid()}"], check=True)
    shutil.rmtree(place)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
