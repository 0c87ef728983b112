"""A real Slurm of four virtual nodes with one fake GPU each, for the tests of this folder.

Each process of pytest has its own cluster, in its own folder and on its own ports: a start takes about three
seconds, and tests that share a cluster would stop each other's nodes.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.slurm_cluster import SCRIPT, Slurm

CANNOT = 3  # the script's exit code if Slurm is not available


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """The cluster, which stops when this process ends in any way; skips if Slurm is not available."""
    slurm = Slurm(folder=Path(tempfile.mkdtemp(prefix="slurm-")))  # a short path, because it contains sockets
    with subprocess.Popen(
        [SCRIPT, "hold"],
        env=slurm.environment,
        stdin=subprocess.PIPE,  # the cluster stops when this is closed
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C does not reach it
    ) as holder:
        assert holder.stdout
        if holder.stdout.readline() != "up\n":
            reason = holder.communicate()[1].strip()
            if holder.returncode == CANNOT:
                pytest.skip(f"no Slurm: {reason}")
            pytest.fail(f"the cluster does not start: {reason}")
        yield slurm
        reason = holder.communicate()[1]
        assert holder.returncode == 0, reason
    assert not slurm.folder.exists()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("slurm")
