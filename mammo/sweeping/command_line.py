"""Overrides of the command line, told apart by whose they are."""

from dataclasses import fields

from mammo.config.schema import SweepConfig

_OF_SEARCH = ("hydra", *(field.name for field in fields(SweepConfig)))
_WITH_VALUE = (
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
    """Those of the search with Hydra's own options, and those of its trainings.

    Example:
        >>> split_overrides(["--info", "sweep=lr", "model=resnet34", "optim.lr=0.1", "hydra.launcher.n=2"])
        (['--info', 'sweep=lr', 'hydra.launcher.n=2'], ['model=resnet34', 'optim.lr=0.1'])
    """
    search: list[str] = []
    training: list[str] = []
    before = ""
    for argument in arguments:
        key = argument.partition("=")[0].lstrip("+~").partition(".")[0].partition("/")[0]
        option = argument.startswith("-") or before in _WITH_VALUE
        (search if option or key in _OF_SEARCH else training).append(argument)
        before = argument
    return search, training
