"""The arguments of a command: options and overrides of Hydra in any order, and those that are refused."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from mammo.compat import OptionError, read_options
from mammo.config.checks import CONF
from mammo.config.schema import COMMANDS
from mammo.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent.parent
_WITH_VALUE = (
    *("-c", "--cfg", "-p", "--package", "-cn", "--config-name", "-cd", "--config-dir"),
    *("-cp", "--config-path", "--experimental-rerun"),
)
_SEVERAL_CHOICES = ("callbacks", "logger", "metrics")  # groups whose choices add to each other
_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
_ACTIONS = {"run": "-r", "multirun": "-m", "cfg": "--cfg", "info": "--info", "shell_completion": "-sc"}
# what Lightning gives to the processes that it starts on this machine
_OF_LIGHTNING = re.compile(r'hydra\.run\.dir="?\."?|hydra\.job\.name=train_ddp_process_\d+')
_LAUNCHERS_ELSEWHERE = ("joblib", "ray", "ray_aws", "rq")


def program_name(command: str, program: str) -> str:
    """Return how the user started the command.

    Args:
        command: name of the command.
        program: `sys.argv[0]`.

    Example:
        >>> program_name("train", "/usr/bin/mammo-train"), program_name("train", "train.py")
        ('mammo-train', 'python train.py')
    """
    path = Path(program)
    if _PACKAGE in path.resolve().parents:
        return f"python -m mammo.{command}"
    return f"python {path.name}" if path.suffix == ".py" else path.name


def command_line(command: str) -> str:
    """Return the usual call of a command, such as `python train.py` or `python -m mammo.evaluate`."""
    return f"python {command}.py" if command in ("train", "sweep") else f"python -m mammo.{command}"


def split_options(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split arguments into Hydra's options with their values, and overrides.

    Example:
        >>> split_options(["seed=1", "--cfg", "job", "optim.lr=0.1", "--info", "model=resnet50"])
        (['--cfg', 'job', '--info'], ['seed=1', 'optim.lr=0.1', 'model=resnet50'])
    """
    options: list[str] = []
    overrides: list[str] = []
    for before, argument in pairwise(["", *(each for each in arguments if each != "--")]):
        is_value = before in _WITH_VALUE or (before in ("-i", "--info") and argument in _INFO)
        (options if argument.startswith("-") or is_value else overrides).append(argument)
    return options, overrides


def config_folders(arguments: Sequence[str]) -> list[Path]:
    """Return the folders that the command composes from: that of `--config-dir`, and `conf`."""
    folders = []
    for argument, following in pairwise([*arguments, ""]):
        name, equals, value = argument.partition("=")
        if name in ("--config-dir", "-cd"):
            folders.append(Path(value if equals else following).absolute())
    return [*folders, CONF]


def may_set_mode(arguments: Sequence[str]) -> bool:
    """Return whether the arguments, a file of `conf` or one of another folder may set `hydra.mode`."""
    options, overrides = split_options(arguments)
    elsewhere = any(option.startswith(("--config", "-c")) for option in options)
    if elsewhere or any(key.lstrip("+").startswith(("hydra.mode", "hydra.searchpath")) for key in overrides):
        return True
    texts = (file.read_text(encoding="utf-8") for file in CONF.rglob("*.yaml"))
    return any(re.search(r"\bmode\b['\"]?\s*:", text) for text in texts)


def keys_of_command(command: str) -> list[str]:
    """Return the keys and groups at the top of the configuration of a command."""
    return [field.name for field in dataclasses.fields(COMMANDS[command])]


def groups_of(command: str) -> dict[str, str | None]:
    """Return the groups of a command with their default choices."""
    entries = yaml.safe_load((CONF / f"{command}.yaml").read_text())["defaults"]
    groups = {name: choice for entry in entries if isinstance(entry, dict) for name, choice in entry.items()}
    others = ("override ", "optional ")
    return {name: choice for name, choice in groups.items() if not name.startswith(others)}


def commands_with(key: str) -> list[str]:
    """Return the commands that have a key or group."""
    first = key.partition(".")[0].partition("/")[0]
    return [name for name in COMMANDS if first in keys_of_command(name) or first in groups_of(name)]


def by_key(overrides: Sequence[str]) -> dict[str, str]:
    """Map the key of each override to the override; of several with one key the last counts."""
    return {override.partition("=")[0].lstrip("+"): override for override in overrides}


def standard_overrides(command: str, overrides: Sequence[str]) -> list[str]:
    """Return overrides with `+GROUP=CHOICE` as `GROUP=CHOICE`, and `GROUP=null` as `~GROUP`."""
    groups = groups_of("train" if command == "sweep" else command) | groups_of(command)
    standard = []
    for override in overrides:
        key, equals, value = override.partition("=")
        if key.lstrip("+") in groups and equals:
            group = key.lstrip("+")
            override = f"~{group}" if value == "null" else f"{group}={value}"
        standard.append(override)
    return standard


def check_arguments(command: str, arguments: Sequence[str]) -> None:
    """Refuse options and overrides of Hydra that the command cannot take, or would ignore.

    Raises:
        ConfigError: an argument is refused.
    """
    options, overrides = split_options(arguments)
    try:
        given = read_options([*overrides, *options])
    except OptionError as error:
        raise ConfigError(f"{error}; --help lists the options") from error
    actions = [option for name, option in _ACTIONS.items() if getattr(given, name)]
    if len(actions) > 1:
        raise ConfigError(f"{' and '.join(actions)} exclude each other: give one of them")
    if given.resolve and given.cfg is None:
        raise ConfigError("--resolve: is for --cfg; give --cfg job --resolve")
    name = str(given.config_name or command).removesuffix(".yaml")
    if name != command:
        remedy = (
            command_line(name)
            if name in COMMANDS
            else f"--config-dir FOLDER experiment={name}, with your keys in FOLDER/experiment/{name}.yaml"
        )
        raise ConfigError(
            f"--config-name={name}: {command_line(command)} composes {command}.yaml; give {remedy}"
        )
    if given.config_path is not None:
        raise ConfigError(
            f"--config-path={given.config_path}: replaces the configuration of the package; give "
            "--config-dir FOLDER to add to it"
        )
    if len(config_folders(arguments)) > 2:
        raise ConfigError(
            "--config-dir: is given twice; give one folder, and the others as "
            "'hydra.searchpath=[file:///FOLDER,...]'"
        )
    if given.config_dir is not None and not Path(given.config_dir).is_dir():
        raise ConfigError(f"--config-dir={given.config_dir}: no such folder")
    if given.experimental_rerun is not None:
        raise ConfigError("--experimental-rerun: is not supported; give resume=RUN to train.py")
    if given.shell_completion:
        if not any(override.partition("=")[0] in ("install", "uninstall", "query") for override in overrides):
            raise ConfigError("-sc: give install=SHELL or uninstall=SHELL")
        return
    for argument, override in _parsed(overrides):
        _check_key(command, argument, override, multirun=given.multirun)


def _parsed(overrides: Sequence[str]) -> Iterator[tuple[str, Override]]:
    for argument in overrides:
        key = argument.partition("=")[0].lstrip("+~")
        if not key:
            raise ConfigError(f"{argument}: has no key; give KEY=VALUE")
        if "=" not in argument and not argument.startswith("~"):
            raise ConfigError(f"{argument}: is no option and no override; give KEY=VALUE")
        try:
            yield argument, OverridesParser.create().parse_override(argument)
        except HydraException as error:
            reason = str(error).partition("\n")[0].rstrip(".").removeprefix("LexerNoViableAltException: ")
            reason = "" if reason == argument else f" ({reason})"
            raise ConfigError(
                f"{argument}: is no valid value{reason}; quote what has special characters: '{key}=\"VALUE\"'"
            ) from error


def _check_key(command: str, argument: str, override: Override, *, multirun: bool) -> None:
    """Refuse a group of another command, and a key of Hydra that the command would ignore."""
    key, own = override.key_or_group, keys_of_command(command)
    groups = groups_of(command) | (groups_of("train") if command == "sweep" else {})
    if "/" not in key and key != "hydra" and (CONF / key).is_dir() and key not in groups:
        places = " or ".join(map(command_line, commands_with(key)))
        raise ConfigError(f"{argument}: {command_line(command)} has no group {key}; it is for {places}")
    if key == "data" and isinstance(override.value(), list):
        raise ConfigError(
            f"{argument}: is one choice; for several data sets give data=combined and data.sets.NAME=DIR for "
            "each of them"
        )
    if (CONF / key).is_dir() and isinstance(value := override.value(), list) and key not in _SEVERAL_CHOICES:
        one = value[0] if value else "CHOICE"
        raise ConfigError(f"{argument}: a group takes one choice; give {key}={one}, or {key}=A,B with -m")
    if key == "hydra/launcher" and override.value() in _LAUNCHERS_ELSEWHERE:
        raise ConfigError(
            f"{argument}: give hydra/launcher=local, which runs hydra.launcher.n jobs at the same time on "
            "this machine, or hydra/launcher=slurm"
        )
    if _OF_LIGHTNING.fullmatch(argument):
        return
    if key in ("hydra.run.dir", "hydra.run"):
        remedy = next(
            (f"give {name}=PATH" for name in ("run_dir", "sweep_dir", "output") if name in own),
            "leave it out",
        )
        raise ConfigError(f"{argument}: is not used; {remedy}")
    if key in ("hydra.job.name", "hydra.job.chdir"):
        remedy = "give name=NAME" if key.endswith("name") and "name" in own else "leave it out"
        raise ConfigError(f"{argument}: is not used; {remedy}")
    if command == "sweep":
        if key.startswith("hydra.sweep."):
            raise ConfigError(f"{argument}: is for train.py -m; give sweep_dir=PATH")
    elif command != "train":
        if (key == "hydra/launcher" and override.value() != "basic") or key.startswith("hydra.launcher"):
            raise ConfigError(f"{argument}: {command_line(command)} runs in this process; leave it out")
    elif (
        not multirun
        and key.startswith(("hydra.launcher.", "hydra.sweep.", "hydra.sweeper."))
        and key != "hydra.sweeper.params"
    ):
        raise ConfigError(f"{argument}: is for several jobs; give it with -m, or leave it out")
