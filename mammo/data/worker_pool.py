"""Calls in several processes, any of which may die: of a decoder that crashes or of full memory."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType
from typing import TypeVar

from mammo.data.freed_memory import keep_freed_memory
from mammo.errors import DataError

T = TypeVar("T")


def completed_results(
    calls: Iterator[partial[T]], *, workers: int, retry: Callable[[partial[T]], T], keep: bool = False
) -> Iterator[T]:
    """Yield the results of the calls in the order in which they end.

    At most two calls per worker are running or waiting.

    Args:
        calls: functions that can be pickled.
        workers: number of processes; 0 makes the calls in this process.
        retry: function that repeats a call whose worker died, in a way that survives a second death.
        keep: whether the processes, whose start takes a second, are kept for the next use of this function.
    """
    kept = _take_kept(workers)
    if workers == 0:
        yield from (call() for call in calls)
        return
    pending: dict[partial[T], Future[T] | None] = {}
    while True:
        pool = kept or _pool(workers)
        kept = None
        try:
            for call in calls:
                pending[call] = None
                pending[call] = pool.submit(call)
                if len(pending) >= 2 * workers:
                    yield from _ended(pending)
            while pending:
                yield from _ended(pending)
            if keep:
                _kept.append((workers, pool))
            return
        except BrokenProcessPool:
            pass
        finally:
            if (workers, pool) not in _kept:
                pool.shutdown(cancel_futures=True)
        yield from map(retry, pending)
        pending.clear()


_kept: list[tuple[int, ProcessPoolExecutor]] = []  # at most one


def _take_kept(workers: int) -> ProcessPoolExecutor | None:
    """Return the kept processes if there are as many or more; end them otherwise."""
    if not _kept:
        return None
    number, pool = _kept.pop()
    if 0 < workers <= number:
        return pool
    pool.shutdown()
    return None


def in_own_process(call: partial[T]) -> T:
    """Make a call in a separate process.

    Raises:
        DataError: the process died.
    """
    with _pool(1) as pool:
        try:
            return pool.submit(call).result()
        except BrokenProcessPool as error:
            raise DataError("its decoder died; the file is damaged, or memory is short") from error


_writer: ThreadPoolExecutor | None = None  # thread of a worker; None in the main process
_written: Future[None] | None = None


def write_in_background(write: Callable[[], None]) -> None:
    """Call the function in a thread of the worker, while the worker makes its next call.

    In the main process the function is called directly. An error of the previous function is raised here. A
    worker ends after its last function, whose success the main process must check.

    Args:
        write: function without a result.
    """
    global _written
    if _writer is None:
        write()
        return
    if _written is not None:
        _written.result()
    _written = _writer.submit(write)


def _ended(pending: dict[partial[T], Future[T] | None]) -> Iterator[T]:
    """Wait for the next results, and remove their calls from the pending ones."""
    futures = {future: call for call, future in pending.items() if future is not None}
    for future in wait(futures, return_when=FIRST_COMPLETED).done:
        result = future.result()
        del pending[futures[future]]
        yield result


class _Process(SpawnProcess):
    """A process that does not import the main module again.

    The calls are functions of this package. A user's script would begin its work again in each process,
    unless it is written for this.
    """

    def start(self) -> None:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            super().start()
        finally:
            sys.modules["__main__"] = main


class WorkerContext(SpawnContext):
    """Context of new processes for functions of this package.

    A fork would copy OpenCV's threads in an unknown state.
    """

    Process = _Process


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=WorkerContext(), initializer=_start_worker)


def _start_worker() -> None:
    import cv2

    global _writer
    _writer = ThreadPoolExecutor(1)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # the parent handles Ctrl-C, without a traceback of each worker
    cv2.setNumThreads(1)
    keep_freed_memory()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when its parent is killed; else it would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
