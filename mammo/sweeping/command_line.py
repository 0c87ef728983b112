"""Split the command line of `sweep.py` into overrides of the search, of its launcher and of its trainings."""

from dataclasses import fields

from mammo.config.sweep_schema import SweepConfig

_SEARCH_KEYS = ("hydra", *(field.name for field in fields(SweepConfig)))
_OPTIONS_WITH_VALUE = (
    "-c",
    "--cfg",
    "-p",
    "--package",
    "-cn",
    "--config-name",
    "-cd",
    "--config-dir",
    "-cp",
    "--config-path",
)


def split_overrides(arguments: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Split arguments into those of the search, of its launcher and of its trainings.

    Hydra's own options belong to the search.

    Args:
        arguments: command line without the name of the program.

    Returns:
        Arguments of the search, overrides of the launcher and overrides of the trainings, each in the given
        order.

    Example:
        >>> split_overrides(["--info", "sweep=lr", "optim.lr=0.1", "hydra/launcher=slurm"])
        (['--info', 'sweep=lr'], ['hydra/launcher=slurm'], ['optim.lr=0.1'])
    """
    search: list[str] = []
    launcher: list[str] = []
    training: list[str] = []
    previous = ""
    for argument in arguments:
        names = argument.partition("=")[0].lstrip("+~").replace("/", ".").split(".")
        if argument.startswith("-") or previous in _OPTIONS_WITH_VALUE:
            search.append(argument)
        elif names[:2] == ["hydra", "launcher"]:
            launcher.append(argument)
        else:
            (search if names[0] in _SEARCH_KEYS else training).append(argument)
        previous = argument
    return search, launcher, training
