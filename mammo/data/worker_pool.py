"""Calls by several processes, of which any may die: decoders of damaged files do, and a full memory kills."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from mammo.errors import DataError

T = TypeVar("T")


def results(calls: Iterator[partial[T]], *, workers: int, again: Callable[[partial[T]], T]) -> Iterator[T]:
    """What the calls return, as they end; at most two for each worker are under way or waiting.

    Args:
        calls: Functions that can be pickled.
        workers: Processes; 0 makes the calls in this one.
        again: Makes a call that was in hand when a worker died, in a way that survives that.
    """
    if workers == 0:
        yield from (call() for call in calls)
        return
    pending: dict[partial[T], Future[T] | None] = {}
    while True:
        with _pool(workers) as pool:
            try:
                for call in calls:
                    pending[call] = None
                    pending[call] = pool.submit(call)
                    if len(pending) >= 2 * workers:
                        yield from _ended(pending)
                while pending:
                    yield from _ended(pending)
                return
            except BrokenProcessPool:
                pass
            finally:
                pool.shutdown(cancel_futures=True)
        yield from map(again, pending)
        pending.clear()


def in_own_process(call: partial[T]) -> T:
    """Make a call in a process of its own; raises DataError if that dies."""
    with _pool(1) as pool:
        try:
            return pool.submit(call).result()
        except BrokenProcessPool as error:
            raise DataError("its decoder died; the file is damaged, or memory is short") from error


_writer: ThreadPoolExecutor | None = None  # in a worker
_written: Future[None] | None = None
# of mallopt(3)
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_GIGABYTE = 1 << 30


def behind(write: Callable[[], None]) -> None:
    """Calls a function of no result, in a worker beside its next call; raises what the one before it raised.

    A worker ends once the last is done; who started the workers must see for himself whether that succeeded.
    """
    global _written
    if _writer is None:
        write()
        return
    if _written is not None:
        _written.result()
    _written = _writer.submit(write)


@contextmanager
def progress(*, total: int, done: int, what: str = "preparing") -> Iterator[Callable[[int], object]]:
    """A bar at a terminal, elsewhere a line for every tenth; yields what to call with a count of images."""
    from tqdm import tqdm

    if sys.stderr.isatty():
        with tqdm(total=total, initial=done, desc=what, unit="image") as bar:
            yield bar.update
        return
    begun, ready = time.monotonic(), done

    def advance(count: int) -> None:
        nonlocal ready
        ready += count
        if ready * 10 // total > (ready - count) * 10 // total:
            left = (time.monotonic() - begun) / (ready - done) * (total - ready)
            print(f"{what}: {ready:,} of {total:,} images, {left / 60:.1f} min left", file=sys.stderr)

    yield advance


def _ended(pending: dict[partial[T], Future[T] | None]) -> Iterator[T]:
    """Wait for the next results and take them from what is pending."""
    futures = {future: call for call, future in pending.items() if future is not None}
    for future in wait(futures, return_when=FIRST_COMPLETED).done:
        result = future.result()
        del pending[futures[future]]
        yield result


def _pool(workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")  # a fork copies OpenCV's threads in an unknown state
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)


def _start_worker() -> None:
    import cv2

    global _writer
    _writer = ThreadPoolExecutor(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle, without a traceback each
    cv2.setNumThreads(1)
    # else an image's memory goes back to the system, and is cleared anew for the next: a third of the time
    with contextlib.suppress(AttributeError, OSError):  # another C library than Linux's
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, _GIGABYTE)
        library.mallopt(_TRIM_THRESHOLD, _GIGABYTE)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Without this, workers of a killed process would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
