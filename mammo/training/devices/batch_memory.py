"""The largest batch that fits in memory, and the error message for one that does not fit."""

import contextlib
import copy
import gc
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mammo.data.samples import sample_size
from mammo.errors import ConfigError
from mammo.models.example_input import example_input
from mammo.models.output import as_output

_MOST = 256
# the rest of the free memory is left for the optimiser, the loader and other processes
_SHARE = 0.7


def largest_batch(network: nn.Module, *, size: tuple[int, int], accelerator: str, most: int) -> int:
    """Return the largest batch size whose forward and backward pass fits in the free memory.

    Powers of two up to 256 are tried on a copy of the network. On a CPU, the search stops before a size that
    is expected not to fit, because the system would kill the process.

    Args:
        network: network of `build_network`.
        size: H, W of the images.
        accelerator: `gpu` or `cpu`.
        most: number of samples in the training set.

    Returns:
        Number of samples, of all their views.

    Raises:
        ConfigError: not even one sample fits.
    """
    device = torch.device("cuda" if accelerator == "gpu" else "cpu")
    trial = copy.deepcopy(network).to(device).to(memory_format=torch.channels_last).eval()
    free, before = _free_memory(device), _memory_in_use(device)
    fitting, batch = 0, 1
    while batch <= min(_MOST, most):
        try:
            used = max(_peak_of_step(trial, batch, size, device) - before, 0)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            break
        if used > _SHARE * free:
            break
        fitting = batch
        if device.type == "cpu" and 2 * used > _SHARE * free:
            break
        batch *= 2
    del trial
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if not fitting:
        raise ConfigError("data.batch_size=null: not even one sample fits; lower data.height and data.width")
    return fitting


def _peak_of_step(network: nn.Module, batch: int, size: tuple[int, int], device: torch.device) -> int:
    """Make a forward and backward pass; return the peak, on a CPU since the process began, in bytes."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    inputs = (tensor.to(device) for tensor in example_input(network, size, batch=batch))
    as_output(network(*inputs)).logits.sum().backward()  # type: ignore[no-untyped-call]
    network.zero_grad()
    return torch.cuda.max_memory_allocated() if on_gpu else _peak_resident()


def _free_memory(device: torch.device) -> int:
    """Return the free memory in bytes; on a CPU, within the limit of the process's control group."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info()[0]
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # no such group, or no limit
        limit = int((group / "memory.max").read_text())
        free = min(free, limit - int((group / "memory.current").read_text()))
    return free


def _memory_in_use(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.memory_allocated()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _peak_resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the error means that memory is exhausted."""
    text = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "can't allocate memory" in text
        or "could not create a memory object" in text
        or "std::bad_alloc" in text
    )


@contextlib.contextmanager
def explain_out_of_memory(data: Any, *, processes: int = 1) -> Iterator[None]:
    """Turn an out-of-memory error into a `ConfigError` that names the keys to change.

    Args:
        data: config of the data.
        processes: number of processes that share each part.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        parts, (height, width) = data.micro_batches, sample_size(data)
        images = f"{data.batch_size // (parts * processes)} images of {height} x {width}"
        raise ConfigError(
            f"data.batch_size={data.batch_size}, data.micro_batches={parts}: {images} at once do not fit in "
            "memory; raise data.micro_batches (number of parts of a batch) or lower data.batch_size"
        ) from error
