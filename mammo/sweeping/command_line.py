"""Split the command line of `sweep.py` into overrides of the search, of its launcher and of its trainings."""

from collections.abc import Sequence
from dataclasses import fields

from mammo.config.sweep_schema import SweepConfig

_SEARCH_KEYS = ("hydra", *(field.name for field in fields(SweepConfig)))


def split_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Split overrides into those of the search, of its launcher and of its trainings.

    Returns:
        Overrides of the search, of the launcher and of the trainings, each in the given order.

    Example:
        >>> split_overrides(["sweep=lr", "optim.lr=0.1", "hydra/launcher=slurm"])
        (['sweep=lr'], ['hydra/launcher=slurm'], ['optim.lr=0.1'])
    """
    search: list[str] = []
    launcher: list[str] = []
    training: list[str] = []
    for override in overrides:
        names = override.partition("=")[0].lstrip("+~").replace("/", ".").split(".")
        if names[:2] == ["hydra", "launcher"]:
            launcher.append(override)
        else:
            (search if names[0] in _SEARCH_KEYS else training).append(override)
    return search, launcher, training
