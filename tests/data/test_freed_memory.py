"""Freed memory is used again without the system, in trainings and scorings on a CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import resource
from pathlib import Path

import torch
from helpers.networks import build_model

from mammo.api import train
from mammo.data.freed_memory import return_freed_memory
from mammo.evaluation.scoring import Scorer
from mammo.models.classifier import Classifier
from mammo.training import fit

def faults():
    for _ in range(10):  # glibc needs some blocks before it uses one again
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(16 << 20)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def returned():
    pages = []
    for call in (lambda: None, return_freed_memory):
        call()
        pages.append(int(Path("/proc/self/statm").read_text().split()[1]))
    return pages[0] - pages[1]

def set_up(*arguments, set_up=fit.set_up, **more):
    training = set_up(*arguments, **more)
    results.append(faults())
    return training

results = [faults()]
fit.set_up = set_up
small = ["model=custom_cnn", "data.patients=20", "data.height=64", "data.width=48", "trainer.max_epochs=1"]
train([*small, "report=false"])
results.append(returned())
Scorer(Classifier(network=build_model(name="custom_cnn", num_classes=2), mean=0.5, std=0.2), size=(64, 48))
results.extend([faults(), returned()])
print("results", *results)
"""


@pytest.mark.slow
def test_freed_memory_is_kept_and_after_a_training_returned(place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=place,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    usual, training, after, scorer, released = map(int, done.stdout.split("results ")[1].split())
    block = (64 << 20) // os.sysconf("SC_PAGE_SIZE")
    assert usual > block / 2
    assert max(training, scorer) < block / 10
    assert released > block / 2
    assert after < block / 10  # `train` has returned it
