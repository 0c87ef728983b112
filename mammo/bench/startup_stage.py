"""The stage `startup`: from a command to its first answer."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from omegaconf import DictConfig

from mammo.bench.measurement import Result, in_turn
from mammo.errors import MammoError

_LIMIT = 600  # seconds, maximum for the first step
_BARE = """
import timm, torch
model = timm.create_model({name!r}, in_chans=1, num_classes=2)
optimizer = torch.optim.AdamW(model.parameters())
model(torch.rand({batch}, 1, {height}, {width})).square().mean().backward()
optimizer.step()
"""


def measure_startup(cfg: DictConfig, *, overrides: Sequence[str], composed: DictConfig) -> Result:
    """Measure the start of `python train.py OVERRIDES`.

    Args:
        cfg: configuration of the bench.
        overrides: overrides of the training.
        composed: config of the training.
    """
    images = composed.data.batch_size or cfg.data.batch_size
    bare = _BARE.format(
        name=composed.model.get("name", "resnet18"),
        batch=images,
        height=composed.data.height,
        width=composed.data.width,
    )
    _first_step(overrides)  # the data are prepared, the files in the page cache
    seconds = in_turn(
        {
            "first step": lambda: _first_step(overrides),
            "bare script": lambda: _seconds([sys.executable, "-c", bare], succeeds=True),
            "help": lambda: _seconds(_train("--help"), succeeds=True),
            "config error": lambda: _seconds(_train("trainer.max_epochs=three"), succeeds=False),
        },
        repeats=cfg.repeats,
        unit="s",
    )
    first, script = median(seconds["first step"]), median(seconds["bare script"])
    slower = "importing PyTorch" if script > first / 2 else "Lightning, setup and checkpoint"
    help_, mistake = median(seconds["help"]), median(seconds["config error"])
    sentence = (
        f"the first step takes {first:.1f} s from the command, that of a bare script {script:.1f} s, "
        f"--help {help_:.1f} s, the report of a config error {mistake:.1f} s: {slower} is the bottleneck"
    )
    own, limit = ([images / value for value in seconds[name]] for name in ("first step", "bare script"))
    return Result("startup", own, "bare script", limit, {}, sentence, seconds)


def _train(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mammo.train", *arguments]


def _seconds(command: list[str], *, succeeds: bool) -> float:
    started = time.perf_counter()
    result = subprocess.run(command, capture_output=True, text=True)
    taken = time.perf_counter() - started
    if (result.returncode == 0) != succeeds:
        raise MammoError(f"{' '.join(command[:2])}: ended with status {result.returncode}: {result.stderr}")
    return taken


def _first_step(overrides: Sequence[str]) -> float:
    """Return the seconds until the checkpoint of the first optimiser step exists, and end the training."""
    with tempfile.TemporaryDirectory(prefix="mammo-bench-") as folder:
        run = Path(folder) / "run"
        own = [f"run_dir={run}", "trainer.checkpoint_steps=1", "report=false"]
        log = Path(folder) / "log"
        started = time.perf_counter()
        with (
            log.open("w") as output,
            subprocess.Popen(_train(*overrides, *own), stdout=output, stderr=output) as process,
        ):
            try:
                while not (run / "checkpoints" / "last.ckpt").exists():
                    if process.poll() is not None or time.perf_counter() - started > _LIMIT:
                        raise MammoError(
                            f"python train.py {' '.join(overrides)}: no first step: {log.read_text()[-300:]}"
                        )
                    time.sleep(0.01)
                return time.perf_counter() - started
            finally:
                process.kill()
