"""Calls survive the death of the process that makes them."""

import os
import signal
from functools import partial

import pytest

from mammo.data.pool import in_own_process, results
from mammo.errors import DataError


def double(number: int, *, alone: bool = False) -> int:
    """Kills its process at 5, unless it is called alone."""
    if number == 5 and not alone:
        os.kill(os.getpid(), signal.SIGKILL)
    return -number if alone else 2 * number


def test_every_call_returns_though_a_worker_dies() -> None:
    calls = (partial(double, number) for number in range(12))
    returned = list(results(calls, workers=2, again=lambda call: call(alone=True)))
    assert sorted(abs(value) if value % 2 or value < 0 else value // 2 for value in returned) == list(
        range(12)
    )
    assert -5 in returned


def test_in_this_process() -> None:
    calls = (partial(double, number) for number in range(4))
    assert list(results(calls, workers=0, again=pytest.fail)) == [0, 2, 4, 6]


def test_a_call_in_its_own_process() -> None:
    assert in_own_process(partial(double, 4)) == 8
    with pytest.raises(DataError, match="decoder died"):
        in_own_process(partial(double, 5))
