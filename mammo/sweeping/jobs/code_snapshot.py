"""A copy of the code and the configuration, so that a queued job runs as it was submitted."""

import os
import shutil
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

import mammo
from mammo.config.checks import CONF
from mammo.config.composition import config_dirs
from mammo.errors import ConfigError, MammoError
from mammo.runs import FROZEN_COMMIT, git_commit
from mammo.runs.code_version import folder_digest

_PACKAGE = Path(mammo.__file__).resolve().parent
_MAX_OWN_FILES = 2000


def freeze(folder: Path) -> Path:
    """Copy code and configuration to `folder/code`, unless the copy exists.

    The copy contains this package, `conf` with the choices of the user's config folders, and in `own` the
    user's modules: the `.py` files of the working directory and of the packages in it (folders with an
    `__init__.py`), unless Python's library or an installed package has a module of that name.

    Args:
        folder: existing folder of a multirun or search.

    Returns:
        Absolute path of the copy.
    Raises:
        ConfigError: the folder cannot be written, or the working directory has too many modules.
    """
    code = folder / "code"
    draft = folder / f"code.{os.getpid()}.partial"
    try:
        if not code.exists():
            for source, name in ((_PACKAGE, "mammo"), (CONF, "conf")):
                # an installed package contains its own `conf`, which would take precedence over the copy
                shutil.copytree(source, draft / name, ignore=shutil.ignore_patterns("__pycache__", "conf"))
            for group in (path for path in (draft / "conf").iterdir() if path.is_dir()):
                for config_dir in config_dirs():
                    _add_choices(config_dir / group.name, group)
            _copy_own_modules(Path.cwd(), draft / "own")
            (draft / FROZEN_COMMIT).write_text(git_commit() or "")
            draft.rename(code)
    except OSError as error:
        if not code.exists():  # else another process was faster
            raise ConfigError(f"{folder}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return code.absolute()


def copy_own_choices(folder: Path) -> None:
    """Copy the choices of the user's config folders to a folder, which then is a config folder like them.

    Args:
        folder: folder of a search. With `--config-dir`, it gives the choices of the best trial.
    """
    for group in (path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra"):
        for config_dir in config_dirs():
            _add_choices(config_dir / group, folder / group)


def say_if_edited(code: Path) -> None:
    """Print to standard error if the copy differs from the code of this process, because it is older."""
    if folder_digest(code / "mammo") != folder_digest(_PACKAGE):
        print(f"the jobs run the code of their submission, {code}, not the edited code", file=sys.stderr)


def import_path(code: Path) -> str:
    """Return the entries of `PYTHONPATH` with which a process of Python imports the copy.

    They count only with `PYTHONSAFEPATH=1`: otherwise the working directory precedes them.

    Args:
        code: folder with the copy, from `freeze`.
    """
    return f"{code}{os.pathsep}{code / 'own'}"


def require_frozen(folder: Path) -> None:
    """Raise an error unless this process imports the copy of the code.

    Args:
        folder: folder of the multirun or search that the process works for.

    Raises:
        MammoError: this package was imported from elsewhere.
    """
    expected = folder / "code" / "mammo"
    if expected.resolve() != _PACKAGE:
        raise MammoError(
            f"the job imports mammo from {_PACKAGE}, not from {expected}, the copy of its submission; remove "
            "what changes PYTHONPATH or sys.path in its environment, such as a line of hydra.launcher.setup"
        )


def _add_choices(source: Path, group: Path) -> None:
    """Copy the files that the group does not have: in Hydra too, files of `conf` take precedence."""
    for file in source.rglob("*.yaml"):
        target = group / file.relative_to(source)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def _copy_own_modules(place: Path, target: Path) -> None:
    target.mkdir()
    for count, file in enumerate(_own_files(place)):
        if count == _MAX_OWN_FILES:
            raise ConfigError(
                f"{place}: has more than {_MAX_OWN_FILES} .py files in packages, too many to copy for the "
                "jobs; give the command in another folder"
            )
        copy = target / file.relative_to(place)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)


def _own_files(place: Path) -> Iterator[Path]:
    for path in sorted(place.iterdir()):
        if path.suffix == ".py" and path.is_file() and _is_own(path.stem, place):
            yield path
        elif (path / "__init__.py").is_file() and _is_own(path.name, place):
            yield from sorted(path.rglob("*.py"))


def _is_own(name: str, place: Path) -> bool:
    """Return whether a module of this name in the folder hides no other module."""
    elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != place.resolve()]
    return (
        name.isidentifier()
        and name not in {"mammo", *sys.stdlib_module_names}
        and PathFinder.find_spec(name, elsewhere) is None
    )
