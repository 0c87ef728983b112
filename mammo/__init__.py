"""Benign or malignant: a PyTorch Lightning and Hydra research framework for mammograms."""

import importlib
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "open_run":  # imported when it is used, so that `import mammo` takes no time
        return importlib.import_module("mammo.api").open_run
    raise AttributeError(f"module 'mammo' has no attribute '{name}'")
