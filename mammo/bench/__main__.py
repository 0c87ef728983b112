"""The command: measures the stages with a configuration, writes a table and a JSON file; see `stages`."""

import contextlib
import importlib.metadata
import os
import platform
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mammo.config.calls.next_steps import call, ending
from mammo.config.command import hydra_main, write_json
from mammo.errors import ConfigError
from mammo.fast_imports import quick_imports
from mammo.runs import git_commit

if TYPE_CHECKING:
    from mammo.bench.measurement import Result

_LEAST = {"repeats": 1, "batches": 1, "steps": 1, "warmup": 1, "images": 1}
# keys that train.py does not know
_OWN = ("stage", "output", *_LEAST)
_PACKAGES = ("torch", "pytorch-lightning", "numpy", "opencv-python-headless", "pydicom")


@hydra_main("bench")
def main(cfg: DictConfig) -> None:
    _check(cfg)
    overrides = list(HydraConfig.get().overrides.task)

    # these import PyTorch, which takes seconds, so errors in the configuration are reported before
    with quick_imports():
        from mammo.bench.stages import STAGES, Bench
        from mammo.training.devices.batch_memory import explain_out_of_memory

    bench = Bench(cfg, [override for override in overrides if override.partition("=")[0] not in _OWN])
    with explain_out_of_memory(cfg.data):
        results = [measure(bench) for name, measure in STAGES.items() if cfg.stage in ("all", name)]
    machine = _machine()
    print(_table(results))
    print("\n".join(result.sentence for result in results))
    print(f"on {machine['gpu'] or machine['cpu']}, cores: {machine['cores']}, threads: {machine['threads']}")
    if cfg.output is not None:
        numbers = {result.stage: result.numbers() for result in results}
        write_json(numbers | {"machine": machine | {"overrides": overrides}}, Path(cfg.output))
        shown = call("train", *bench.overrides, "--cfg", "job")
        print(ending({"written to": cfg.output}, call("train", *bench.overrides), shown))
    else:
        print(ending({}, call("bench", *overrides, output="bench.json"), call("train", *bench.overrides)))


def _check(cfg: DictConfig) -> None:
    for key, least in _LEAST.items():
        if cfg[key] < least:
            raise ConfigError(f"{key}={cfg[key]}: must be at least {least}")
    if cfg.trainer.devices > 1:
        raise ConfigError(f"trainer.devices={cfg.trainer.devices}: the bench is for one device; leave it out")
    if cfg.optim.freeze_epochs:
        raise ConfigError(
            f"optim.freeze_epochs={cfg.optim.freeze_epochs}: the bench trains all layers; leave it out"
        )
    if cfg.output is not None and not Path(cfg.output).absolute().parent.is_dir():
        raise ConfigError(f"output={cfg.output}: its folder does not exist; make it or choose another")


def _machine() -> dict[str, Any]:
    import torch

    cpu = platform.processor()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in _PACKAGES},
        "commit": git_commit(),
    }


def _table(results: "list[Result]") -> str:
    """Return the table of median speeds, each with its minimum and maximum over the repeats."""
    rows = [("stage", "images/s", "limit", "images/s", "ratio")]
    rows += [
        (result.stage, _span(result.speeds), result.limit, _span(result.limits), f"{result.ratio:.3f}")
        for result in results
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _span(speeds: list[float]) -> str:
    return f"{median(speeds):.1f} ({min(speeds):.1f} to {max(speeds):.1f})"


if __name__ == "__main__":
    main()
