"""A real Slurm of four virtual nodes with one fake GPU each, for the tests of this folder.

Each process of pytest has a cluster of its own, in its own folder and on its own ports: a start costs some
three seconds, while tests that share one would lose each other's nodes.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.slurm_cluster import SCRIPT, Slurm

CANNOT = 3  # the script's exit code where a Slurm cannot be had


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """The cluster, which ends with this process, however that ends; skips where it cannot be had."""
    slurm = Slurm(folder=Path(tempfile.mkdtemp(prefix="slurm-")))  # a short path: it holds sockets
    with subprocess.Popen(
        [SCRIPT, "hold"],
        env=slurm.environment,
        stdin=subprocess.PIPE,  # its end is the sign to stop
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # out of reach of Ctrl-C
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
