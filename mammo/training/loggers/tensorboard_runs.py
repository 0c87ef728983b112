"""The logger of TensorBoard: one run, with charts that show training and validation together."""

import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from lightning_fabric.loggers.logger import rank_zero_experiment
from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning.loggers import Logger
from torch.utils.tensorboard import SummaryWriter


class TensorBoardRuns(Logger):
    """Writes one run, `tensorboard`, with the tags `train/loss`, `val/loss` and so on.

    The tab "Custom scalars" has a chart for each score, with its values in training and validation.

    Args:
        save_dir: folder of the run.
    """

    def __init__(self, *, save_dir: Path) -> None:
        super().__init__()
        self.folder = save_dir / "tensorboard"
        self.purge_step: int | None = None
        self._writer: SummaryWriter | None = None
        self._charts: set[str] = set()

    @property
    def name(self) -> str:
        return "tensorboard"

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.folder.parent)

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        """Writer of the run."""
        if self._writer is None:
            # each purge removes what was written at the step or later, so only the first writer purges
            self._writer = SummaryWriter(self.folder, purge_step=self.purge_step)
            self.purge_step = None
        return self._writer

    def forget_from(self, step: int) -> None:
        """Make TensorBoard ignore what was written at this step and later; a resumed run writes it again.

        TensorBoard reads the event files in the order of their names, which begin with the second of their
        creation. The method returns once a new file is the last.
        """
        self.finalize("")  # Lightning opens a writer before the checkpoint is loaded
        self.purge_step = step
        newest = max((_second(file) for file in self.folder.glob("events.out.tfevents.*")), default=0)
        behind = newest + 1 - time.time()
        if behind > _LONGEST_WAIT:
            print(
                f"the clock of this machine is {behind:.0f} s behind {self.folder}: TensorBoard may show "
                "epochs twice; metrics.csv has each once",
                file=sys.stderr,
            )
        elif behind > 0:
            time.sleep(behind)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        writer = self.experiment
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)
        both = {name.removeprefix("val/") for name in metrics if name.startswith("val/")}
        both &= {name.removeprefix("train/") for name in metrics if name.startswith("train/")}
        if not both <= self._charts:
            self._charts |= both
            charts = {
                name: ["Multiline", [f"{side}/{re.escape(name)}$" for side in ("train", "val")]]
                for name in sorted(self._charts)
            }
            writer.add_custom_scalars({"training and validation": charts})

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        text = yaml.safe_dump(dict(params), sort_keys=False).replace("\n", "\n    ")
        self.experiment.add_text("config", f"    {text}")

    @rank_zero_only
    def save(self) -> None:
        if self._writer is not None:
            self._writer.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


_LONGEST_WAIT = 10.0  # in seconds, for a clock that differs from that of another node


def _second(file: Path) -> int:
    """Return the time of creation in an event file's name, in seconds; 0 for a name without it."""
    second = file.name.split(".")[3]
    return int(second) if second.isdecimal() else 0
