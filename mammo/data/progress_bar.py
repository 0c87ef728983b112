"""Progress of long work: a bar at a terminal and in a notebook, lines elsewhere."""

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    # IPython is asked only where it is already loaded
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config


def shows_bars() -> bool:
    """Return whether a progress bar can be shown: at a terminal, and in a notebook."""
    return sys.stderr.isatty() or in_notebook()


def choose_bars() -> None:
    """Import tqdm for a notebook without its warning that ipywidgets is not installed."""
    if in_notebook():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tqdm.auto  # noqa: F401


@contextmanager
def progress(
    *, total: int, done: int, what: str = "preparing", unit: str = "image", after_seconds: float = 0
) -> Iterator[Callable[[int], object]]:
    """Show progress: a bar at a terminal and in a notebook, elsewhere a line for each tenth of the images.

    Args:
        total: number of images.
        done: number of images that were done before.
        what: name of the work.
        unit: name of a unit of the work.
        after_seconds: time before anything is shown.

    Yields:
        Function to call with the number of images done since the last call.
    """
    if shows_bars():
        choose_bars()
        from tqdm.auto import tqdm

        with tqdm(total=total, initial=done, desc=what, unit=unit, delay=after_seconds) as bar:
            yield bar.update
        return
    begun, ready = time.monotonic(), done

    def advance(count: int) -> None:
        nonlocal ready
        ready += count
        spent = time.monotonic() - begun
        if spent >= after_seconds and ready * 10 // total > (ready - count) * 10 // total:
            left = spent / (ready - done) * (total - ready)
            time_left = f"{left / 60:.0f} min" if left >= 100 else f"{left:.0f} s"
            print(f"{what}: {ready:,} of {total:,} {unit}s, {time_left} left", file=sys.stderr)

    yield advance
