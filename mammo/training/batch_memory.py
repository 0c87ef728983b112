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

from mammo.errors import ConfigError
from mammo.models.output import as_output

_MOST = 256
# the rest of the free memory is left for the optimiser, the loader and other processes
_SHARE = 0.7


def largest_batch(network: nn.Module, *, size: tuple[int, int], accelerator: str, most: int) -> int:
    """Return the largest batch size whose forward and backward pass fits in the free memory.

    Powers of two up to 256 are tried on a copy of the network. On a CPU, the search stops before a size that
    is expected not to fit, because the system would kill the process.

    Args:
        network: network from B 1 H W images to B C logits.
        size: H, W of the images.
        accelerator: `gpu` or `cpu`.
        most: number of images in the training set.

    Raises:
        ConfigError: not even one image fits.
    """
    device = torch.device("cuda" if accelerator == "gpu" else "cpu")
    trial = copy.deepcopy(network).to(device).to(memory_format=torch.channels_last).eval()
    free = _free_memory(device)
    fitting, batch = 0, 1
    while batch <= min(_MOST, most):
        try:
            used = _memory_of_step(trial, batch, size, device)
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
        raise ConfigError("data.batch_size=null: not even one image fits; lower data.height and data.width")
    return fitting


def _memory_of_step(network: nn.Module, batch: int, size: tuple[int, int], device: torch.device) -> int:
    """Return the peak memory in bytes that a forward and backward pass adds to the memory in use."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        before = _resident()
    images = torch.rand(batch, 1, *size, device=device).contiguous(memory_format=torch.channels_last)
    as_output(network(images)).logits.sum().backward()  # type: ignore[no-untyped-call]
    network.zero_grad()
    after = torch.cuda.max_memory_allocated() if on_gpu else _peak_resident()
    return max(after - before, 0)


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


def _resident() -> int:
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
def explain_out_of_memory(data: Any, accumulate: int, *, processes: int = 1) -> Iterator[None]:
    """Turn an out-of-memory error into a `ConfigError` that names the keys to change.

    Args:
        data: config with `batch_size`, `height` and `width`.
        accumulate: number of parts of a batch.
        processes: number of processes that share each part.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        images = f"{data.batch_size // (accumulate * processes)} images of {data.height} x {data.width}"
        raise ConfigError(
            f"data.batch_size={data.batch_size}, trainer.accumulate={accumulate}: {images} at once do not "
            "fit in memory; raise trainer.accumulate (number of parts of a batch) or lower data.batch_size"
        ) from error
