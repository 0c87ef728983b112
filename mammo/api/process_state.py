"""The global state of a process that a training changes, saved and restored."""

import contextlib
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from mammo.data.freed_memory import return_freed_memory

ONE_AT_A_TIME = threading.RLock()
_LOGGERS = ("pytorch_lightning", "lightning_fabric")


@contextlib.contextmanager
def process_state_restored() -> Iterator[None]:
    """Context manager after which seeds, PyTorch's switches, warnings and signal handlers are as before.

    Environment variables, the search path of modules and the levels of Lightning's loggers are restored too,
    and freed memory is returned to the system.
    The state belongs to the whole process, so the block of a second thread waits for that of the first.
    """
    import numpy as np
    import torch

    with ONE_AT_A_TIME, warnings.catch_warnings(), contextlib.ExitStack() as after:
        after.callback(random.setstate, random.getstate())
        after.callback(np.random.set_state, np.random.get_state())  # noqa: NPY002, the global one is meant
        after.callback(torch.set_rng_state, torch.get_rng_state())
        if torch.cuda.is_available():
            after.callback(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
        after.callback(
            torch.use_deterministic_algorithms,
            torch.are_deterministic_algorithms_enabled(),
            warn_only=torch.is_deterministic_algorithms_warn_only_enabled(),
        )
        for switch in ("deterministic", "benchmark"):
            after.callback(setattr, torch.backends.cudnn, switch, getattr(torch.backends.cudnn, switch))
        for name in _LOGGERS:
            after.callback(logging.getLogger(name).setLevel, logging.getLogger(name).level)
        after.callback(_restore_environment, dict(os.environ))
        after.callback(_restore_path, sys.path[:])
        after.callback(return_freed_memory)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                after.callback(_restore_handler, number, signal.getsignal(number))
        yield


def _restore_environment(before: dict[str, str]) -> None:
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def _restore_path(before: list[str]) -> None:
    sys.path[:] = before


def _restore_handler(number: int, handler: Any) -> None:
    if handler is not None:  # one that was not set by Python cannot be set again
        signal.signal(number, handler)
