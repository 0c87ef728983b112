"""Split the command line of `sweep.py` into overrides of the search and overrides of its trainings."""

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


def split_overrides(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split arguments into those of the search and those of its trainings.

    Hydra's own options belong to the search.

    Args:
        arguments: command line without the name of the program.

    Returns:
        Arguments of the search and overrides of the trainings, each in the given order.
    Example:
        >>> split_overrides(["--info", "sweep=lr", "model=resnet34", "optim.lr=0.1", "hydra.launcher.n=2"])
        (['--info', 'sweep=lr', 'hydra.launcher.n=2'], ['model=resnet34', 'optim.lr=0.1'])
    """
    search: list[str] = []
    training: list[str] = []
    previous = ""
    for argument in arguments:
        key = argument.partition("=")[0].lstrip("+~").partition(".")[0].partition("/")[0]
        option = argument.startswith("-") or previous in _OPTIONS_WITH_VALUE
        (search if option or key in _SEARCH_KEYS else training).append(argument)
        previous = argument
    return search, training
