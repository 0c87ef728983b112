"""Reuse of freed memory, which the system would otherwise clear before each use."""

import contextlib
import ctypes

# parameters of mallopt(3)
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
# the number of blocks that glibc maps at most, and twice the size from which on it maps them
_USUAL_MMAP_MAX, _USUAL_TRIM_THRESHOLD = 1 << 16, 1 << 26


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for its next allocations.

    By default glibc returns a block of more than 32 MB to the system when it is freed. On a CPU, a training
    allocates and frees such blocks, the activations, in each step; the system clears them each time, which
    takes up to half of the time. The process needs up to a fifth more memory. With other C libraries the
    function does nothing.
    """
    with contextlib.suppress(AttributeError, OSError):  # no mallopt
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, -1)


def return_freed_memory() -> None:
    """Return the memory that `keep_freed_memory` has kept, and from now on what is freed, as is usual."""
    with contextlib.suppress(AttributeError, OSError):  # no mallopt
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_MAX, _USUAL_MMAP_MAX)
        library.mallopt(_TRIM_THRESHOLD, _USUAL_TRIM_THRESHOLD)
        library.malloc_trim(0)
