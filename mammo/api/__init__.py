"""The commands as Python functions: `train`, `prepare` and `evaluate`, and `open_run` for a finished run."""

from mammo.api.functions import evaluate, prepare, train
from mammo.api.opened_run import Run, open_run
from mammo.data.progress_bar import choose_bars

choose_bars()

__all__ = ["Run", "evaluate", "open_run", "prepare", "train"]
